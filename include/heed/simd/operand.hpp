// SPDX-License-Identifier: MIT
/// @file
/// Operands of the micro-kernels: numbers, or pairs of bfloat16.
#pragma once

#include "heed/simd/exp2.hpp"

#if defined(__AVX512BF16__) && !defined(XSIMD_NO_SUPPORTED_ARCHITECTURE)
#include <immintrin.h>
#endif

namespace heed::inline HEED_ABI::simd {

namespace detail {

/// Computes x · factor with products below `least`, a normal number, replaced. The test is made on
/// x, before the product: no result is subnormal, which would be slow. NaN gives NaN.
template <class T>
class Rescale {
 public:
  Rescale(T factor, T least)
      : factor_(factor),
        least_(least),
        below_(std::min(least / std::max(factor, std::numeric_limits<T>::min()),
                        std::numeric_limits<T>::max())) {}

  /// For sums: small products become zero.
  HEED_INLINE Batch<T> sum(const Batch<T>& x) const {
    return select(is_small(x), Batch<T>(T(0)), x) * factor_;
  }
  /// For weights: small products become `least`. Only masked keys have weight zero, see exp2().
  HEED_INLINE Batch<T> weight(const Batch<T>& x) const {
    return select(is_small(x) & (x != Batch<T>(T(0))), least_, sum(x));
  }

 private:
  HEED_INLINE Mask<T> is_small(const Batch<T>& x) const {
    return (x < below_) & (x > Batch<T>(T(0)) - below_);
  }

  Batch<T> factor_, least_, below_;
};

}  // namespace detail

/// Operand traits of the micro-kernels. An operand packs `numbers` consecutive elements of the
/// reduction dimension.
template <class T>
struct Operand {
  using Sum = T;
  using Register = Batch<T>;
  static constexpr Index numbers = 1;
  static constexpr Index value_row_multiple = 1;  ///< packed V has a multiple of this many rows

  HEED_INLINE static Register load(const T* p) { return simd::load(p); }
  HEED_INLINE static Register broadcast(T x) { return Register(x); }
  HEED_INLINE static Batch<T> multiply_add(const Register& a, const Register& b,
                                           const Batch<T>& sum) {
    return fma(a, b, sum);
  }
  /// Rescales sums: x[i] *= factor for i < count, rounded up to registers. Results that would be
  /// subnormal become zero.
  static void rescale_sums(T* x, Index count, T factor) {
    const detail::Rescale<T> by(factor, std::numeric_limits<T>::min());
    for (Index i = 0; i < count; i += width<T>) by.sum(simd::load(x + i)).store_unaligned(x + i);
  }
  /// Rescales weights, packed as operands: results that are not zero are at least least_power.
  static void rescale_weights(T* x, Index count, T factor) {
    const detail::Rescale<T> by(factor, least_power<T>);
    for (Index i = 0; i < count; i += width<T>) by.weight(simd::load(x + i)).store_unaligned(x + i);
  }
  /// Element i of an operand.
  static T number(T x, Index /*i*/) { return x; }
  static bool is_zero(T x) { return x == T(0); }
  /// `values`, with the elements whose weight is zero cleared, given that not all are: NaN in a
  /// masked value must not propagate as 0 · NaN.
  HEED_INLINE static const Register& clear_unweighted(const Register& values, T) { return values; }
  /// Stores the registers one after the other.
  template <std::size_t Vectors>
  HEED_INLINE static void store(const Batch<T> (&x)[Vectors], T* out) {
#pragma GCC unroll 8
    for (int v = 0; v < int(Vectors); ++v) x[v].store_unaligned(out + v * width<T>);
  }
};

/// Two bfloat16 numbers, the first in the lower half. AVX512_BF16 multiplies them by two others and
/// adds both products to a float, in the time of one product of floats. It treats subnormal numbers
/// as zero.
struct Bfloat16Pair {
  std::uint32_t bits;
};

/// The number of operands that hold `count` numbers.
template <class Packed>
constexpr Index operands(Index count) {
  return (count + Operand<Packed>::numbers - 1) / Operand<Packed>::numbers;
}

#if defined(__AVX512BF16__) && !defined(XSIMD_NO_SUPPORTED_ARCHITECTURE)

/// Does the target processor of this compilation have AVX512_BF16?
inline constexpr bool multiplies_bfloat16 = true;

namespace detail {

/// See batch.hpp.
HEED_INLINE void keep_in_register(__m512i& x) {
  asm("" : "+v"(x));
}

/// (even[i], odd[i]), rounded to nearest.
HEED_INLINE __m512i interleave(__m512 even, __m512 odd) {
  const auto narrow = [](__m512 x) {
    return _mm512_cvtepu16_epi32(std::bit_cast<__m256i>(_mm512_cvtneps_pbh(x)));
  };
  return _mm512_or_si512(narrow(even), _mm512_slli_epi32(narrow(odd), 16));
}

}  // namespace detail

template <>
struct Operand<Bfloat16Pair> {
  using Sum = float;
  using Register = __m512i;
  static constexpr Index numbers = 2;
  static constexpr Index value_row_multiple = 16;  ///< tile_rows of matrix_tiles.hpp

