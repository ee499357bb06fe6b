// SPDX-License-Identifier: MIT
// What does it cost that scores favour the recent?
//
//   score.recency_bench --benchmark_filter=N:2048
//
// Heads of 64, float, one thread. A steep bias raises the maximum of every row in every tile, and
// what was summed before fades to nothing: it must not pass through subnormal numbers on its way,
// which are many times slower. The default slopes of 32 heads should cost at most 1.2 times the
// causal rows beside them; slope 1, and a forget gate of mean −5 a step, at most 1.2 times slope
// 0.25.
#include "backward_pass.hpp"
#include "heed/score/alibi.hpp"
#include "heed/score/bias.hpp"
#include "heed/score/causal.hpp"
#include "heed/score/standard.hpp"

namespace bench {
namespace {

using heed::causal, heed::standard;

constexpr Index many_heads = 32;

template <class S, class Variant>
void run(benchmark::State& state, const Variant& variant, Index of_heads = heads) {
  const Index tokens = state.range(0);
  forward_pass<S>(state, variant, tokens, 64, causal_pairs(tokens), 1, {}, of_heads);
}
template <class Variant>
void run_backward(benchmark::State& state, const Variant& variant) {
  backward_pass(state, variant, state.range(0));
}

template <class T>
Tensor<T, 1> slopes(T slope) {
  Tensor<T, 1> x(heads);
  x.setConstant(slope);
  return x;
}
/// [1, H, 1, N], the negated sums of a forget gate's logarithms, of mean −5 a step.
Tensor<float, 4> gate(Index tokens) {
  Tensor<float, 4> sums(1, heads, 1, tokens);
  std::mt19937 generator(1);
  std::exponential_distribution<double> step(1 / 5.);
  for (Index h = 0; h < heads; ++h) {
    double sum = 0;
    for (Index j = 0; j < tokens; ++j) sums(0, h, 0, j) = float(sum += step(generator));
  }
  return sums;
}

void CausalManyHeads(benchmark::State& state) {
  run<float>(state, standard | causal, many_heads);
}
void AlibiManyHeads(benchmark::State& state) {
  run<float>(state, standard | heed::alibi() | causal, many_heads);
}
template <class T, class S>
void Slope(benchmark::State& state) {
  const Tensor<T, 1> steep = slopes(T(double(state.range(1)) / 100));
  run<S>(state, standard | heed::alibi(steep) | causal);
}
void ForgetGate(benchmark::State& state) {
  const Tensor<float, 4> sums = gate(state.range(0));
  run<float>(state, standard | heed::bias(sums) | causal);
}
void SlopeBackward(benchmark::State& state) {
  const Tensor<float, 1> steep = slopes(float(double(state.range(1)) / 100));
  run_backward(state, standard | heed::alibi(steep) | causal);
}
void ForgetGateBackward(benchmark::State& state) {
  const Tensor<float, 4> sums = gate(state.range(0));
  run_backward(state, standard | heed::bias(sums) | causal);
}

/// Slopes in hundredths.
void steepness(benchmark::internal::Benchmark* row) {
  row->ArgNames({"N", "slope"})->Unit(benchmark::kMillisecond);
  for (const Index slope : {25, 84, 100, 800}) row->Args({2048, slope});
}

BENCHMARK(CausalManyHeads)->Apply(tokens)->Apply(best);
BENCHMARK(AlibiManyHeads)->Apply(tokens)->Apply(best);
BENCHMARK(Slope<float, float>)->Apply(steepness)->Apply(best);
BENCHMARK(Slope<double, double>)->Apply(steepness)->Apply(best);
BENCHMARK(Slope<float, Eigen::bfloat16>)->Apply(steepness)->Apply(best);
BENCHMARK(ForgetGate)->Apply(tokens)->Apply(best);
BENCHMARK(SlopeBackward)->Apply(steepness)->Apply(best);
BENCHMARK(ForgetGateBackward)->Apply(tokens)->Apply(best);

}  // namespace
}  // namespace bench
