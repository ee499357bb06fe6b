// SPDX-License-Identifier: MIT
/// @file
/// binary16, the IEEE half-precision format.
#pragma once

#include "heed/simd/codec/codec.hpp"

#if defined(__AVX2__) && defined(__F16C__) && !defined(XSIMD_NO_SUPPORTED_ARCHITECTURE)
#include <immintrin.h>
#endif

namespace heed::inline HEED_ABI::simd {

/// Rounds to nearest; infinite beyond ±65504. Intrinsics for the reason given at bfloat16.
template <class S>
requires is_binary16<S>
struct Codec<S> : detail::CastingCodec<S> {
  static constexpr const char* name = "float16";

#if defined(__AVX2__) && defined(__F16C__) && !defined(XSIMD_NO_SUPPORTED_ARCHITECTURE)
  template <class T>
  static constexpr bool in_registers = std::is_same_v<T, float>;
  template <class T>
  HEED_INLINE static Batch<T> load(const S* x, Index i) {
#ifdef __AVX512F__
    return Batch<T>(_mm512_cvtph_ps(detail::bits_of<__m256i, 16>(x + i)));
#else
    return Batch<T>(_mm256_cvtph_ps(detail::bits_of<__m128i, 8>(x + i)));
#endif
  }
#endif
};

}  // namespace heed::inline HEED_ABI::simd
