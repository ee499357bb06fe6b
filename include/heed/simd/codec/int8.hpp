// SPDX-License-Identifier: MIT
/// @file
/// Eight-bit integers: the multiples −127 … 127 of one scale per token.
#pragma once

#include "heed/simd/codec/codec.hpp"

#include <cmath>

#if defined(__AVX2__) && !defined(XSIMD_NO_SUPPORTED_ARCHITECTURE)
#include <immintrin.h>
#endif

namespace heed::inline HEED_ABI::simd {

/// The scale of a token is largest |x| / 127; its numbers are the nearest multiples. If a number is
/// not finite, the scale is NaN, and so are all numbers read back.
template <>
struct Codec<std::int8_t> : detail::AnyCodec {
  static constexpr const char* name = "int8";
  static constexpr Index group = whole_token;

  template <class T>
  static T number(std::int8_t x, Index /*i*/) {
    return T(x);
  }
#if defined(__AVX2__) && !defined(XSIMD_NO_SUPPORTED_ARCHITECTURE)
  template <class T>
  static constexpr bool in_registers = std::is_same_v<T, float>;
  template <class T>
  HEED_INLINE static Batch<T> load(const std::int8_t* x, Index i) {
#ifdef __AVX512F__
    const __m128i bits = detail::bits_of<__m128i, 16>(x + i);
    return Batch<T>(_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(bits)));
#else
    const __m128i bits = detail::bits_of<__m128i, 8>(x + i);
    return Batch<T>(_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bits)));
#endif
  }
#endif

  template <class T>
  static void encode(const T* x, Index count, std::int8_t* out, Index stride, T* scale,
                     Index /*scale_stride*/) noexcept {
    *scale = detail::encode_multiples(x, count, T(127), [&](Index i, T multiple) {
      out[i * stride] = std::int8_t(std::lrint(multiple));
    });
  }
  template <class T>
  static bool finite(const std::int8_t* /*x*/, Index /*count*/, const T* scale) {
    return all_finite(scale, 0, 1, 1);
  }
};

}  // namespace heed::inline HEED_ABI::simd
