// SPDX-License-Identifier: MIT
/// @file
/// Packs rows of a tensor into the order in which the micro-kernels read them.
#pragma once

#include "heed/core/storage.hpp"
#include "heed/simd/operand.hpp"

namespace heed::inline HEED_ABI::simd {

namespace detail {

/// A vector of four numbers. Uses the compiler's vectors: xsimd 8 has no transposition.
template <class T>
struct Four {
  typedef T Vector [[gnu::vector_size(4 * sizeof(T))]];
};

/// out[c · width + r] = scale[r] · x[r][c] for r, c < 4.
template <class T>
HEED_INLINE void pack_square(const T* const (&x)[4], const T (&scale)[4], T* out,
                             Index width) noexcept {
  using Vector = typename Four<T>::Vector;
  Vector a[4];
#pragma GCC unroll 4
  for (int r = 0; r < 4; ++r) {
    std::memcpy(&a[r], x[r], sizeof a[r]);
    a[r] *= scale[r];
  }
  const Vector low01 = __builtin_shufflevector(a[0], a[1], 0, 4, 1, 5),
               low23 = __builtin_shufflevector(a[2], a[3], 0, 4, 1, 5),
               high01 = __builtin_shufflevector(a[0], a[1], 2, 6, 3, 7),
               high23 = __builtin_shufflevector(a[2], a[3], 2, 6, 3, 7);
  const Vector columns[] = {__builtin_shufflevector(low01, low23, 0, 1, 4, 5),
                            __builtin_shufflevector(low01, low23, 2, 3, 6, 7),
                            __builtin_shufflevector(high01, high23, 0, 1, 4, 5),
                            __builtin_shufflevector(high01, high23, 2, 3, 6, 7)};
#pragma GCC unroll 4
  for (int c = 0; c < 4; ++c) std::memcpy(out + c * width, &columns[c], sizeof columns[c]);
}

}  // namespace detail

/// Packs a panel: out[d · width + r] = factor(r) · row(r)[d] for r < rows, zero padding for
/// rows ≤ r < width.
///
/// @param row  row(r) points to `dim` numbers. It may convert them first, hence not noexcept.
/// @param out  dim · width numbers, overwritten.
template <class T, class RowOf, class Factor>
void pack_panel(RowOf&& row, Index rows, Index dim, Index width, Factor&& factor, T* out) {
  // 4 × 4 blocks are transposed in registers. One by one, every number would be a store to another
  // cache line, at more than ten times the cost.
  const Index square_dim = dim / 4 * 4;
  Index r = 0;
  for (; r + 4 <= rows; r += 4) {
    const T scale[4] = {factor(r), factor(r + 1), factor(r + 2), factor(r + 3)};
    const T* x[4] = {row(r), row(r + 1), row(r + 2), row(r + 3)};
    for (Index d = 0; d < square_dim; d += 4) {
      const T* const at[4] = {x[0] + d, x[1] + d, x[2] + d, x[3] + d};
      detail::pack_square(at, scale, out + d * width + r, width);
    }
    for (Index d = square_dim; d < dim; ++d)
      for (int i = 0; i < 4; ++i) out[d * width + r + i] = scale[i] * x[i][d];
  }
  for (; r < rows; ++r) {
    const T scale = factor(r);
    const T* x = row(r);
    for (Index d = 0; d < dim; ++d) out[d * width + r] = scale * x[d];
  }
  for (; r < width; ++r)
    for (Index d = 0; d < dim; ++d) out[d * width + r] = T(0);
}

/// out[r · out_stride + d] = factor(r) · x[r · stride + d] for d < dim, 0 for dim ≤ d < out_stride.
template <class T, class Factor>
void pack_rows(const T* x, Index stride, Index rows, Index dim, Factor&& factor, T* out,
               Index out_stride) {
  for (Index r = 0; r < rows; ++r) {
    const T scale = factor(r);
    T* to = out + r * out_stride;
    for (Index d = 0; d < dim; ++d) to[d] = scale * x[r * stride + d];
    for (Index d = dim; d < out_stride; ++d) to[d] = T(0);
  }
}

/// Are all numbers of the rows finite? Tests exponent bits: -ffast-math folds comparisons away.
template <class T>
bool all_finite(const T* x, Index stride, Index rows, Index dim) noexcept {
  static_assert(sizeof(T) > 1, "numbers of one byte have no exponent here: ask their codec");
  // 16-bit numbers are loaded in pairs; the exponents of the two halves are tested separately.
  constexpr bool pairs = std::is_same_v<T, Bfloat16Pair>, by_twos = pairs || sizeof(T) == 2;
  constexpr Index numbers_per_word = by_twos && !pairs ? 2 : 1;
  using Bits = std::conditional_t<sizeof(T) == 8, std::uint64_t, std::uint32_t>;
  constexpr Bits exponent = pairs || is_bfloat16<T> ? 0x7f80
                            : is_binary16<T>        ? 0x7c00
                            : sizeof(T) == 4        ? 0x7f800000
                                                    : Bits(0x7ff) << (8 * sizeof(Bits) - 12);
  constexpr Bits upper = by_twos ? exponent << 16 : Bits(0);
  // One cache line per step: a loop of fixed length, which g++ -O2 vectorises.
  constexpr Index lanes = 64 / sizeof(Bits);
  Bits greatest[std::size_t(lanes)] = {}, greatest_upper[std::size_t(lanes)] = {};
  const auto see = [&](Index lane, const T* numbers, Index count) {
    Bits bits = 0;
    std::memcpy(&bits, numbers, std::size_t(count) * sizeof(T));
    greatest[lane] = std::max(greatest[lane], bits & exponent);
    if constexpr (by_twos) greatest_upper[lane] = std::max(greatest_upper[lane], bits & upper);
  };
  // Computed before the loops: g++ -O3 would otherwise warn of an impossibly large `dim`.
  const Index whole = dim / (lanes * numbers_per_word) * (lanes * numbers_per_word);
  for (Index r = 0; r < rows; ++r, x += stride) {
    for (Index d = 0; d < whole; d += lanes * numbers_per_word)
      for (Index lane = 0; lane < lanes; ++lane)
        see(lane, x + d + lane * numbers_per_word, numbers_per_word);
    for (Index d = whole; d < dim; ++d) see(0, x + d, 1);
  }
  for (Index lane = 0; lane < lanes; ++lane)
    if (greatest[lane] == exponent || (by_twos && greatest_upper[lane] == upper)) return false;
  return true;
}

/// Is one number finite? It is read from memory: under -ffast-math, a NaN that is passed by value
/// is undefined.
template <class T>
bool is_finite(const T* x) noexcept {
  using Bits = std::conditional_t<sizeof(T) == 8, std::uint64_t, std::uint32_t>;
  constexpr Bits exponent = sizeof(T) == 8 ? Bits(0x7ff) << (8 * sizeof(Bits) - 12) : 0x7f800000;
  Bits bits;
  std::memcpy(&bits, x, sizeof bits);
  return (bits & exponent) != exponent;
}

}  // namespace heed::inline HEED_ABI::simd
