// SPDX-License-Identifier: MIT
/// @file
/// Temperatures computed on the fly from the position of a row in its sequence.
#pragma once

#include "heed/score/temperature.hpp"

#include <cmath>

namespace heed::inline HEED_ABI {

namespace detail {

/// The position of a row in its sequence; 0 for rows before it, which see no key.
inline Index place_in_sequence(const Row& row) {
  return std::max<Index>(row.position - row.first_key, 0);
}
/// log n for the n-th token of the sequence, n = 1, 2, …
inline double log_place(const Row& row) {
  return std::log(double(place_in_sequence(row) + 1));
}

}  // namespace detail

/// g(α), the factor of log n in position_temperature.
struct Gain {
  enum Kind {
    sigmoid,   ///< 1 / (1 + e^(−α)), the paper's
    gompertz,  ///< exp(−e^α), from the authors' code
    linear,    ///< α itself, from the authors' code without a squashing function
  };
  Kind kind = sigmoid;
  double alpha = 0;

  /// g(α).
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

/// τq(i) = 1 + g(α) log n, where row i is token n = 1, 2, … of its sequence. Also correct in
/// decode, where the position is not the row index.
///
/// @throws ValueError if g(α) or its slope is beyond ±1e30.
struct PositionTemperature : StageOf<Rank::rescale> {
  double gain = 0, slope = 0;
  double* gradient = nullptr;

  /// Where backward() writes ∂L/∂α; overwritten.
  PositionTemperature grad(double* to) const { return {{}, gain, slope, to}; }
  void check(const Problem& p) const {
    detail::expect_within("position_temperature: g(alpha)", gain, -1e30, 1e30);
    detail::expect_within("position_temperature: the slope of g(alpha)", slope, -1e30, 1e30);
    if (gradient && p.backward)
      detail::writes(p.tensors, "position_temperature's gradient",
                     View<double, 1>(gradient, {Index(1)}));
  }
  bool shares_gradients() const { return gradient != nullptr; }
  void clear_gradients() {
    if (gradient) *gradient = 0;
  }
  template <class T>
  void grad_query_factor(T grad, const Row& row) {
    if (gradient) *gradient += double(grad) * slope * detail::log_place(row);
  }

  template <class T>
  T query_factor(T x, const Row& row) const {
    return x * T(1 + gain * detail::log_place(row));
  }
};
/// Multiplies q by 1 + g(α) log n for token n = 1, 2, … of its sequence. ValueError if g(α) or its
/// slope is beyond ±1e30.
inline PositionTemperature position_temperature(Gain gain) {
  return {{}, gain.value(), gain.slope()};
}

/// A temperature that rises in steps, as in Llama 4 and Ministral 3:
///
///     q_i ← (1 + β log(1 + ⌊p / p₀⌋)) q_i,     p = 0, 1, … the position of row i in its sequence
///
/// @throws ValueError unless p₀ ≥ 1 and β is in [−1e30, 1e30].
struct StaircaseTemperature : StageOf<Rank::rescale> {
  double beta = 0;
  Index step = 1;

  void check(const Problem&) const {
    if (step < 1) throw ValueError("staircase_temperature: step is ", step, ", must be at least 1");
    detail::expect_within("staircase_temperature: beta", beta, -1e30, 1e30);
  }
  template <class T>
  T query_factor(T x, const Row& row) const {
    return x * T(1 + beta * std::log1p(double(detail::place_in_sequence(row) / step)));
  }
};
/// Multiplies q by 1 + β log(1 + ⌊p / p₀⌋) at position p of its sequence; see StaircaseTemperature.
///
/// @param beta  β, 0.1 in Llama 4.
/// @param step  p₀, 8192 in Llama 4, 16384 in Ministral 3.
constexpr StaircaseTemperature staircase_temperature(double beta, Index step) {
  return {{}, beta, step};
}

/// Scalable softmax (Nakanishi: Scalable-Softmax Is Superior for Attention, arXiv:2501.19399). It
/// keeps weights from flattening as a sequence grows:
///
///     s(i, j) ← s_h log n · s(i, j),     n = 1, 2, … for the n-th token of the sequence
///
/// @throws ShapeError if there is not one s per head; ValueError if one is beyond ±1e30.
template <class T>
struct ScalableSoftmax : StageOf<Rank::rescale> {
  View<const T, 1> scale;
  View<T, 1> gradient{};

  /// Where backward() writes ∂L/∂s_h, [H]; overwritten.
  ScalableSoftmax grad(std::type_identity_t<View<T, 1>> to) const { return {{}, scale, to}; }

  void check(const Problem& p) const {
    expect_dims("scalable_softmax", scale.dims(), {p.heads}, "one number per head");
    detail::reads(p.tensors, "scalable_softmax", scale);
    for (Index h = 0; h < p.heads; ++h)
      detail::expect_within("a number of scalable_softmax", double(scale(h)), -1e30, 1e30);
    if (!gradient) return;
    expect_dims("scalable_softmax's gradient", gradient.dims(), {p.heads}, "one number per head");
    if (p.backward) detail::writes(p.tensors, "scalable_softmax's gradient", gradient);
  }
  template <class U>
  U query_factor(U x, const Row& row) const {
    static_assert(std::is_same_v<T, U>, "heed: scalable_softmax must have the number type of out");
    return x * scale(row.head) * T(detail::log_place(row));
  }
  bool shares_gradients() const { return bool(gradient); }
  void clear_gradients() {
    for (Index h = 0; h < gradient.dim(0); ++h) gradient(h) = T(0);
  }
  template <class U>
  void grad_query_factor(U grad, const Row& row) {
    if (gradient) gradient(row.head) += grad * T(detail::log_place(row));
  }
};
/// Multiplies the scores of token n of its sequence by scale[h] · log n; `scale` is [H]. ShapeError
/// for other shapes.
template <TensorLike<1> X>
auto scalable_softmax(X&& scale) {
  using T = ScalarOf<X>;
  return ScalableSoftmax<T>{{}, View<const T, 1>(std::forward<X>(scale)), {}};
}

}  // namespace heed::inline HEED_ABI
