// SPDX-License-Identifier: MIT
/// @file
/// Temperatures that follow from a row's position in its sequence, computed as they are needed.
#pragma once

#include "heed/score/temperature.hpp"

#include <cmath>

namespace heed::inline HEED_ABI {

namespace detail {

/// A row's position in its sequence; 0 for rows before it, which see nothing.
inline Index place_in_sequence(const Row& row) {
  return std::max<Index>(row.position - row.first_key, 0);
}
/// log n, n = 1, 2, … in the sequence.
inline double log_place(const Row& row) {
  return std::log(double(place_in_sequence(row) + 1));
}

}  // namespace detail

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
inline PositionTemperature position_temperature(Gain gain) {
  return {{}, gain.value(), gain.slope()};
}

/// A temperature that rises in steps, as Llama 4 and Ministral 3 have it:
///
///     q_i ← (1 + β log(1 + ⌊p / p₀⌋)) q_i,     p = 0, 1, … the position of row i in its sequence
///
/// @throws ValueError unless p₀ ≥ 1 and β lies in [−1e30, 1e30].
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
/// @param beta  β, 0.1 in Llama 4.
/// @param step  p₀, 8192 in Llama 4, 16384 in Ministral 3.
constexpr StaircaseTemperature staircase_temperature(double beta, Index step) {
  return {{}, beta, step};
}

/// Scalable softmax (Nakanishi: Scalable-Softmax Is Superior for Attention, arXiv:2501.19399):
/// weights do not flatten as a sequence grows,
///
///     s(i, j) ← s_h log n · s(i, j),     n = 1, 2, … the position of row i in its sequence
///
/// @throws ShapeError if there is not one s per head.
template <class T>
struct ScalableSoftmax : StageOf<Rank::rescale> {
  View<const T, 1> scale;
  View<T, 1> gradient{};

  /// ∂L/∂s_h, [H], overwritten by backward().
  ScalableSoftmax grad(std::type_identity_t<View<T, 1>> to) const { return {{}, scale, to}; }

  void check(const Problem& p) const {
    expect_dims("scalable_softmax", scale.dims(), {p.heads}, "one number per head");
    detail::reads(p.tensors, "scalable_softmax", scale);
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
template <TensorLike<1> X>
auto scalable_softmax(X&& scale) {
  using T = ScalarOf<X>;
  return ScalableSoftmax<T>{{}, View<const T, 1>(std::forward<X>(scale)), {}};
}

}  // namespace heed::inline HEED_ABI
