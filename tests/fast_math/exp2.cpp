// SPDX-License-Identifier: MIT
// Built with -ffast-math: the power of two every softmax is made of. It rounds by adding a large
// number and taking it away again, which a compiler that may reassociate would gladly leave out.
#include "heed/simd/exp2.hpp"

#include <cmath>
#include <cstdio>
#include <limits>

namespace {

int failures = 0;

template <class T>
void powers_are_exact_enough(double allowed) {
  using Limits = std::numeric_limits<T>;
  constexpr heed::Index width = heed::simd::width<T>;
  const double least = heed::simd::least_exponent<T>, most = Limits::max_exponent - 1;
  double worst = 0;
  for (int step = 0; step < 100000; ++step) {
    T x[std::size_t(width)], y[std::size_t(width)];
    for (heed::Index i = 0; i < width; ++i)
      x[i] = T(least + (most - least) * (double(step) + double(i) / double(width)) / 100000);
    heed::simd::exp2(heed::simd::load(x)).store_unaligned(y);
    for (heed::Index i = 0; i < width; ++i) {
      const long double want = std::exp2(static_cast<long double>(x[i]));
      const double error = double(std::abs(static_cast<long double>(y[i]) - want) / want);
      if (error > worst) worst = error;
    }
  }
  if (worst < allowed) return;
  std::printf("exp2 of %zu-byte numbers is off by %g, allowed %g\n", sizeof(T), worst, allowed);
  ++failures;
}

template <class T>
void lowest_scores_give_the_least_power() {
  constexpr int least = heed::simd::least_exponent<T>;
  T y[std::size_t(heed::simd::width<T>)];
  for (const T x : {T(least), T(-1e30), std::numeric_limits<T>::lowest()}) {
    heed::simd::exp2(heed::simd::Batch<T>(x)).store_unaligned(y);
    if (y[0] == std::ldexp(T(1), least)) continue;
    std::printf("exp2(%g) of %zu-byte numbers is %g\n", double(x), sizeof(T), double(y[0]));
    ++failures;
  }
}

}  // namespace

int main() {
  powers_are_exact_enough<float>(2e-7);
  powers_are_exact_enough<double>(4e-16);
  lowest_scores_give_the_least_power<float>();
  lowest_scores_give_the_least_power<double>();
  return failures == 0 ? 0 : 1;
}
