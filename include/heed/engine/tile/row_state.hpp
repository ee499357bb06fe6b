// SPDX-License-Identifier: MIT
/// @file The state of a softmax over the keys that its row has met.
#pragma once

#include "heed/core/workspace.hpp"
#include "heed/score/stage.hpp"
#include "heed/simd/operand.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

namespace heed::inline HEED_ABI::detail {

/// The maximum of a row that has met no key: finite, and below every score that is visible.
template <class T>
inline constexpr T no_maximum = masked<T> / 2;
/// The log-sum-exp of such a row: beyond every score, so that no key has weight in it.
template <class T>
inline constexpr T no_lse = std::numeric_limits<T>::max() / 2;

/// Two states of a row, over disjoint keys, as one: the common maximum, and the factors that bring
/// what each has summed to it, zero where nothing of it counts.
template <class T>
struct Joint {
  T max, first, second;

  /// @param power  the exponential in the unit of the maxima.
  template <class Power>
  static Joint of(T first_max, T second_max, Power&& power) {
    const T max = std::max(first_max, second_max);
    return {max, power(first_max - max), power(second_max - max)};
  }
};

/// The states of a block of rows, in log2 units. A forward pass gathers out, sum and max; what
/// weighs keys again reads lse, and nothing else.
template <class T>
struct RowStates {
  Index columns = 0;
  T* out = nullptr;  ///< [rows][columns] Σ 2^(s − max) v
  T* sum = nullptr;  ///< [rows][width] Σ 2^(s − max), lane by lane
  T* max = nullptr;  ///< [rows] no score exceeds it by more than OnlineSoftmax::slack
  T* lse = nullptr;  ///< [rows] log2 Σ 2^s, no_lse where nothing was seen

  RowStates() = default;
  RowStates(Index rows, Index value_columns, Arena& arena)
      : columns(value_columns),
        out(arena.take<T>(rows * columns)),
        sum(arena.take<T>(rows * simd::width<T>)),
        max(arena.take<T>(rows)),
        lse(arena.take<T>(rows)) {}

  /// Of rows whose log-sum-exp is known: nothing is gathered.
  static RowStates known(Index rows, Arena& arena) {
    RowStates states;
    states.lse = arena.take<T>(rows);
    return states;
  }

  /// No key has been met.
  void clear(Index row) {
    std::fill_n(out + row * columns, columns, T(0));
    std::fill_n(sum + row * simd::width<T>, simd::width<T>, T(0));
    max[row] = no_maximum<T>;
  }
  /// No key but one of this score, which has no value.
  void clear(Index row, T score) {
    clear(row);
    max[row] = score;
    sum[row * simd::width<T>] = T(1);
  }

  /// Makes this the maximum of a row. Returns the factor of what was weighed before. What has faded
  /// is zero and never subnormal: the products to come would be slow.
  T rescale(Index row, T to) {
    const T factor = simd::fading(max[row] - to);
    max[row] = to;
    simd::Operand<T>::fade(out + row * columns, columns, factor);
    simd::Operand<T>::fade(sum + row * simd::width<T>, simd::width<T>, factor);
    return factor;
  }

  /// Adds what the same row gathered from other keys.
  void merge(Index row, const RowStates& other) {
    const auto joint =
        Joint<T>::of(max[row], other.max[row], [](T exponent) { return simd::fading(exponent); });
    const auto add = [&](T* to, const T* from, Index numbers) {
      for (Index d = 0; d < numbers; ++d) to[d] = joint.first * to[d] + joint.second * from[d];
    };
    add(out + row * columns, other.out + row * columns, columns);
    add(sum + row * simd::width<T>, other.sum + row * simd::width<T>, simd::width<T>);
    max[row] = joint.max;
  }

  /// Writes Σ w v; zero where no key was seen.
  void finish(Index row, T* to, Index numbers) const {
    const T sum_of_row = total(row), inverse = is_zero(sum_of_row) ? T(0) : 1 / sum_of_row;
    for (Index d = 0; d < numbers; ++d) to[d] = inverse * out[row * columns + d];
  }
  /// The log-sum-exp of what a row has gathered, in natural units; −∞ where no key was seen.
  T natural_lse(Index row) const {
    const T sum_of_row = total(row);
    return is_zero(sum_of_row) ? -std::numeric_limits<T>::infinity()
                               : (max[row] + std::log2(sum_of_row)) * simd::ln2<T>;
  }
  /// The same in log2 units, as know() takes it.
  T gathered_lse(Index row) const {
    const T sum_of_row = total(row);
    return is_zero(sum_of_row) ? no_lse<T> : max[row] + std::log2(sum_of_row);
  }

  /// From here on the log-sum-exp of a row is known.
  void know(Index row, T log2_lse) { lse[row] = log2_lse; }
  /// The same, as natural_lse() gave it.
  void know_natural(Index row, T natural) {
    const T log2_lse = natural * simd::log2e<T>;
    know(row, log2_lse > masked_below<T> ? log2_lse : no_lse<T>);
  }

 private:
  T total(Index row) const { return simd::reduce_add(simd::load(sum + row * simd::width<T>)); }
  /// A row that saw NaN is not empty; said in bits, which -ffast-math leaves alone.
  static bool is_zero(T x) { return std::bit_cast<simd::Int<T>>(x) == 0; }
};

}  // namespace heed::inline HEED_ABI::detail
