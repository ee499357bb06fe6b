// SPDX-License-Identifier: MIT
/// @file
/// 2^x, the exponential of every softmax of the library.
#pragma once

#include "heed/simd/batch.hpp"

namespace heed::inline HEED_ABI::simd {

template <class T>
inline constexpr T log2e = T(1.442695040888963407359924681001892137L);
template <class T>
inline constexpr T ln2 = T(0.693147180559945309417232121458176568L);

namespace detail {

/// 2^r = 1 + r (c₀ + c₁ r + …) on [−½, ½]. float: minimax polynomial of the relative error. double:
/// interpolated at Chebyshev nodes, which at degree 11 is below rounding already.
template <class T>
struct Exp2Coefficients;
template <>
struct Exp2Coefficients<float> {  // relative error 9.2e-8
  static constexpr float c[] = {6.931469776e-01f, 2.402224202e-01f, 5.550733753e-02f,
                                9.671516660e-03f, 1.326473874e-03f};
};
template <>
struct Exp2Coefficients<double> {  // relative error 8e-18
  static constexpr double c[] = {
      6.93147180559945286e-01, 2.40226506959100972e-01, 5.55041086648215970e-02,
      9.61812910760688825e-03, 1.33335581464169356e-03, 1.54035304417360499e-04,
      1.52527338298361192e-05, 1.32154425879216893e-06, 1.01780624458457737e-07,
      7.07258594926922339e-09, 4.45496059818651856e-10};
};

}  // namespace detail

/// exp2() clamps its result at 2^least_exponent (1e-28 in float, 1e-230 in double). That is
/// negligible beside a weight of 1, unless its value is larger by as much. It is large enough for
/// products with values of usual size to stay normal. Subnormal arithmetic is slow, and in heavily
/// masked rows all early keys have such weights.
template <class T>
inline constexpr int least_exponent = std::numeric_limits<T>::min_exponent / 4 * 3;
/// 2^least_exponent.
template <class T>
inline constexpr T least_power =
    std::bit_cast<T>(Int<T>(least_exponent<T> + std::numeric_limits<T>::max_exponent - 1)
                     << (std::numeric_limits<T>::digits - 1));

/// 2^x, for x up to the largest exponent of T; 2^least_exponent for x below least_exponent. The
/// result is neither zero nor subnormal: to mask a score, the caller writes the zero. NaN gives
/// NaN.
///
/// @note Relative error below 2e-7 for float, 4e-16 for double, also under -ffast-math.
template <class T>
HEED_INLINE Batch<T> exp2(Batch<T> x) noexcept {
  // Operand order: x86 returns the second operand if either is NaN, so that NaN stays NaN.
  x = max(Batch<T>(T(least_exponent<T>)), x);
#ifdef XSIMD_NO_SUPPORTED_ARCHITECTURE
  return Batch<T>(std::exp2(x.lane));
#else
  constexpr int mantissa = std::numeric_limits<T>::digits - 1;
  // Adding 1.5 · 2^mantissa rounds x to an integer n and leaves n in the low bits. It avoids the
  // conversion instructions and their ports.
  const Batch<T> magic(T(1.5) * T(Int<T>(1) << mantissa));
  Batch<T> shifted = x + magic;
  detail::opaque(shifted);
  Batch<T> rounded = shifted - magic;
  detail::opaque(rounded);
  const Batch<T> r = x - rounded;

  constexpr auto& c = detail::Exp2Coefficients<T>::c;
  Batch<T> p(c[std::size(c) - 1]);
#pragma GCC unroll 16
  for (int i = int(std::size(c)) - 2; i >= 0; --i) p = fma(p, r, Batch<T>(c[i]));
  p = fma(p, r, Batch<T>(T(1)));
  return detail::reinterpret<T>(detail::reinterpret<Int<T>>(p) +
                                (detail::reinterpret<Int<T>>(shifted) << mantissa));
#endif
}

/// exp2() of one number.
template <class T>
inline T exp2(T x) noexcept {
  return std::exp2(std::max(x, T(least_exponent<T>)));
}

/// The correction factor 2^x for sums whose maximum rises. Zero for x below least_exponent: the sum
/// is negligible then, and repeated small factors would make it subnormal. NaN gives NaN.
template <class T>
inline T correction_factor(T x) noexcept {
  return x < T(least_exponent<T>) ? T(0) : std::exp2(x);
}

}  // namespace heed::inline HEED_ABI::simd
