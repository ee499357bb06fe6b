// SPDX-License-Identifier: MIT
/// @file
/// bfloat16: the upper half of a float.
#pragma once

#include "heed/simd/codec/codec.hpp"

#if defined(__AVX2__) && !defined(XSIMD_NO_SUPPORTED_ARCHITECTURE)
#include <immintrin.h>
#endif

namespace heed::inline HEED_ABI::simd {

/// Rounds to nearest. Registers are converted by intrinsics: xsimd 8 has no function for it, and
/// g++ does not vectorise a loop to these instructions.
template <class S>
requires is_bfloat16<S>
struct Codec<S> : detail::CastingCodec<S> {
  static constexpr const char* name = "bfloat16";

#if defined(__AVX2__) && !defined(XSIMD_NO_SUPPORTED_ARCHITECTURE)
  template <class T>
  static constexpr bool in_registers = std::is_same_v<T, float>;
  template <class T>
  HEED_INLINE static Batch<T> load(const S* x, Index i) {
#ifdef __AVX512F__
    const __m512i bits = _mm512_cvtepu16_epi32(detail::bits_of<__m256i, 16>(x + i));
    return Batch<T>(_mm512_castsi512_ps(_mm512_slli_epi32(bits, 16)));
#else
    const __m256i bits = _mm256_cvtepu16_epi32(detail::bits_of<__m128i, 8>(x + i));
    return Batch<T>(_mm256_castsi256_ps(_mm256_slli_epi32(bits, 16)));
#endif
  }
#endif
};

}  // namespace heed::inline HEED_ABI::simd
