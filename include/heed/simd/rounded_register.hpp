// SPDX-License-Identifier: MIT
/// @file
/// Stores a register rounded to 16 bits.
#pragma once

#include "heed/core/storage.hpp"
#include "heed/simd/stored_rows.hpp"

#include <cstring>
#include <limits>
#include <type_traits>

#if defined(__AVX2__) && !defined(XSIMD_NO_SUPPORTED_ARCHITECTURE)
#define HEED_ROUNDS_IN_REGISTERS
#include <immintrin.h>
#endif

namespace heed::inline HEED_ABI::simd {

namespace detail {

#ifdef HEED_ROUNDS_IN_REGISTERS

/// Is a register of float rounded to S in a few instructions?
template <class S, class T>
inline constexpr bool rounds_in_registers = std::is_same_v<T, float> && (is_bfloat16<S>
#ifdef __F16C__
                                                                         || is_binary16<S>
#endif
                                                                        );
/// Does a pair of S fill a lane of T?
template <class S, class T>
inline constexpr bool pairs_in_lanes = std::is_same_v<T, float>&& is_bfloat16<S>;

#ifdef __AVX512F__

using HalfRegister = __m256i;
using Bits = __m512i;

/// Rounds to nearest even bfloat16, in the upper half of each lane; the lower half is undefined.
/// NaN stays NaN. In integer arithmetic: the instruction of AVX512_BF16 treats subnormal numbers as
/// zero.
HEED_INLINE Bits upper_halves(const Batch<float>& x) {
  const Bits bits = _mm512_castps_si512(x.data),
             last = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1)),
             half = _mm512_add_epi32(last, _mm512_set1_epi32(0x7fff)),
             magnitude = _mm512_and_si512(bits, _mm512_set1_epi32(0x7fffffff));
  const __mmask16 nan = _mm512_cmpgt_epi32_mask(magnitude, _mm512_set1_epi32(0x7f800000));
  return _mm512_mask_or_epi32(_mm512_add_epi32(bits, half), nan, bits,
                              _mm512_set1_epi32(0x7fc00000));
}
HEED_INLINE HalfRegister narrowed(const Bits& x) {
  return _mm512_cvtepi32_epi16(_mm512_srli_epi32(x, 16));
}
#ifdef __F16C__
HEED_INLINE HalfRegister to_binary16(const Batch<float>& x) {
  return _mm512_cvtps_ph(x.data, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
#else
HalfRegister to_binary16(const Batch<float>&);  // declared only
#endif
HEED_INLINE BatchPair<float> halves(const Bits& x) {
  return {
      Batch<float>(_mm512_castsi512_ps(_mm512_slli_epi32(x, 16))),
      Batch<float>(_mm512_castsi512_ps(_mm512_and_si512(x, _mm512_set1_epi32(int(0xffff0000)))))};
}
HEED_INLINE Bits joined(const Bits& lower, const Bits& upper) {
  return _mm512_or_si512(_mm512_srli_epi32(lower, 16),
                         _mm512_and_si512(upper, _mm512_set1_epi32(int(0xffff0000))));
}

#else

using HalfRegister = __m128i;
using Bits = __m256i;

/// See the version for AVX-512.
HEED_INLINE Bits upper_halves(const Batch<float>& x) {
  const Bits bits = _mm256_castps_si256(x.data),
             last = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1)),
             half = _mm256_add_epi32(last, _mm256_set1_epi32(0x7fff)),
             magnitude = _mm256_and_si256(bits, _mm256_set1_epi32(0x7fffffff)),
             nan = _mm256_cmpgt_epi32(magnitude, _mm256_set1_epi32(0x7f800000));
  return _mm256_blendv_epi8(_mm256_add_epi32(bits, half),
                            _mm256_or_si256(bits, _mm256_set1_epi32(0x7fc00000)), nan);
}
HEED_INLINE HalfRegister narrowed(const Bits& x) {
  const Bits low = _mm256_srli_epi32(x, 16);
  return _mm_packus_epi32(_mm256_castsi256_si128(low), _mm256_extracti128_si256(low, 1));
}
#ifdef __F16C__
HEED_INLINE HalfRegister to_binary16(const Batch<float>& x) {
  return _mm256_cvtps_ph(x.data, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
#else
HalfRegister to_binary16(const Batch<float>&);  // declared only
#endif
HEED_INLINE BatchPair<float> halves(const Bits& x) {
  return {
      Batch<float>(_mm256_castsi256_ps(_mm256_slli_epi32(x, 16))),
      Batch<float>(_mm256_castsi256_ps(_mm256_and_si256(x, _mm256_set1_epi32(int(0xffff0000)))))};
}
HEED_INLINE Bits joined(const Bits& lower, const Bits& upper) {
  return _mm256_or_si256(_mm256_srli_epi32(lower, 16),
                         _mm256_and_si256(upper, _mm256_set1_epi32(int(0xffff0000))));
}

#endif

#undef HEED_ROUNDS_IN_REGISTERS
#else

template <class S, class T>
inline constexpr bool rounds_in_registers = false;
template <class S, class T>
inline constexpr bool pairs_in_lanes = false;
// Declared only.
struct Bits {};
template <class T>
Bits upper_halves(const Batch<T>&);
Bits narrowed(const Bits&);
Bits to_binary16(const Batch<float>&);
BatchPair<float> halves(const Bits&);
Bits joined(const Bits&, const Bits&);

#endif

}  // namespace detail

/// Stores the lanes of a register from `out` on, each rounded to nearest.
template <class T, class S>
HEED_INLINE void store_rounded(const Batch<T>& x, S* out) {
  if constexpr (std::is_same_v<S, T>) {
    x.store_unaligned(out);
  } else if constexpr (detail::rounds_in_registers<S, T>) {
    const auto bits = [&] {
      if constexpr (is_bfloat16<S>)
        return detail::narrowed(detail::upper_halves(x));
      else
        return detail::to_binary16(x);
    }();
    std::memcpy(static_cast<void*>(out), &bits, sizeof bits);
  } else {
    T lanes[std::size_t(width<T>)];
    x.store_unaligned(lanes);
    for (Index i = 0; i < width<T>; ++i) out[i] = S(lanes[i]);
  }
}

/// Loads two registers of numbers from x on and splits them into those of even and of odd index.
template <class T, class S>
HEED_INLINE BatchPair<T> load_unzipped(const S* x) {
  if constexpr (detail::pairs_in_lanes<S, T>) {
    decltype(detail::upper_halves(Batch<T>())) bits;
    std::memcpy(&bits, static_cast<const void*>(x), sizeof bits);
    return detail::halves(bits);
  } else {
    return unzip(BatchPair<T>{load_stored<T>(x), load_stored<T>(x + width<T>)});
  }
}

/// The inverse of load_unzipped(), rounded.
template <class T, class S>
HEED_INLINE void store_zipped(const BatchPair<T>& x, S* out) {
  if constexpr (detail::pairs_in_lanes<S, T>) {
    const auto bits = detail::joined(detail::upper_halves(x.first), detail::upper_halves(x.second));
    std::memcpy(static_cast<void*>(out), &bits, sizeof bits);
  } else {
    const BatchPair<T> zipped = zip(x);
    store_rounded(zipped.first, out);
    store_rounded(zipped.second, out + width<T>);
  }
}

}  // namespace heed::inline HEED_ABI::simd
