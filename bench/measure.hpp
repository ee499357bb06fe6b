// SPDX-License-Identifier: MIT
/// @file
/// One row of a benchmark: the work a call does, over its time, against what this machine can do.
#pragma once

#include "roofline.hpp"

#include <benchmark/benchmark.h>

#include <algorithm>
#include <vector>

namespace bench {

/// The work of one call; zeros are not reported.
struct Work {
  double flop = 0;   ///< useful floating-point operations, a multiply-add counting two
  double pairs = 0;  ///< (query, key, head) that are visible
  double bytes = 0;  ///< read and written
  int threads = 1;
};

/// The multiply-add peak of this machine, measured when first asked for: in the same run.
template <class T>
double peak(int threads) {
  if (threads > 1) {
    static const double several = roofline::multiply_add_peak<T>(threads);
    return several;
  }
  static const double one = roofline::multiply_add_peak<T>();
  return one;
}

/// The same for bytes read from memory, on one thread.
inline double stream() {
  static const double bandwidth = roofline::read_bandwidth();
  return bandwidth;
}

/// What of a row is asked.
enum Against { nothing, the_peak, the_stream };

/// The counters of a row whose call took so many seconds.
template <class T>
void count(benchmark::State& state, const Work& work, double seconds, Against against) {
  const auto rate = [&](const char* name, double amount) {
    if (amount > 0) state.counters[name] = amount / seconds;
  };
  rate("FLOP/s", work.flop);
  rate("pairs/s", work.pairs);
  rate("bytes/s", work.bytes);
  if (against == the_peak)
    state.counters["peak%"] = 100 * work.flop / seconds / peak<T>(work.threads);
  if (against == the_stream) state.counters["stream%"] = 100 * work.bytes / seconds / stream();
}

/// Times call() and counts its work. Returns the seconds a call takes.
template <class T, class Call>
double measure(benchmark::State& state, const Work& work, Against against, Call&& call) {
  call();  // takes memory, touches pages
  const roofline::Stopwatch watch(work.threads);
  for (auto _ : state) {
    call();
    benchmark::ClobberMemory();
  }
  const double seconds = watch.seconds() / double(state.iterations());
  count<T>(state, work, seconds, against);
  return seconds;
}

/// With --benchmark_repetitions: the least time is in the row `min`, the highest rates are in the
/// row `max`. Anything slower is the machine's doing.
inline void best(benchmark::internal::Benchmark* row) {
  row->ComputeStatistics(
         "min", [](const std::vector<double>& x) { return *std::min_element(x.begin(), x.end()); })
      ->ComputeStatistics("max", [](const std::vector<double>& x) {
        return *std::max_element(x.begin(), x.end());
      });
}

}  // namespace bench
