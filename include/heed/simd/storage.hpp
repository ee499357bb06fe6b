// SPDX-License-Identifier: MIT
/// @file Numbers stored in fewer bits than they are computed in.
#pragma once

#include "heed/simd/pack.hpp"

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>

#if defined(__AVX2__) && !defined(XSIMD_NO_SUPPORTED_ARCHITECTURE)
#define HEED_WIDENS_IN_REGISTERS
#include <immintrin.h>
#endif

namespace heed::inline HEED_ABI::simd {

namespace detail {

#ifdef HEED_WIDENS_IN_REGISTERS

/// Is a register of these widened by an instruction or two? xsimd 8 has no name for them, and g++
/// does not find them in a loop.
template <class S, class T>
inline constexpr bool widens_in_registers = std::is_same_v<T, float> &&
                                            (is_bfloat16<S> || std::is_same_v<S, std::int8_t>
#ifdef __F16C__
                                             || is_binary16<S>
#endif
                                            );

template <class Register, class S>
HEED_INLINE Register bits_of(const S* x) {
  Register bits{};
  std::memcpy(&bits, x, std::size_t(width<float>) * sizeof(S));
  return bits;
}

/// As many numbers as a register of float holds.
template <class S>
HEED_INLINE Batch<float> widen_register(const S* x) {
#ifdef __AVX512F__
  if constexpr (is_bfloat16<S>)
    return Batch<float>(
        _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits_of<__m256i>(x)), 16)));
  else if constexpr (is_binary16<S>)
    return Batch<float>(_mm512_cvtph_ps(bits_of<__m256i>(x)));
  else
    return Batch<float>(_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(bits_of<__m128i>(x))));
#else
  if constexpr (is_bfloat16<S>)
    return Batch<float>(
        _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits_of<__m128i>(x)), 16)));
#ifdef __F16C__
  else if constexpr (is_binary16<S>)
    return Batch<float>(_mm256_cvtph_ps(bits_of<__m128i>(x)));
#endif
  else
    return Batch<float>(_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bits_of<__m128i>(x))));
#endif
}

#undef HEED_WIDENS_IN_REGISTERS
#else

template <class S, class T>
inline constexpr bool widens_in_registers = false;
template <class S>
Batch<float> widen_register(const S*);  // nowhere

#endif

}  // namespace detail

/// out[i] = x[i] for i < count. Exact.
///
/// Not noexcept, nor is what calls it: Eigen's conversions are not, and clang++ would call
/// std::terminate by a function of one name for every instruction set in a program.
template <class S, class T>
void widen(const S* x, Index count, T* out) {
  Index i = 0;
  if constexpr (detail::widens_in_registers<S, T>)
    for (; i + width<T> <= count; i += width<T>)
      detail::widen_register(x + i).store_unaligned(out + i);
  for (; i < count; ++i) out[i] = T(x[i]);
}

/// out[i] = scale · x[i] for i < count.
template <class T>
void widen(const std::int8_t* x, Index count, T scale, T* out) {
  Index i = 0;
  if constexpr (detail::widens_in_registers<std::int8_t, T>)
    for (; i + width<T> <= count; i += width<T>)
      (Batch<T>(scale) * detail::widen_register(x + i)).store_unaligned(out + i);
  for (; i < count; ++i) out[i] = scale * T(x[i]);
}

/// out[d · rows + r] = scale[r] · x[d · rows + r] for r < rows: a panel, whose rows have a scale
/// each.
template <class T>
void widen_panel(const std::int8_t* x, Index dim, Index rows, const T* scale, T* out) {
  Index r = 0;
  if constexpr (detail::widens_in_registers<std::int8_t, T>)
    for (; r + width<T> <= rows; r += width<T>) {
      const Batch<T> scales = load(scale + r);
      for (Index d = 0; d < dim; ++d)
        (scales * detail::widen_register(x + d * rows + r)).store_unaligned(out + d * rows + r);
    }
  for (; r < rows; ++r)
    for (Index d = 0; d < dim; ++d) out[d * rows + r] = scale[r] * T(x[d * rows + r]);
}

/// out[i · stride] = x[i] for i < count, to the nearest.
template <class T, class S>
void narrow(const T* x, Index count, S* out, Index stride = 1) {
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

}  // namespace heed::inline HEED_ABI::simd
