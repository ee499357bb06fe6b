// SPDX-License-Identifier: MIT
/// @file
/// What this machine can do at most, measured: multiply-adds and bytes from memory per second, with
/// the instruction set of the build. Every speed is held against these, in the same run.
#pragma once

#include "heed/simd/operand.hpp"

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <ctime>
#include <latch>
#include <thread>
#include <utility>
#include <vector>

namespace roofline {

/// Time passed. One thread is timed by the processor time it had, which a neighbour's work does not
/// lengthen; several by the clock on the wall.
class Stopwatch {
 public:
  explicit Stopwatch(int threads = 1) : wall_(threads > 1), start_(now()) {}
  double seconds() const { return now() - start_; }

 private:
  double now() const {
    using Clock = std::chrono::steady_clock;
    return wall_ ? std::chrono::duration<double>(Clock::now().time_since_epoch()).count()
                 : double(std::clock()) / CLOCKS_PER_SEC;
  }

  bool wall_;
  double start_;
};

/// Runs work(thread) on so many threads at once and returns the seconds between their common start
/// and the end of the last.
template <class Work>
double seconds_together(int threads, const Work& work) {
  std::latch ready(threads), go(1);
  std::vector<std::jthread> others;
  for (int thread = 1; thread < threads; ++thread)
    others.emplace_back([&, thread] {
      ready.count_down();
      go.wait();
      work(thread);
    });
  ready.arrive_and_wait();
  const Stopwatch watch(threads);
  go.count_down();
  work(0);
  others.clear();  // joins
  return watch.seconds();
}

namespace detail {

/// Where results go, so that no compiler drops the work.
template <class T>
inline volatile T sink;

/// x ← x·factor + shift on independent registers, `rounds` times. Twelve hide a latency of up to
/// four cycles on two or three pipes, and with the two constants still fit sixteen registers.
template <class T, std::size_t... I>
[[gnu::noinline]] void multiply_add(std::ptrdiff_t rounds, std::index_sequence<I...>) {
  using Batch = heed::simd::Batch<T>;
  const volatile T opaque_factor = T(0.999), opaque_shift = T(1e-3);
  const Batch factor(T{opaque_factor}), shift(T{opaque_shift});
  const volatile T opaque_start[] = {T(I)...};  // equal chains would be computed once
  std::array<Batch, sizeof...(I)> x{Batch(T{opaque_start[I]})...};
  for (std::ptrdiff_t round = 0; round < rounds; ++round)
    ((x[I] = heed::simd::fma(x[I], factor, shift)), ...);
  Batch sum(T(0));
  ((sum = sum + x[I]), ...);
  sink<T> = heed::simd::reduce_add(sum);
}

/// The same of pairs of bfloat16, whose instruction adds to the sum alone.
template <class Pair, std::size_t... I>
requires std::same_as<Pair, heed::simd::Bfloat16Pair>
[[gnu::noinline]] void multiply_add(std::ptrdiff_t rounds, std::index_sequence<I...>) {
  using Of = heed::simd::Operand<Pair>;
  using Batch = heed::simd::Batch<float>;
  const volatile std::uint32_t opaque = 0x3c003c00;  // two small numbers
  const auto factor = Of::broadcast({opaque});
  std::array<Batch, sizeof...(I)> x{Batch(float(I))...};
  for (std::ptrdiff_t round = 0; round < rounds; ++round)
    ((x[I] = Of::multiply_add(factor, factor, x[I])), ...);
  Batch sum(0.f);
  ((sum = sum + x[I]), ...);
  sink<float> = heed::simd::reduce_add(sum);
}

}  // namespace detail

/// Floating-point operations a second, a multiply-add counting two, on so many threads at once; T
/// is a number or a simd::Bfloat16Pair. Where the build has no fused instruction, a product and a
/// sum. The best of many runs of half a millisecond, of which some pass undisturbed on a busy
/// machine too: 0.1 s in all.
template <class T>
double multiply_add_peak(int threads = 1) {
  constexpr std::size_t registers = 12;
  constexpr std::ptrdiff_t rounds = 150'000;
  constexpr int runs = 200;
  constexpr double operations =
      2. * double(rounds) * double(registers) * double(heed::simd::Operand<T>::numbers) *
      double(heed::simd::Batch<typename heed::simd::Operand<T>::Sum>::size);
  double best = 0;
  for (int run = 0; run < runs; ++run) {
    const double seconds = seconds_together(threads, [&](int) {
      detail::multiply_add<T>(rounds, std::make_index_sequence<registers>());
    });
    best = std::max(best, operations * threads / seconds);
  }
  return best;
}

/// Bytes read from memory a second on so many threads: a sum over arrays far larger than any cache,
/// each thread in one stream or in eight side by side; the faster one here counts.
inline double read_bandwidth(int threads = 1) {
  using Batch = heed::simd::Batch<float>;
  constexpr std::size_t bytes = std::size_t(256) << 20, line = 64 / sizeof(float);
  constexpr int runs = 4;
  const std::size_t share = bytes / sizeof(float) / std::size_t(threads);
  const std::vector<float> data(share * std::size_t(threads), 1.f);

  const auto read = [&](int thread, std::size_t streams) {
    const std::size_t length = share / streams / line * line;
    const float* x = data.data() + share * std::size_t(thread);
    std::array<Batch, 4> sum;  // one alone would wait for its own latency
    sum.fill(Batch(0.f));
    for (std::size_t i = 0; i < length; i += line)
      for (std::size_t stream = 0; stream < streams; ++stream)
        for (std::size_t j = 0; j < line; j += Batch::size) {
          Batch& part = sum[(stream + j / Batch::size) % sum.size()];
          part = part + heed::simd::load(x + stream * length + i + j);
        }
    detail::sink<float> = heed::simd::reduce_add((sum[0] + sum[1]) + (sum[2] + sum[3]));
  };
  double best = 0;
  for (int run = 0; run < runs; ++run)
    for (const std::size_t streams : {std::size_t(1), std::size_t(8)}) {
      const double seconds = seconds_together(threads, [&](int thread) { read(thread, streams); });
      best = std::max(best, double(data.size() * sizeof(float)) / seconds);
    }
  return best;
}

}  // namespace roofline
