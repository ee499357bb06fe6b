// SPDX-License-Identifier: MIT
/// @file
/// Temperatures from token features and positions (arXiv:2411.12892):
///
///     τ(x, n) = tanh f(x) + 1 + g(α) log n,     n = 1, 2, … the position
#pragma once

#include "heed/score/position_temperature.hpp"

#include <optional>

namespace heed::inline HEED_ABI {

/// How temperatures() uses positions.
struct TemperatureRule {
  std::optional<Gain> position{};  ///< None: τ = tanh f + 1.
  Index offset = 0;                ///< Position of token 0, see query_offset; not negative.
  /// [B, N] positions in place of offset + i, counted from the first token of each sequence.
  View<const std::int64_t, 2> positions{};

  Index place(Index batch, Index token) const {
    return positions ? Index(positions(batch, token)) : offset + token;
  }
};

namespace detail {

inline void check_temperature_rule(const TemperatureRule& rule, Index batch, Index tokens) {
  if (rule.offset < 0) throw ValueError("temperatures: offset is ", rule.offset);
  expect_positions("temperatures: offset", rule.offset, tokens);
  if (rule.position) {
    expect_within("temperatures: g(alpha)", rule.position->value(), -1e30, 1e30);
    expect_within("temperatures: the slope of g(alpha)", rule.position->slope(), -1e30, 1e30);
  }
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
/// @param f    [B, heads or 1, N], or View{}: τ depends on positions only.
/// @param tau  as f, overwritten; may be f itself.
/// @throws ShapeError if shapes differ; ValueError if the offset or a position is negative, or if
/// g(α) is beyond ±1e30. Nothing was written then.
/// @note B · heads · N tanh and B · N log.
template <class T>
void temperatures(std::type_identity_t<View<const T, 3>> f, const TemperatureRule& rule,
                  View<T, 3> tau) {
  if (f) expect_dims("tau", tau.dims(), f.dims(), "the dimensions of f");
  detail::CallTensors tensors;
  tensors.reads("f", f), tensors.reads("positions", rule.positions);
  tensors.writes("tau", tau, {"f"});
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

/// The adjoint of temperatures(). Writes ∂L/∂f = ∂L/∂τ (1 − tanh² f), and returns ∂L/∂α = g′(α) Σ
/// ∂L/∂τ log n.
///
/// @param f_         as given to temperatures(), or View{}.
/// @param grad_tau_  as written by backward().
/// @param grad_f_    as f, overwritten; View{} if f is.
/// @throws ShapeError if shapes differ; ValueError as temperatures().
template <TensorLike<3> F, TensorLike<3> G, TensorLike<3> GF>
double temperatures_backward(const F& f_, const TemperatureRule& rule, const G& grad_tau_,
                             GF&& grad_f_) {
  using T = ScalarOf<G>;
  const View<const T, 3> f(f_), grad_tau(grad_tau_);
  const View<T, 3> grad_f(grad_f_);
  if (f) expect_dims("f", f.dims(), grad_tau.dims(), "the dimensions of grad_tau");
  if (f) expect_dims("grad_f", grad_f.dims(), f.dims(), "the dimensions of f");
  detail::CallTensors tensors;
  tensors.reads("f", f), tensors.reads("grad_tau", grad_tau);
  if (f) tensors.writes("grad_f", grad_f, {"f", "grad_tau"});
  detail::check_temperature_rule(rule, grad_tau.dim(0), grad_tau.dim(2));
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

/// The input of a token feature.
enum class Feature {
  linear,  ///< x itself
  gelu,    ///< GELU(x) = x Φ(x), Φ the normal distribution function, elementwise
};

namespace detail {

inline double gelu(double x) {
  return x / 2 * std::erfc(-x / std::sqrt(2.));
}
/// Its derivative, Φ(x) + x φ(x).
inline double gelu_slope(double x) {
  return std::erfc(-x / std::sqrt(2.)) / 2 +
         x * std::exp(-x * x / 2) / std::sqrt(2 * 3.141592653589793);
}

}  // namespace detail

/// f[b, h, i] = w[h] · x[b, h, i], or w[h] · GELU(x[b, h, i]): the weight-shared token feature, D
/// weights per head in place of a separate network. x is a projection that exists already. With
/// GELU this is the paper's two-layer network w · GELU(W x) with a shared first layer.
///
/// @param x_  [B, heads, N, D]: q for τq, k for τk, v for τv.
/// @param w_  [heads, D], or [1, D] shared by the heads.
/// @param f_  [B, heads, N], overwritten.
/// @throws ShapeError if the shapes do not fit.
/// @note B · heads · N · D multiply-adds.
template <TensorLike<4> X, TensorLike<2> W, TensorLike<3> F>
void token_feature(const X& x_, const W& w_, F&& f_, Feature feature = Feature::linear) {
  using T = ScalarOf<X>;
  const View<const T, 4> x(x_);
  const View<const T, 2> w(w_);
  const View<T, 3> f(f_);
  expect_dims("w", w.dims(), {w.dim(0) == 1 ? 1 : x.dim(1), x.dim(3)}, "the heads and dim of x");
  expect_dims("f", f.dims(), {x.dim(0), x.dim(1), x.dim(2)}, "the batch, heads and tokens of x");
  detail::CallTensors tensors;
  tensors.reads("x", x), tensors.reads("w", w), tensors.writes("f", f);
  for (Index b = 0; b < x.dim(0); ++b)
    for (Index h = 0; h < x.dim(1); ++h)
      for (Index i = 0; i < x.dim(2); ++i) {
        double sum = 0;
        for (Index d = 0; d < x.dim(3); ++d) {
          const double z = double(x(b, h, i, d));
          sum += double(w(w.dim(0) == 1 ? 0 : h, d)) *
                 (feature == Feature::gelu ? detail::gelu(z) : z);
        }
        f(b, h, i) = T(sum);
      }
}

/// The adjoint of token_feature(). grad_x += ∂L/∂f w, added because x has other uses; grad_w = Σ
/// ∂L/∂f x. With GELU: grad_x += ∂L/∂f w GELU′(x), grad_w = Σ ∂L/∂f GELU(x).
///
/// @throws ShapeError if the shapes do not fit.
template <TensorLike<4> X, TensorLike<2> W, TensorLike<3> F, TensorLike<4> GX, TensorLike<2> GW>
void token_feature_backward(const X& x_, const W& w_, const F& grad_f_, GX&& grad_x_, GW&& grad_w_,
                            Feature feature = Feature::linear) {
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
  detail::CallTensors tensors;
  tensors.reads("x", x), tensors.reads("w", w), tensors.reads("grad_f", grad_f);
  tensors.writes("grad_x", grad_x), tensors.writes("grad_w", grad_w);
  for (Index h = 0; h < w.dim(0); ++h)
    for (Index d = 0; d < w.dim(1); ++d) grad_w(h, d) = T(0);
  for (Index b = 0; b < x.dim(0); ++b)
    for (Index h = 0; h < x.dim(1); ++h)
      for (Index i = 0; i < x.dim(2); ++i)
        for (Index d = 0; d < x.dim(3); ++d) {
          const Index row = w.dim(0) == 1 ? 0 : h;
          const double z = double(x(b, h, i, d));
          const bool curved = feature == Feature::gelu;
          grad_x(b, h, i, d) += grad_f(b, h, i) * w(row, d) * T(curved ? detail::gelu_slope(z) : 1);
          grad_w(row, d) += grad_f(b, h, i) * T(curved ? detail::gelu(z) : z);
        }
}

}  // namespace heed::inline HEED_ABI
