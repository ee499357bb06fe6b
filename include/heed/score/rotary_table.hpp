// SPDX-License-Identifier: MIT
/// @file
/// Cosines and sines of rotary position embedding, computed once for many calls.
#pragma once

#include "heed/core/vector.hpp"
#include "heed/score/rotary_frequencies.hpp"
#include "heed/simd/batch.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <type_traits>

namespace heed::inline HEED_ABI {

namespace detail {

/// Throws unless `dims`, the number of elements that are rotated, is even and not negative.
inline void expect_turning(Index dims) {
  if (dims < 0 || dims % 2 != 0)
    throw ValueError("rotary: ", dims, " numbers are to turn; they must be even in number");
}

/// The smallest and the largest of the positions added.
struct PositionRange {
  std::int64_t first = std::numeric_limits<std::int64_t>::max(),
               last = std::numeric_limits<std::int64_t>::min();

  bool empty() const { return last < first; }
  void add(std::int64_t position) {
    first = std::min(first, position), last = std::max(last, position);
  }
  /// Adds start, start + 1, …, `count` positions.
  void add_run(std::int64_t start, Index count) {
    std::int64_t end = 0;
    if (count <= 0) return;
    if (__builtin_add_overflow(start, std::int64_t(count - 1), &end))
      throw ValueError("rotary: ", count, " tokens from position ", start,
                       " on go beyond what 64 bits hold");
    add(start), add(end);
  }
  /// Throws if a position is beyond ±2^53, from where on a double cannot hold every integer.
  void expect_computable() const {
    constexpr std::int64_t furthest = std::int64_t(1) << 53;
    if (!empty() && (first < -furthest || last > furthest))
      throw ValueError("rotary: positions are ", first, " to ", last,
                       ", must lie between -2^53 and 2^53");
  }
};

/// Cosines and sines of a position for all pairs, in double.
///
/// A position is 64 f + n with n < 64, and n is a sum of powers of two. The cosines and sines of 64
/// f and of 32, 16, 8, 4, 2 and 1 are computed from their angles. All others follow by the addition
/// theorems:
///
///     cos(a + b) = cos a cos b − sin a sin b,   sin(a + b) = sin a cos b + cos a sin b
///
/// One cosine and sine per position and pair would cost as much as short attention. A result takes
/// at most six such steps, so its error is about 1e-15, apart from the rounding of the angle. It
/// depends on the position alone, bit for bit, not on the call or on earlier positions. Everything
/// is computed on first use, so that a single token is cheap.
class RotaryAngles {
 public:
  /// @throws what RotaryFrequencies throws, and ValueError unless dims is even and not negative.
  RotaryAngles(Index dims, const RotaryFrequencies& frequencies) {
    expect_turning(dims);
    half_ = dims / 2;
    // Whole registers: lanes past the last pair are computed and not read.
    stride_ = (half_ + lanes - 1) / lanes * lanes;
    attention_ = frequencies.attention_factor();
    numbers_.resize(std::size_t(stride_ * rows), 0.);
    frequencies.write(dims, numbers_.data());
  }

  /// cosine[i], sine[i] of pair i for i < dims / 2, rounded to C.
  template <class C>
  void write(std::int64_t position, C* cosine, C* sine) {
    const std::int64_t far = position >> near_bits;
    if (far != far_ || !far_known_) {
      compute(double(far << near_bits), attention_, row(far_row));
      far_ = far, far_known_ = true;
    }
    add(row(far_row), near(unsigned(position - (far << near_bits))),
        [&](Index i, const simd::Batch<double>& c, const simd::Batch<double>& s) {
          double lane[2][std::size_t(lanes)];
          c.store_unaligned(lane[0]), s.store_unaligned(lane[1]);
          if (i + lanes <= half_)
            for (Index j = 0; j < lanes; ++j)  // constant trip count
              cosine[i + j] = C(lane[0][j]), sine[i + j] = C(lane[1][j]);
          else
            for (Index j = 0; i + j < half_; ++j)
              cosine[i + j] = C(lane[0][j]), sine[i + j] = C(lane[1][j]);
        });
  }

 private:
  static constexpr Index lanes = simd::width<double>;
  static constexpr int near_bits = 6;
  // Rows of numbers_: frequencies; cosines and sines of 64 f; cosines and sines of each n.
  static constexpr Index far_row = 1, near_row = 3, rows = near_row + 2 * (1 << near_bits);

  double* row(Index r) { return numbers_.data() + r * stride_; }

