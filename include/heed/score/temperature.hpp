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
#include <optional>

namespace heed::inline HEED_ABI {

namespace detail {

/// τ is [B, heads, N], or [B, 1, N] where the heads share it.
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

  /// ∂L/∂τ, of τ's dimensions, overwritten by backward().
  QueryTemperature grad(std::type_identity_t<View<T, 3>> to) const { return {{}, tau, to}; }
  void clear_gradients() { detail::clear(gradient); }
  bool shares_gradients() const { return gradient && gradient.dim(1) == 1; }
  template <class U>
  void grad_query_factor(U grad, const Row& row) {
    detail::add_temperature(gradient, grad, row.batch, row.head, row.index);
  }

  void check(const Problem& p) const {
    detail::check_temperature("query_temperature", tau, p.batch, p.heads, p.queries);
    if (gradient)
      expect_dims("query_temperature's gradient", gradient.dims(), tau.dims(),
                  "the dimensions of tau");
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

  /// ∂L/∂τ, of τ's dimensions, overwritten by backward().
  KeyTemperature grad(std::type_identity_t<View<T, 3>> to) const { return {{}, tau, to}; }
  void clear_gradients() { detail::clear(gradient); }
  bool shares_gradients() const { return gradient && gradient.dim(1) == 1; }
  template <class U>
  void grad_key_factor(U grad, Index batch, Index key_head, Index key) {
    detail::add_temperature(gradient, grad, batch, key_head, key);
  }

  void check(const Problem& p) const {
    detail::check_temperature("key_temperature", tau, p.batch, p.key_heads, p.keys);
    if (gradient)
      expect_dims("key_temperature's gradient", gradient.dims(), tau.dims(),
                  "the dimensions of tau");
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

  /// ∂L/∂τ, of τ's dimensions, overwritten by backward().
  ValueTemperature grad(std::type_identity_t<View<T, 3>> to) const { return {{}, tau, to}; }
  void clear_gradients() { detail::clear(gradient); }
  bool shares_gradients() const { return gradient && gradient.dim(1) == 1; }
  template <class U>
  void grad_value_factor(U grad, Index batch, Index key_head, Index key) {
    detail::add_temperature(gradient, grad, batch, key_head, key);
  }

  void check(const Problem& p) const {
    detail::check_temperature("value_temperature", tau, p.batch, p.key_heads, p.keys);
    if (gradient)
      expect_dims("value_temperature's gradient", gradient.dims(), tau.dims(),
                  "the dimensions of tau");
  }
  template <class U>
  U value_factor(U x, Index batch, Index key_head, Index key) const {
    static_assert(std::is_same_v<T, U>, "heed: temperatures must have the number type of v");
    return x * detail::temperature_at(tau, batch, key_head, key);
  }
};

template <TensorLike<3> X>
auto query_temperature(X&& tau) {
  return QueryTemperature<ScalarOf<X>>{{}, View<const ScalarOf<X>, 3>(std::forward<X>(tau)), {}};
}
template <TensorLike<3> X>
auto key_temperature(X&& tau) {
  return KeyTemperature<ScalarOf<X>>{{}, View<const ScalarOf<X>, 3>(std::forward<X>(tau)), {}};
}
template <TensorLike<3> X>
auto value_temperature(X&& tau) {
  return ValueTemperature<ScalarOf<X>>{{}, View<const ScalarOf<X>, 3>(std::forward<X>(tau)), {}};
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
  /// g′(α).
  double slope() const {
    switch (kind) {
      case sigmoid:
        return value() * (1 - value());
      case gompertz:
        return -std::exp(alpha) * value();
      case linear:
        break;
    }
    return 1;
  }
};

/// τq(i) = 1 + g(α) log n, n = 1 + the position of row i in its sequence, computed as it is needed:
/// right also in decode, where the position is not the row's index.
struct PositionTemperature : StageOf<Rank::rescale> {
  double gain = 0, slope = 0;
  double* gradient = nullptr;

  /// ∂L/∂α, overwritten by backward().
  PositionTemperature grad(double* to) const { return {{}, gain, slope, to}; }
  bool shares_gradients() const { return gradient != nullptr; }
  void clear_gradients() {
    if (gradient) *gradient = 0;
  }
  template <class T>
  void grad_query_factor(T grad, const Row& row) {
    if (gradient) *gradient += double(grad) * slope * log_place(row);
  }

  template <class T>
  T query_factor(T x, const Row& row) const {
    return x * T(1 + gain * log_place(row));
  }

 private:
  /// log n; of a row before the first token, which sees nothing, any finite number.
  static double log_place(const Row& row) {
    return std::log(double(std::max<Index>(row.position - row.first_key, 0) + 1));
  }
};
inline PositionTemperature position_temperature(Gain gain) {
  return {{}, gain.value(), gain.slope()};
}

/// What temperatures() computes from.
struct TemperatureRule {
  std::optional<Gain> position;  ///< None: the position plays no part, τ = tanh f + 1.
  Index offset = 0;              ///< The position of token 0, as query_offset says it for a stage.
  /// [B, N] positions in place of offset + i, each counted from the first token of its sequence.
  View<const std::int64_t, 2> positions{};

  Index place(Index batch, Index token) const {
    return positions ? Index(positions(batch, token)) : offset + token;
  }
};

namespace detail {

inline void check_temperature_rule(const TemperatureRule& rule, Index batch, Index tokens) {
  if (rule.offset < 0) throw ValueError("temperatures: offset is ", rule.offset);
  if (!rule.positions) return;
  expect_dims("temperatures: positions", rule.positions.dims(), {batch, tokens},
              "one per token of tau");
  for (Index b = 0; b < batch; ++b)
    for (Index i = 0; i < tokens; ++i)
      if (rule.positions(b, i) < 0)
        throw ValueError("temperatures: position ", rule.positions(b, i), " is negative");
}

}  // namespace detail

/// tau[b, h, i] = tanh f[b, h, i] + 1 + g(α) log(offset + i + 1).
///
/// @param f    [B, heads or 1, N], or View{}: no token-aware part.
/// @param tau  as f, overwritten; may be f itself.
/// @throws ShapeError if the two differ, ValueError if the offset is negative.
template <class T>
void temperatures(std::type_identity_t<View<const T, 3>> f, const TemperatureRule& rule,
                  View<T, 3> tau) {
  if (f) expect_dims("tau", tau.dims(), f.dims(), "the dimensions of f");
  detail::check_temperature_rule(rule, tau.dim(0), tau.dim(2));
  const double gain = rule.position ? rule.position->value() : 0;
  for (Index b = 0; b < tau.dim(0); ++b)
    for (Index i = 0; i < tau.dim(2); ++i) {
      const double by_position = 1 + gain * std::log(double(rule.place(b, i) + 1));
      for (Index h = 0; h < tau.dim(1); ++h)
        tau(b, h, i) = T((f ? std::tanh(double(f(b, h, i))) : 0.) + by_position);
    }
}
template <TensorLike<3> F, TensorLike<3> X>
void temperatures(const F& f, const TemperatureRule& rule, X&& tau) {
  temperatures<ScalarOf<X>>(View<const ScalarOf<X>, 3>(f), rule, View<ScalarOf<X>, 3>(tau));
}

/// The adjoint of temperatures(): ∂L/∂f = ∂L/∂τ (1 − tanh² f), and returns
/// ∂L/∂α = g′(α) Σ ∂L/∂τ log n.
///
/// @param f       as given to temperatures(), or View{}.
/// @param grad_tau  as backward() gave it.
/// @param grad_f  as f, overwritten; View{} if f is.
/// @throws ShapeError if they differ.
template <TensorLike<3> F, TensorLike<3> G, TensorLike<3> GF>
double temperatures_backward(const F& f_, const TemperatureRule& rule, const G& grad_tau_,
                             GF&& grad_f_) {
  using T = ScalarOf<G>;
  const View<const T, 3> f(f_), grad_tau(grad_tau_);
  const View<T, 3> grad_f(grad_f_);
  detail::check_temperature_rule(rule, grad_tau.dim(0), grad_tau.dim(2));
  if (f) expect_dims("f", f.dims(), grad_tau.dims(), "the dimensions of grad_tau");
  if (f) expect_dims("grad_f", grad_f.dims(), f.dims(), "the dimensions of f");
  double grad_gain = 0;
  for (Index b = 0; b < grad_tau.dim(0); ++b)
    for (Index h = 0; h < grad_tau.dim(1); ++h)
      for (Index i = 0; i < grad_tau.dim(2); ++i) {
        const double grad = double(grad_tau(b, h, i));
        grad_gain += grad * std::log(double(rule.place(b, i) + 1));
        if (!f) continue;
        const double t = std::tanh(double(f(b, h, i)));
        grad_f(b, h, i) = T(grad * (1 - t * t));
      }
  return rule.position ? rule.position->slope() * grad_gain : 0;
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

/// The adjoint of token_feature(): grad_x += ∂L/∂f w (x has other uses, whose gradient is there
/// already), grad_w = Σ ∂L/∂f x.
///
/// @throws ShapeError if they do not fit.
template <TensorLike<4> X, TensorLike<2> W, TensorLike<3> F, TensorLike<4> GX, TensorLike<2> GW>
void token_feature_backward(const X& x_, const W& w_, const F& grad_f_, GX&& grad_x_,
                            GW&& grad_w_) {
  using T = ScalarOf<X>;
  const View<const T, 4> x(x_);
  const View<const T, 2> w(w_);
  const View<const T, 3> grad_f(grad_f_);
  const View<T, 4> grad_x(grad_x_);
  const View<T, 2> grad_w(grad_w_);
  expect_dims("w", w.dims(), {w.dim(0) == 1 ? 1 : x.dim(1), x.dim(3)}, "the heads and dim of x");
  expect_dims("grad_f", grad_f.dims(), {x.dim(0), x.dim(1), x.dim(2)}, "the tokens of x");
  expect_dims("grad_x", grad_x.dims(), x.dims(), "the dimensions of x");
  expect_dims("grad_w", grad_w.dims(), w.dims(), "the dimensions of w");
  for (Index h = 0; h < w.dim(0); ++h)
    for (Index d = 0; d < w.dim(1); ++d) grad_w(h, d) = T(0);
  for (Index b = 0; b < x.dim(0); ++b)
    for (Index h = 0; h < x.dim(1); ++h)
      for (Index i = 0; i < x.dim(2); ++i)
        for (Index d = 0; d < x.dim(3); ++d) {
          const Index row = w.dim(0) == 1 ? 0 : h;
          grad_x(b, h, i, d) += grad_f(b, h, i) * w(row, d);
          grad_w(row, d) += grad_f(b, h, i) * x(b, h, i, d);
        }
}

}  // namespace heed::inline HEED_ABI
