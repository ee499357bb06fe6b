// SPDX-License-Identifier: MIT
/// @file
/// The running softmax state of a row.
#pragma once

#include "heed/core/workspace.hpp"
#include "heed/score/stage.hpp"
#include "heed/simd/operand.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

namespace heed::inline HEED_ABI::detail {

/// The maximum of a row that has seen no key: finite, and below every visible score.
template <class T>
inline constexpr T no_maximum = masked<T> / 2;
/// The log-sum-exp of such a row: above every score, so that every weight is zero.
template <class T>
inline constexpr T no_lse = std::numeric_limits<T>::max() / 2;

/// Merges two states of a row over disjoint keys: the common maximum, and the correction factors
/// that rescale both sums to it. A factor is zero if its side is negligible.
template <class T>
struct MergeFactors {
  T max, first, second;

  /// @param power  the exponential to the base of the maxima's unit: 2^x for log2 units.
  template <class Power>
  static MergeFactors of(T first_max, T second_max, Power&& power) {
    const T max = std::max(first_max, second_max);
    return {max, power(first_max - max), power(second_max - max)};
  }
};

/// The softmax states of a block of rows, in log2 units. A forward pass accumulates out, sum and
/// max. A pass that recomputes the weights reads only lse.
template <class T>
struct RowStates {
  Index columns = 0;
  T* out = nullptr;  ///< [rows][columns] Σ 2^(s − max) v
  T* sum = nullptr;  ///< [rows][width] Σ 2^(s − max), partial sums per lane
  T* max = nullptr;  ///< [rows] running maximum, at most OnlineSoftmax::slack too small
  T* lse = nullptr;  ///< [rows] log2 Σ 2^s; no_lse for rows that see no key

  RowStates() = default;
  RowStates(Index rows, Index value_columns, Arena& arena)
      : columns(value_columns),
        out(arena.take<T>(rows * columns)),
        sum(arena.take<T>(rows * simd::width<T>)),
        max(arena.take<T>(rows)),
        lse(arena.take<T>(rows)) {}

  /// States of rows whose log-sum-exp is known. They have no accumulators.
  static RowStates known(Index rows, Arena& arena) {
    RowStates states;
    states.lse = arena.take<T>(rows);
    return states;
  }

  /// Resets a row to the state of no key.
  void reset(Index row) {
    std::fill_n(out + row * columns, columns, T(0));
    std::fill_n(sum + row * simd::width<T>, simd::width<T>, T(0));
    max[row] = no_maximum<T>;
  }
  /// Resets a row to the state of one key with this score and without a value: a sink.
  void reset(Index row, T score) {
    reset(row);
    max[row] = score;
    sum[row * simd::width<T>] = T(1);
  }

  /// Sets the maximum of a row and rescales its sums. Returns the correction factor, by which
  /// earlier weights must be multiplied too. Very small results become zero, because arithmetic on
  /// subnormal numbers is slow.
  T rescale(Index row, T to) {
    const T factor = simd::correction_factor(max[row] - to);
    max[row] = to;
    simd::Operand<T>::rescale_sums(out + row * columns, columns, factor);
    simd::Operand<T>::rescale_sums(sum + row * simd::width<T>, simd::width<T>, factor);
    return factor;
  }

  /// Merges the state of the same row over other keys.
  void merge(Index row, const RowStates& other) {
    const auto factors = MergeFactors<T>::of(
        max[row], other.max[row], [](T exponent) { return simd::correction_factor(exponent); });
    const auto add = [&](T* to, const T* from, Index numbers) {
      for (Index d = 0; d < numbers; ++d) to[d] = factors.first * to[d] + factors.second * from[d];
    };
    add(out + row * columns, other.out + row * columns, columns);
    add(sum + row * simd::width<T>, other.sum + row * simd::width<T>, simd::width<T>);
    max[row] = factors.max;
  }

  /// Writes Σ w v; zero if the row saw no key.
  void finish(Index row, T* to, Index numbers) const {
    const T sum_of_row = total(row), inverse = is_zero(sum_of_row) ? T(0) : 1 / sum_of_row;
    for (Index d = 0; d < numbers; ++d) to[d] = inverse * out[row * columns + d];
  }
  /// The log-sum-exp of the accumulated keys in natural units; −∞ if the row saw no key.
  T natural_lse(Index row) const {
    const T sum_of_row = total(row);
    return is_zero(sum_of_row) ? -std::numeric_limits<T>::infinity()
                               : (max[row] + std::log2(sum_of_row)) * simd::ln2<T>;
  }
  /// The same in log2 units, as set_lse() takes it; no_lse if the row saw no key.
  T log2_lse(Index row) const {
    const T sum_of_row = total(row);
    return is_zero(sum_of_row) ? no_lse<T> : max[row] + std::log2(sum_of_row);
  }

  /// Sets the log-sum-exp of a row, in log2 units.
  void set_lse(Index row, T log2) { lse[row] = log2; }
  /// Sets the log-sum-exp of a row from the result of natural_lse().
  void set_natural_lse(Index row, T natural) {
    const T log2 = natural * simd::log2e<T>;
    set_lse(row, log2 > masked_below<T> ? log2 : no_lse<T>);
  }

 private:
  T total(Index row) const { return simd::reduce_add(simd::load(sum + row * simd::width<T>)); }
  /// Tests the bits, because -ffast-math may assume that there is no NaN. A sum of NaN is not zero:
  /// such a row has seen a key.
  static bool is_zero(T x) { return std::bit_cast<simd::Int<T>>(x) == 0; }
};

}  // namespace heed::inline HEED_ABI::detail
