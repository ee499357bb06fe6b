// SPDX-License-Identifier: MIT
// How many powers of two a second, from and to the first-level cache, beside xsimd's own?
//
//   simd.exp2_bench
//
// exp/s: a score costs 4 D floating-point operations and one of these.
#include "heed/simd/exp2.hpp"
#include "measure.hpp"

namespace bench {
namespace {

using heed::Index, heed::simd::Batch;

/// Applies f to 1024 numbers between −20 and 0, where scores less their maximum lie.
template <class T, class F>
void apply(benchmark::State& state, F&& f) {
  constexpr Index count = 1024, width = heed::simd::width<T>;
  std::vector<T> x(count), y(count);
  for (Index i = 0; i < count; ++i) x[std::size_t(i)] = T(-20) * T(i) / T(count);
  measure<T>(state, {}, nothing, [&] {
    for (Index i = 0; i < count; i += width)
      f(heed::simd::load(&x[std::size_t(i)])).store_unaligned(&y[std::size_t(i)]);
    benchmark::DoNotOptimize(y.data());
  });
  state.counters["exp/s"] =
      benchmark::Counter(double(count), benchmark::Counter::kIsIterationInvariantRate);
}

template <class T>
void Heed(benchmark::State& state) {
  apply<T>(state, [](const Batch<T>& x) { return heed::simd::exp2(x); });
}
BENCHMARK(Heed<float>)->Apply(best);
BENCHMARK(Heed<double>)->Apply(best);

#ifndef XSIMD_NO_SUPPORTED_ARCHITECTURE
template <class T>
void Xsimd(benchmark::State& state) {
  apply<T>(state, [](const Batch<T>& x) { return xsimd::exp2(x); });
}
BENCHMARK(Xsimd<float>)->Apply(best);
BENCHMARK(Xsimd<double>)->Apply(best);
#endif

}  // namespace
}  // namespace bench
