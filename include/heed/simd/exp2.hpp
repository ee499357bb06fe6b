// SPDX-License-Identifier: MIT
/// @file 2^x: the exponential every softmax here is computed with.
#pragma once

#include "heed/simd/batch.hpp"

namespace heed::inline HEED_ABI::simd {

template <class T>
inline constexpr T log2e = T(1.442695040888963407359924681001892137L);
template <class T>
inline constexpr T ln2 = T(0.693147180559945309417232121458176568L);

namespace detail {

/// 2^r = 1 + r (c₀ + c₁ r + …) on [−½, ½]: float by minimax of the relative error, double
/// interpolated at the Chebyshev nodes, which at degree 11 is already below rounding.
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

/// The least power exp2() gives. Its products with numbers of a usual size are normal numbers: sums
/// of subnormal ones are slow, and where much is masked a row's first keys give nothing else.
/// Beside a weight of 1 it is nothing, 1e-28 of float and 1e-230 of double, unless its value is as
/// much larger.
template <class T>
inline constexpr int least_exponent = std::numeric_limits<T>::min_exponent / 4 * 3;
/// That power.
template <class T>
inline constexpr T least_power =
    std::bit_cast<T>(Int<T>(least_exponent<T> + std::numeric_limits<T>::max_exponent - 1)
                     << (std::numeric_limits<T>::digits - 1));

/// 2^x for x at most the largest exponent of T; below least_exponent, that power. Nothing is
/// subnormal and nothing is zero: who hides a score writes the zero himself. NaN is NaN.
///
/// @note Relative error below 2e-7 for float, 4e-16 for double. Holds under -ffast-math.
template <class T>
HEED_INLINE Batch<T> exp2(Batch<T> x) noexcept {
  // In this order x86 gives the second where either is NaN: NaN comes out as NaN.
  x = max(Batch<T>(T(least_exponent<T>)), x);
#ifdef XSIMD_NO_SUPPORTED_ARCHITECTURE
  return Batch<T>(std::exp2(x.lane));
#else
  constexpr int mantissa = std::numeric_limits<T>::digits - 1;
  // Adding 1.5 · 2^mantissa rounds x to an integer n and leaves n in the low bits, without touching
  // the conversion or multiplication ports.
  const Batch<T> magic(T(1.5) * T(Int<T>(1) << mantissa));
  Batch<T> shifted = x + magic;
  detail::forget(shifted);
  Batch<T> rounded = shifted - magic;
  detail::forget(rounded);
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

/// The same for one number.
template <class T>
inline T exp2(T x) noexcept {
  return std::exp2(std::max(x, T(least_exponent<T>)));
}

/// The factor that lowers what was summed by 2^x: zero below least_exponent, for nothing of it
/// counts any more, and factors of one after the other would make it subnormal. NaN is NaN.
template <class T>
inline T fading(T x) noexcept {
  return x < T(least_exponent<T>) ? T(0) : std::exp2(x);
}

}  // namespace heed::inline HEED_ABI::simd
