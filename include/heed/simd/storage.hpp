// SPDX-License-Identifier: MIT
/// @file Numbers stored in fewer bits than they are computed in.
#pragma once

#include "heed/simd/pack.hpp"

#ifdef __F16C__
#include <immintrin.h>
#endif

namespace heed::inline HEED_ABI::simd {

namespace detail {

/// How many numbers are widened side by side: a loop of fixed length, which g++ -O2 vectorises.
inline constexpr Index widened_at_once = 16;

template <class S>
HEED_INLINE void widen_some(const S* x, float* out) noexcept {
  if constexpr (is_bfloat16<S>) {
    std::uint16_t upper[widened_at_once];
    std::memcpy(upper, x, sizeof upper);
    for (Index i = 0; i < widened_at_once; ++i)
      out[i] = std::bit_cast<float>(std::uint32_t(upper[i]) << 16);
#if defined(__AVX512F__)
  } else if constexpr (is_binary16<S>) {
    _mm512_storeu_ps(out, _mm512_cvtph_ps(_mm256_loadu_si256(
                              static_cast<const __m256i*>(static_cast<const void*>(x)))));
#elif defined(__F16C__)
  } else if constexpr (is_binary16<S>) {
    const auto* eights = static_cast<const __m128i*>(static_cast<const void*>(x));
    _mm256_storeu_ps(out, _mm256_cvtph_ps(_mm_loadu_si128(eights)));
    _mm256_storeu_ps(out + 8, _mm256_cvtph_ps(_mm_loadu_si128(eights + 1)));
#endif
  } else {
    for (Index i = 0; i < widened_at_once; ++i) out[i] = float(x[i]);
  }
}

}  // namespace detail

/// out[i] = x[i] for i < count. Exact.
template <class S, class T>
void widen(const S* x, Index count, T* out) noexcept {
  Index i = 0;
  if constexpr (std::is_same_v<T, float>)
    for (; i + detail::widened_at_once <= count; i += detail::widened_at_once)
      detail::widen_some(x + i, out + i);
  for (; i < count; ++i) out[i] = T(x[i]);
}

/// out[i · stride] = x[i] for i < count, to the nearest.
template <class T, class S>
void narrow(const T* x, Index count, S* out, Index stride = 1) noexcept {
  for (Index i = 0; i < count; ++i) out[i * stride] = S(x[i]);
}

/// The nearest of the multiples −127 … 127 of a scale, which is returned: largest |x| / 127. Of a
/// row that is not finite the scale is NaN, and so is every number read back.
template <class T>
T quantize(const T* x, Index count, std::int8_t* out, Index stride = 1) noexcept {
  if (!all_finite(x, 0, 1, count)) {
    for (Index i = 0; i < count; ++i) out[i * stride] = 1;
    return std::numeric_limits<T>::quiet_NaN();
  }
  T most = 0;
  for (Index i = 0; i < count; ++i) most = std::max(most, std::abs(x[i]));
  // The quotient of a tiny `most` would be infinite, or a scale that lost its digits.
  const T scale = most / 127;
  const bool tiny = scale < std::numeric_limits<T>::min();
  for (Index i = 0; i < count; ++i)
    out[i * stride] = tiny ? std::int8_t(0) : std::int8_t(std::lrint(x[i] / scale));
  return tiny ? T(0) : scale;
}

/// out[i] = scale · x[i] for i < count.
template <class T>
void widen(const std::int8_t* x, Index count, T scale, T* out) noexcept {
  Index i = 0;
  for (; i + detail::widened_at_once <= count; i += detail::widened_at_once)
    for (Index lane = i; lane < i + detail::widened_at_once; ++lane) out[lane] = scale * T(x[lane]);
  for (; i < count; ++i) out[i] = scale * T(x[i]);
}

/// The same for a panel of `Width` rows, each with a scale: out[d][r] = scale[r] · x[d][r].
template <Index Width, class T>
void widen_panel(const std::int8_t* x, Index dim, const T* scale, T* out) noexcept {
  for (Index d = 0; d < dim; ++d, x += Width, out += Width)
    for (Index r = 0; r < Width; ++r) out[r] = scale[r] * T(x[r]);
}

}  // namespace heed::inline HEED_ABI::simd