  HEED_INLINE static Register load(const Bfloat16Pair* p) { return _mm512_loadu_si512(p); }
  HEED_INLINE static Register broadcast(Bfloat16Pair x) { return _mm512_set1_epi32(int(x.bits)); }
  HEED_INLINE static Batch<float> multiply_add(const Register& a, const Register& b,
                                               const Batch<float>& sum) {
    return Batch<float>(
        _mm512_dpbf16_ps(sum.data, std::bit_cast<__m512bh>(a), std::bit_cast<__m512bh>(b)));
  }
  static void rescale_weights(Bfloat16Pair* x, Index count, float factor) {
    const detail::Rescale<float> by(factor, least_power<float>);
    for (Index i = 0; i < operands<Bfloat16Pair>(count); i += width<float>) {
      const __m512i pairs = load(x + i), upper = _mm512_set1_epi32(int(0xffff0000));
      const auto scaled = [&](__m512i numbers) {
        return by.weight(Batch<float>(_mm512_castsi512_ps(numbers))).data;
      };
      _mm512_storeu_si512(x + i, detail::interleave(scaled(_mm512_slli_epi32(pairs, 16)),
                                                    scaled(_mm512_and_si512(pairs, upper))));
    }
  }
  /// (first[i], second[i]) of sixteen bfloat16 numbers each.
  HEED_INLINE static Register load_pairs(const void* first, const void* second) {
    const auto wide = [](const void* x) {
      return _mm512_cvtepu16_epi32(_mm256_loadu_si256(static_cast<const __m256i*>(x)));
    };
    return _mm512_or_si512(wide(first), _mm512_slli_epi32(wide(second), 16));
  }
  /// The first element for 0, else the second.
  static float number(Bfloat16Pair x, Index which) {
    return std::bit_cast<float>(which == 0 ? x.bits << 16 : x.bits & 0xffff0000);
  }
  static bool is_zero(Bfloat16Pair x) { return (x.bits & 0x7fff7fff) == 0; }
  HEED_INLINE static Register clear_unweighted(const Register& values, Bfloat16Pair weight) {
    const std::uint32_t first = weight.bits & 0x7fff ? 0xffff : 0,
                        second = weight.bits & 0x7fff0000 ? 0xffff0000 : 0;
    return _mm512_and_si512(values, broadcast({first | second}));
  }
  /// Rounds to nearest.
  template <std::size_t Vectors>
  HEED_INLINE static void store(const Batch<float> (&x)[Vectors], Bfloat16Pair* out) {
    static_assert(Vectors % 2 == 0);
#pragma GCC unroll 8
    for (int v = 0; v < int(Vectors); v += 2)
      _mm512_storeu_si512(out + v / 2 * width<float>,
                          std::bit_cast<__m512i>(_mm512_cvtne2ps_pbh(x[v + 1].data, x[v].data)));
  }
};

namespace detail {

/// The first `count` lanes; no lane or all lanes if count is out of range.
HEED_INLINE __mmask16 first_lanes(Index count) {
  return __mmask16((1u << std::clamp<Index>(count, 0, 16)) - 1);
}

/// Loads sixteen numbers from x[first] on; zero from x[count] on.
HEED_INLINE __m512 load_up_to(const float* x, Index first, Index count) {
  return first < count ? _mm512_maskz_loadu_ps(first_lanes(count - first), x + first)
                       : _mm512_setzero_ps();
}

}  // namespace detail

/// out[i] = (x[2i], x[2i + 1]), rounded to nearest, for 2i < count. A missing last element is zero.
inline void pair_up(const float* x, Index count, Bfloat16Pair* out) {
  for (Index i = 0; i < count; i += 32) {
    const __m512 low = detail::load_up_to(x, i, count), high = detail::load_up_to(x, i + 16, count);
    _mm512_mask_storeu_epi32(out + i / 2, detail::first_lanes((count - i + 1) / 2),
                             std::bit_cast<__m512i>(_mm512_cvtne2ps_pbh(high, low)));
  }
}

/// out[d] = (factor0 · x0[d], factor1 · x1[d]), rounded to nearest, for d < count; zero for
/// count ≤ d < columns, which is a multiple of the register width.
///
/// @param x1  null for zeros.
inline void pair_rows(const float* x0, float factor0, const float* x1, float factor1, Index count,
                      Index columns, Bfloat16Pair* out) {
  const auto scaled = [count](const float* x, float factor, Index d) {
    return _mm512_mul_ps(detail::load_up_to(x, d, x ? count : 0), _mm512_set1_ps(factor));
  };
  for (Index d = 0; d < columns; d += 16)
    _mm512_storeu_si512(out + d,
                        detail::interleave(scaled(x0, factor0, d), scaled(x1, factor1, d)));
}

#else

inline constexpr bool multiplies_bfloat16 = false;
void pair_up(const float*, Index, Bfloat16Pair*);  // declared only, like pair_rows()
void pair_rows(const float*, float, const float*, float, Index, Index, Bfloat16Pair*);

#endif

}  // namespace heed::inline HEED_ABI::simd
