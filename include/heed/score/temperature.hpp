// SPDX-License-Identifier: MIT
/// @file
/// Temperatures of queries, keys and values (Zhang et al.: Selective Attention: Enhancing
/// Transformer through Principled Context Control, arXiv:2411.12892).
///
///     s(i, j) = τq(i) τk(j) · q_i·k_j / √D,     o_i = Σ_j w(i, j) τv(j) v_j
///
/// They are inverse temperatures: a larger one sharpens. temperatures() computes them from token
/// features and positions. position_temperature() computes those of positions on the fly.
#pragma once

#include "heed/score/stage.hpp"

namespace heed::inline HEED_ABI {

namespace detail {

/// τ is [B, heads, N], or [B, 1, N] if the heads share it.
template <class T>
T temperature_at(const View<const T, 3>& tau, Index batch, Index head, Index token) {
  return tau(batch, tau.dim(1) == 1 ? 0 : head, token);
}

template <class T>
void clear(const View<T, 3>& x) {
  if (!x) return;
  for (Index b = 0; b < x.dim(0); ++b)
    for (Index h = 0; h < x.dim(1); ++h)
      for (Index n = 0; n < x.dim(2); ++n) x(b, h, n) = T(0);
}

template <class T>
void add_temperature(const View<T, 3>& gradient, T grad, Index batch, Index head, Index token) {
  if (gradient) gradient(batch, gradient.dim(1) == 1 ? 0 : head, token) += grad;
}

template <class T>
void check_temperature(const char* what, const View<const T, 3>& tau, Index batch, Index heads,
                       Index tokens) {
  const Dims<3> wanted{batch, tau.dim(1) == 1 ? 1 : heads, tokens};
  expect_dims(what, tau.dims(), wanted, "one per token, per head or shared by the heads");
}

}  // namespace detail

/// q_i ← τq(i) q_i.
/// @throws ShapeError unless tau is [B, H, Nq] or [B, 1, Nq].
template <class T>
struct QueryTemperature : StageOf<Rank::rescale> {
  View<const T, 3> tau;
  View<T, 3> gradient{};

  /// Where backward() writes ∂L/∂τ, of the dimensions of τ; overwritten.
  QueryTemperature grad(std::type_identity_t<View<T, 3>> to) const { return {{}, tau, to}; }
  void clear_gradients() { detail::clear(gradient); }
  bool shares_gradients() const { return gradient && gradient.dim(1) == 1; }
  template <class U>
  void grad_query_factor(U grad, const Row& row) {
    detail::add_temperature(gradient, grad, row.batch, row.head, row.index);
  }

  void check(const Problem& p) const {
    detail::check_temperature("query_temperature", tau, p.batch, p.heads, p.queries);
    detail::reads(p.tensors, "query_temperature", tau);
    if (!gradient) return;
    expect_dims("query_temperature's gradient", gradient.dims(), tau.dims(),
                "the dimensions of tau");
    if (p.backward) detail::writes(p.tensors, "query_temperature's gradient", gradient);
  }
  template <class U>
  U query_factor(U x, const Row& row) const {
    static_assert(std::is_same_v<T, U>, "heed: temperatures must have the number type of out");
    return x * detail::temperature_at(tau, row.batch, row.head, row.index);
  }
};

/// k_j ← τk(j) k_j.
/// @throws ShapeError unless tau is [B, G, Nk] or [B, 1, Nk].
template <class T>
struct KeyTemperature : StageOf<Rank::rescale> {
  View<const T, 3> tau;
  View<T, 3> gradient{};

  /// Where backward() writes ∂L/∂τ, of the dimensions of τ; overwritten.
  KeyTemperature grad(std::type_identity_t<View<T, 3>> to) const { return {{}, tau, to}; }
  void clear_gradients() { detail::clear(gradient); }
  bool shares_gradients() const { return gradient && gradient.dim(1) == 1; }
  template <class U>
  void grad_key_factor(U grad, Index batch, Index key_head, Index key) {
    detail::add_temperature(gradient, grad, batch, key_head, key);
  }

  void check(const Problem& p) const {
    detail::check_temperature("key_temperature", tau, p.batch, p.key_heads, p.keys);
    detail::reads(p.tensors, "key_temperature", tau);
    if (!gradient) return;
    expect_dims("key_temperature's gradient", gradient.dims(), tau.dims(), "the dimensions of tau");
    if (p.backward) detail::writes(p.tensors, "key_temperature's gradient", gradient);
  }
  template <class U>
  U key_factor(U x, Index batch, Index key_head, Index key) const {
    static_assert(std::is_same_v<T, U>, "heed: temperatures must have the number type of k");
    return x * detail::temperature_at(tau, batch, key_head, key);
  }
};

/// v_j ← τv(j) v_j.
/// @throws ShapeError unless tau is [B, G, Nk] or [B, 1, Nk].
template <class T>
struct ValueTemperature : StageOf<Rank::rescale> {
  View<const T, 3> tau;
  View<T, 3> gradient{};

  /// Where backward() writes ∂L/∂τ, of the dimensions of τ; overwritten.
  ValueTemperature grad(std::type_identity_t<View<T, 3>> to) const { return {{}, tau, to}; }
  void clear_gradients() { detail::clear(gradient); }
  bool shares_gradients() const { return gradient && gradient.dim(1) == 1; }
  template <class U>
  void grad_value_factor(U grad, Index batch, Index key_head, Index key) {
    detail::add_temperature(gradient, grad, batch, key_head, key);
  }

  void check(const Problem& p) const {
    detail::check_temperature("value_temperature", tau, p.batch, p.key_heads, p.keys);
    detail::reads(p.tensors, "value_temperature", tau);
    if (!gradient) return;
    expect_dims("value_temperature's gradient", gradient.dims(), tau.dims(),
                "the dimensions of tau");
    if (p.backward) detail::writes(p.tensors, "value_temperature's gradient", gradient);
  }
  template <class U>
  U value_factor(U x, Index batch, Index key_head, Index key) const {
    static_assert(std::is_same_v<T, U>, "heed: temperatures must have the number type of v");
    return x * detail::temperature_at(tau, batch, key_head, key);
  }
};

/// Multiplies each query row by its τ: [B, H, Nq], or [B, 1, Nq] for all heads. ShapeError for
/// other shapes.
template <TensorLike<3> X>
auto query_temperature(X&& tau) {
  return QueryTemperature<ScalarOf<X>>{{}, View<const ScalarOf<X>, 3>(std::forward<X>(tau)), {}};
}
/// Multiplies each key by its τ: [B, G, Nk], or [B, 1, Nk] for all key heads. ShapeError for other
/// shapes.
template <TensorLike<3> X>
auto key_temperature(X&& tau) {
  return KeyTemperature<ScalarOf<X>>{{}, View<const ScalarOf<X>, 3>(std::forward<X>(tau)), {}};
}
/// Multiplies each value by its τ: [B, G, Nk], or [B, 1, Nk] for all key heads. ShapeError for
/// other shapes.
template <TensorLike<3> X>
auto value_temperature(X&& tau) {
  return ValueTemperature<ScalarOf<X>>{{}, View<const ScalarOf<X>, 3>(std::forward<X>(tau)), {}};
}

}  // namespace heed::inline HEED_ABI
