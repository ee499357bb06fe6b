// SPDX-License-Identifier: MIT
/// @file
/// Eight-bit floating point: E4M3 of the Open Compute Project.
#pragma once

#include "heed/simd/codec/codec.hpp"

#include <array>
#include <bit>

#if defined(__AVX2__) && defined(__F16C__) && !defined(XSIMD_NO_SUPPORTED_ARCHITECTURE)
#include <immintrin.h>
#endif

namespace heed::inline HEED_ABI {

/// OCP's OFP8 format E4M3 (Micikevicius et al., arXiv:2209.05433), also known as float8_e4m3fn: a
/// sign bit, four exponent bits with a bias of 7, three fraction bits. 0x7f and 0xff are NaN, there
/// is no infinity. The largest number is 448, the smallest positive one 2^−9.
struct Fp8E4M3 {
  std::uint8_t bits = 0;

  /// Rounds to nearest even. Magnitudes above 448, also infinity, saturate at 448 (OCP's saturating
  /// conversion). NaN stays NaN.
  template <class T>
  static constexpr Fp8E4M3 nearest(T x) {
    // In integer arithmetic, which depends neither on -ffast-math nor on the rounding mode.
    using Bits = std::conditional_t<sizeof(T) == 4, std::uint32_t, std::uint64_t>;
    constexpr int fraction = std::numeric_limits<T>::digits - 1, bits = 8 * int(sizeof(T));
    constexpr int bias = std::numeric_limits<T>::max_exponent - 1;
    constexpr Bits one = 1, infinity = Bits(2 * bias + 1) << fraction;
    const Bits given = std::bit_cast<Bits>(x), magnitude = given & (~Bits(0) >> 1);
    const auto sign = std::uint8_t(given >> (bits - 1) << 7);
    if (magnitude > infinity) return {std::uint8_t(sign | 0x7f)};
    if (magnitude >= std::bit_cast<Bits>(T(448))) return {std::uint8_t(sign | 0x7e)};
    // Below 2^−6, numbers are 2^−9 apart; less than half of that rounds to zero.
    const int exponent = int(magnitude >> fraction) - bias, unit = std::max(exponent, -6);
    const int shift = std::min(fraction - 3 + unit - exponent, fraction + 2);
    const Bits digits = (magnitude & ((one << fraction) - 1)) | one << fraction;
    const Bits steps = (digits + (one << (shift - 1)) - 1 + (digits >> shift & 1)) >> shift;
    return {std::uint8_t(sign | ((unit + 6) * 8 + int(steps)))};
  }
  /// The exact value.
  constexpr float value() const {
    const std::uint32_t sign = std::uint32_t(bits & 0x80) << 24, magnitude = bits & 0x7f;
    if (magnitude == 0x7f) return std::bit_cast<float>(sign | 0x7fc00000);
    if (magnitude < 8) return (sign ? -0x1p-9F : 0x1p-9F) * float(magnitude);
    return std::bit_cast<float>(sign | ((magnitude << 20) + (120u << 23)));
  }
};

namespace simd {

/// One scale per token, largest |x| / 448, as in inference engines, and E4M3 numbers that it
/// multiplies. The error of a number is at most 1/16 of it, or 2^−10 scales. If a number is not
/// finite, the scale is NaN, and so are all numbers read back. A number that is NaN without its
/// scale also stays NaN.
template <>
struct Codec<Fp8E4M3> : detail::AnyCodec {
  static constexpr const char* name = "float8_e4m3";
  static constexpr Index group = whole_token;

  template <class T>
  static T number(Fp8E4M3 x, Index /*i*/) {
    static constexpr auto values = [] {
      std::array<float, 256> all{};
      for (unsigned bits = 0; bits < 256; ++bits) all[bits] = Fp8E4M3{std::uint8_t(bits)}.value();
      return all;
    }();
    return T(values[x.bits]);
  }
#if defined(__AVX2__) && defined(__F16C__) && !defined(XSIMD_NO_SUPPORTED_ARCHITECTURE)
  template <class T>
  static constexpr bool in_registers = std::is_same_v<T, float>;
  /// Shifted into place, the bits are a binary16 number that is 2^8 times too small, also for
  /// subnormal numbers, but not for NaN, whose lower bits are all set.
  template <class T>
  HEED_INLINE static Batch<T> load(const Fp8E4M3* x, Index i) {
#ifdef __AVX512F__
    const __m256i moved =
        _mm256_slli_epi16(_mm256_cvtepi8_epi16(detail::bits_of<__m128i, 16>(x + i)), 7);
    const __m256i magnitude = _mm256_set1_epi16(0x3f80);
    const __m256i nan = _mm256_cmpeq_epi16(_mm256_and_si256(moved, magnitude), magnitude);
    const __m256i half = _mm256_and_si256(moved, _mm256_set1_epi16(short(0xbf80)));
    return Batch<T>(
        _mm512_mul_ps(_mm512_cvtph_ps(_mm256_or_si256(half, nan)), _mm512_set1_ps(256)));
#else
    const __m128i moved = _mm_slli_epi16(_mm_cvtepi8_epi16(detail::bits_of<__m128i, 8>(x + i)), 7);
    const __m128i magnitude = _mm_set1_epi16(0x3f80);
    const __m128i nan = _mm_cmpeq_epi16(_mm_and_si128(moved, magnitude), magnitude);
    const __m128i half = _mm_and_si128(moved, _mm_set1_epi16(short(0xbf80)));
    return Batch<T>(_mm256_mul_ps(_mm256_cvtph_ps(_mm_or_si128(half, nan)), _mm256_set1_ps(256)));
#endif
  }
#endif

  template <class T>
  static void encode(const T* x, Index count, Fp8E4M3* out, Index stride, T* scale,
                     Index /*scale_stride*/) noexcept {
    *scale = detail::encode_multiples(x, count, T(448), [&](Index i, T multiple) {
      out[i * stride] = Fp8E4M3::nearest(multiple);
    });
  }
  template <class T>
  static bool finite(const Fp8E4M3* x, Index count, const T* scale) {
    bool all = all_finite(scale, 0, 1, 1);
    for (Index i = 0; i < count; ++i) all &= (x[i].bits & 0x7f) != 0x7f;
    return all;
  }
};

}  // namespace simd
}  // namespace heed::inline HEED_ABI
