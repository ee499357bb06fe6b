// SPDX-License-Identifier: MIT
/// @file Token- and position-aware temperatures (Zhang et al.: Selective Attention: Enhancing
/// Transformer through Principled Context Control, arXiv:2411.12892).
///
///     s(i, j) = τq(i) τk(j) · q_i·k_j / √D,     o_i = Σ_j w(i, j) τv(j) v_j
///     τ(x, n) = tanh f(x) + 1 + g(α) log n,     n = 1, 2, … the position
///
/// They are inverse temperatures: the larger, the sharper.
#pragma once

#include "heed/score/stage.hpp"

#include <cmath>

namespace heed::inline HEED_ABI {

namespace detail {

/// τ is [B, heads, N], or [B, 1, N] where the heads share it.
template <class T>
T temperature_at(const View<const T, 3>& tau, Index batch, Index head, Index token) {
  return tau(batch, tau.dim(1) == 1 ? 0 : head, token);
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

  void check(const Problem& p) const {
    detail::check_temperature("query_temperature", tau, p.batch, p.heads, p.queries);
  }
  template <class U>
  U query_factor(U x, const Row& row) const {
    static_assert(std::is_same_v<T, U>, "heed: temperatures must have the number type of q");
    return x * detail::temperature_at(tau, row.batch, row.head, row.index);
  }
};

/// k_j ← τk(j) k_j.
/// @throws ShapeError unless tau is [B, G, Nk] or [B, 1, Nk].
template <class T>
struct KeyTemperature : StageOf<Rank::rescale> {
  static constexpr bool indexes_keys = true;

  View<const T, 3> tau;

  void check(const Problem& p) const {
    detail::check_temperature("key_temperature", tau, p.batch, p.key_heads, p.keys);
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
  static constexpr bool indexes_keys = true;

  View<const T, 3> tau;

  void check(const Problem& p) const {
    detail::check_temperature("value_temperature", tau, p.batch, p.key_heads, p.keys);
  }
  bool scales_values() const { return true; }
  template <class U>
  U value_factor(U x, Index batch, Index key_head, Index key) const {
    static_assert(std::is_same_v<T, U>, "heed: temperatures must have the number type of v");
    return x * detail::temperature_at(tau, batch, key_head, key);
  }
};

template <TensorLike<3> X>
auto query_temperature(const X& tau) {
  return QueryTemperature<ScalarOf<X>>{{}, View<const ScalarOf<X>, 3>(tau)};
}
template <TensorLike<3> X>
auto key_temperature(const X& tau) {
  return KeyTemperature<ScalarOf<X>>{{}, View<const ScalarOf<X>, 3>(tau)};
}
template <TensorLike<3> X>
auto value_temperature(const X& tau) {
  return ValueTemperature<ScalarOf<X>>{{}, View<const ScalarOf<X>, 3>(tau)};
}

/// g(α), the weight of log n.
struct Gain {
  enum Kind {
    sigmoid,   ///< 1 / (1 + e^(−α)), the paper's
    gompertz,  ///< exp(−e^α), the authors' code
    linear,    ///< α itself, the authors' code without a squashing function
  };
  Kind kind = sigmoid;
  double alpha = 0;

  double value() const {
    switch (kind) {
      case sigmoid:
        return 1 / (1 + std::exp(-alpha));
      case gompertz:
        return std::exp(-std::exp(alpha));
      case linear:
        break;
    }
    return alpha;
  }
};

/// τq(i) = 1 + g(α) log n, n = 1 + the position of row i, computed as it is needed: right also in
/// decode, where the position is not the row's index.
struct PositionTemperature : StageOf<Rank::rescale> {
  double gain = 0;

  template <class T>
  T query_factor(T x, const Row& row) const {
    return x * T(1 + gain * std::log(double(row.position + 1)));
  }
};
inline PositionTemperature position_temperature(Gain gain) {
  return {{}, gain.value()};
}

/// What temperatures() computes from.
struct TemperatureRule {
  std::optional<Gain> position;  ///< None: the position plays no part, τ = tanh f + 1.
  Index offset = 0;              ///< The position of token 0, as query_offset says it for a stage.
};

/// tau[b, h, i] = tanh f[b, h, i] + 1 + g(α) log(offset + i + 1).
///
/// @param f    [B, heads or 1, N], or empty: no token-aware part.
/// @param tau  as f, overwritten; may be f itself.
/// @throws ShapeError if the two differ, ValueError if the offset is negative.
template <class T>
void temperatures(std::type_identity_t<View<const T, 3>> f, const TemperatureRule& rule,
                  View<T, 3> tau) {
  if (f) expect_dims("tau", tau.dims(), f.dims(), "the dimensions of f");
  if (rule.offset < 0) throw ValueError("temperatures: offset is " + std::to_string(rule.offset));
  const double gain = rule.position ? rule.position->value() : 0;
  for (Index i = 0; i < tau.dim(2); ++i) {
    const double place = 1 + gain * std::log(double(rule.offset + i + 1));
    for (Index b = 0; b < tau.dim(0); ++b)
      for (Index h = 0; h < tau.dim(1); ++h)
        tau(b, h, i) = T((f ? std::tanh(double(f(b, h, i))) : 0.) + place);
  }
}
template <TensorLike<3> F, TensorLike<3> X>
void temperatures(const F& f, const TemperatureRule& rule, X&& tau) {
  temperatures<ScalarOf<X>>(View<const ScalarOf<X>, 3>(f), rule, View<ScalarOf<X>, 3>(tau));
}

/// f[b, h, i] = w[h] · x[b, h, i]: the weight-shared token feature, D numbers per head in place of
/// a network of its own.
///
/// @param x  [B, heads, N, D]: q for τq, k for τk, v for τv.
/// @param w  [heads, D], or [1, D] shared by the heads.
/// @param f  [B, heads, N], overwritten.
/// @throws ShapeError if they do not fit.
template <TensorLike<4> X, TensorLike<2> W, TensorLike<3> F>
void token_feature(const X& x_, const W& w_, F&& f_) {
  using T = ScalarOf<X>;
  const View<const T, 4> x(x_);
  const View<const T, 2> w(w_);
  const View<T, 3> f(f_);
  expect_dims("w", w.dims(), {w.dim(0) == 1 ? 1 : x.dim(1), x.dim(3)}, "the heads and dim of x");
  expect_dims("f", f.dims(), {x.dim(0), x.dim(1), x.dim(2)}, "the batch, heads and tokens of x");
  for (Index b = 0; b < x.dim(0); ++b)
    for (Index h = 0; h < x.dim(1); ++h)
      for (Index i = 0; i < x.dim(2); ++i) {
        T sum = 0;
        for (Index d = 0; d < x.dim(3); ++d) sum += w(w.dim(0) == 1 ? 0 : h, d) * x(b, h, i, d);
        f(b, h, i) = sum;
      }
}

}  // namespace heed::inline HEED_ABI
