// SPDX-License-Identifier: MIT
/// @file
/// Four-bit integers: the multiples −7 … 7 of one scale per 32 numbers.
#pragma once

#include "heed/simd/codec/codec.hpp"

#if defined(__AVX2__) && !defined(XSIMD_NO_SUPPORTED_ARCHITECTURE)
#include <immintrin.h>
#endif

namespace heed::inline HEED_ABI {

/// Two four-bit numbers, −8 … 7 in two's complement, the first in the lower half, as ONNX packs
/// them. A token of D numbers takes ⌈D / 2⌉ units; if D is odd, the upper half of the last one is
/// arbitrary.
struct Int4Pair {
  std::uint8_t bits = 0;
};

namespace simd {

/// Every 32 numbers of a token, and the last D mod 32, share a scale, largest |x| / 7. They are the
/// nearest multiples of it; the error is at most half a scale. If one of them is not finite, the
/// scale is NaN, and so are all 32 when read back.
///
/// Scales are of type T: with float, a number takes five bits in total. 16-bit scales would save
/// half a bit, but limit the range to that of binary16, or the precision to eight bits.
template <>
struct Codec<Int4Pair> : detail::AnyCodec {
  static constexpr const char* name = "int4";
  static constexpr Index numbers = 2, group = 32;

  template <class T>
  static T number(Int4Pair x, Index i) {
    const int four = i == 0 ? x.bits & 15 : x.bits >> 4;
    return T((four ^ 8) - 8);
  }
#if defined(__AVX2__) && !defined(XSIMD_NO_SUPPORTED_ARCHITECTURE)
  template <class T>
  static constexpr bool in_registers = std::is_same_v<T, float>;
#ifdef __AVX512F__
  /// Looks up by the lowest four bits of each index.
  HEED_INLINE static Batch<float> look_up(__m512i index) {
    const __m512 values = _mm512_setr_ps(0, 1, 2, 3, 4, 5, 6, 7, -8, -7, -6, -5, -4, -3, -2, -1);
    return Batch<float>(_mm512_permutexvar_ps(index, values));
  }
  template <class T>
  HEED_INLINE static Batch<T> load(const Int4Pair* x, Index i) {
#ifdef __AVX512VBMI__
    std::int64_t all;
    std::memcpy(&all, x + i / 2, sizeof all);
    const __m512i at =
        _mm512_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28, 32, 36, 40, 44, 48, 52, 56, 60);
    return look_up(_mm512_multishift_epi64_epi8(at, _mm512_set1_epi64(all)));
#else
    // Puts both numbers of a byte side by side: the upper four bits move to the start of the next
    // lane.
    const __m512i pairs = _mm512_cvtepu8_epi64(detail::bits_of<__m128i, 8>(x + i / 2));
    return look_up(_mm512_or_si512(pairs, _mm512_slli_epi64(pairs, 28)));
#endif
  }
  template <class T>
  HEED_INLINE static void load_beside(const Int4Pair* x, Batch<T> (&out)[2]) {
    const __m512i pairs = _mm512_cvtepu8_epi32(detail::bits_of<__m128i, 16>(x));
    out[0] = look_up(pairs);
    out[1] = look_up(_mm512_srli_epi32(pairs, 4));
  }
#else
  template <class T>
  HEED_INLINE static Batch<T> load(const Int4Pair* x, Index i) {
    std::int32_t all;
    std::memcpy(&all, x + i / 2, sizeof all);
    const __m256i top =
        _mm256_sllv_epi32(_mm256_set1_epi32(all), _mm256_setr_epi32(28, 24, 20, 16, 12, 8, 4, 0));
    return Batch<T>(_mm256_cvtepi32_ps(_mm256_srai_epi32(top, 28)));
  }
  template <class T>
  HEED_INLINE static void load_beside(const Int4Pair* x, Batch<T> (&out)[2]) {
    const __m256i pairs = _mm256_cvtepi8_epi32(detail::bits_of<__m128i, 8>(x));
    out[0] = Batch<T>(_mm256_cvtepi32_ps(_mm256_srai_epi32(_mm256_slli_epi32(pairs, 28), 28)));
    out[1] = Batch<T>(_mm256_cvtepi32_ps(_mm256_srai_epi32(pairs, 4)));
  }
#endif
#endif

  template <class T>
  static void encode(const T* x, Index count, Int4Pair* out, Index stride, T* scale,
                     Index scale_stride) noexcept {
    for (Index first = 0; first < count; first += group)
      scale[scale_of<Int4Pair>(first) * scale_stride] = detail::encode_multiples(
          x + first, std::min(group, count - first), T(7), [&](Index i, T multiple) {
            const unsigned four = unsigned(std::lrint(multiple)) & 15;
            std::uint8_t& bits = out[(first + i) / 2 * stride].bits;
            bits = std::uint8_t(i % 2 == 0 ? four : bits | four << 4);
          });
  }
  template <class T>
  static bool finite(const Int4Pair* /*x*/, Index count, const T* scale) {
    return all_finite(scale, 0, 1, scales<Int4Pair>(count));
  }
};

}  // namespace simd
}  // namespace heed::inline HEED_ABI