  /// The row of cosines of position n < 64. The row of its sines follows.
  const double* near(unsigned n) {
    double* const out = row(near_row + 2 * Index(n));
    if (near_known_ >> n & 1) return out;
    const unsigned rest = n & (n - 1);  // lowest set bit cleared
    if (rest == 0)
      compute(double(n), 1, out);
    else
      add(near(rest), near(n - rest),
          [&](Index i, const simd::Batch<double>& c, const simd::Batch<double>& s) {
            c.store_unaligned(out + i), s.store_unaligned(out + stride_ + i);
          });
    near_known_ |= std::uint64_t(1) << n;
    return out;
  }

  /// out ← factor · cosines and factor · sines of the angles at a position.
  void compute(double position, double factor, double* out) {
    const double* frequency = row(0);
    for (Index i = 0; i < half_; ++i) {
      const double angle = position * frequency[i];
      out[i] = factor * std::cos(angle);
      out[stride_ + i] = factor * std::sin(angle);
    }
  }

  /// Calls take(i, cosines, sines) for each register of pairs i, i + 1, … of the sum of angles a
  /// and b.
  template <class Take>
  void add(const double* a, const double* b, Take&& take) {
    using simd::fma, simd::load;
    for (Index i = 0; i < stride_; i += lanes) {
      const simd::Batch<double> a_cosine = load(a + i), a_sine = load(a + stride_ + i),
                                b_cosine = load(b + i), b_sine = load(b + stride_ + i);
      // Explicit fma: contraction by the compiler could differ from call to call.
      take(i, fma(simd::Batch<double>(0.) - a_sine, b_sine, a_cosine * b_cosine),
           fma(a_sine, b_cosine, a_cosine * b_sine));
    }
  }

  Vector<double> numbers_;
  Index half_ = 0, stride_ = 0;
  double attention_ = 1;
  std::int64_t far_ = 0;
  bool far_known_ = false;
  std::uint64_t near_known_ = 0;
};

}  // namespace detail

/// The cosines and sines of consecutive positions. Computed once, read by any number of calls of
/// rotary(), also by several threads at once.
///
///     heed::RotaryTable<float> table(64, 0, 4096, {.base = 500000, .scaling = Llama3Rotary{}});
///     heed::rotary(q, table);
///     heed::rotary(k, table);
///
/// @tparam T  float for x of float or 16 bits, double for x of double. The other type works too,
/// but every call converts it.
/// @note Memory: positions · dims elements of T. An entry is computed in double and rounded once to
/// T; it equals what rotary() computes without a table, bit for bit.
template <class T>
class RotaryTable {
  static_assert(std::is_same_v<T, float> || std::is_same_v<T, double>,
                "heed: cosines and sines are computed with in float or double");

 public:
  /// Computes the table for positions first, first + 1, …, `positions` of them. They may be
  /// negative.
  ///
  /// @param dims  Elements of a head that are rotated; even.
  /// @throws ValueError if a number is out of its domain, or a position beyond ±2^53; ShapeError if
  /// the caller's own frequencies are not dims / 2.
  RotaryTable(Index dims, std::int64_t first, Index positions,
              const RotaryFrequencies& frequencies = {})
      : first_(first) {
    if (positions < 0) throw ValueError("rotary: a table of ", positions, " positions");
    detail::PositionRange range;
    range.add_run(first, positions);
    range.expect_computable();
    detail::expect_turning(dims);
    const Index half = dims / 2;
    Index numbers = 0;
    if (__builtin_mul_overflow(positions, dims, &numbers) ||
        __builtin_mul_overflow(numbers, Index(sizeof(T)), &numbers))
      throw ValueError("rotary: a table of ", positions, " positions of ", dims,
                       " numbers is larger than 64 bits count");
    detail::RotaryAngles angles(dims, frequencies);
    numbers_.resize(std::size_t(positions * dims));
    dims_ = {positions, half};
    T* const cosine = numbers_.data();
    T* const sine = cosine + positions * half;
    for (Index p = 0; p < positions; ++p)
      angles.write(first + p, cosine + p * half, sine + p * half);
  }

  /// The position of row 0.
  std::int64_t first() const { return first_; }
  /// [positions, dims / 2], row r for position first() + r.
  View<const T, 2> cosines() const { return {numbers_.data(), dims_}; }
  /// As cosines().
  View<const T, 2> sines() const { return {numbers_.data() + numbers_.size() / 2, dims_}; }

 private:
  std::int64_t first_;
  Dims<2> dims_{};
  Vector<T> numbers_;
};

}  // namespace heed::inline HEED_ABI
