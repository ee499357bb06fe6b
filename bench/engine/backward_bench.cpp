// SPDX-License-Identifier: MIT
// What share of the multiply-add peak does the backward pass reach, and what does selection cost
// there?
//
//   engine.backward_bench --benchmark_filter=N:1024
//
// Eight heads of 64, float, one thread or two. FLOP/s count the five products of the backward pass,
// of which the scores are one already computed by the forward pass.
#include "backward_pass.hpp"
#include "heed/score/causal.hpp"
#include "heed/score/selective.hpp"
#include "heed/score/standard.hpp"

namespace bench {
namespace {

template <class Variant>
void run(benchmark::State& state, const Variant& variant, std::optional<double> negligible = {},
         int threads = 1) {
  backward_pass(state, variant, state.range(0), negligible, threads);
}

void Causal(benchmark::State& state) {
  run(state, heed::standard | heed::causal);
}
void Selective(benchmark::State& state) {
  run(state, heed::standard | heed::causal | heed::selective);
}
/// Leaving nothing out: the price of selection where nothing is forgotten.
void SelectiveAll(benchmark::State& state) {
  run(state, heed::standard | heed::causal | heed::selective, 0.);
}
void CausalThreads(benchmark::State& state) {
  run(state, heed::standard | heed::causal, {}, 2);
}
void SelectiveAllThreads(benchmark::State& state) {
  run(state, heed::standard | heed::causal | heed::selective, 0., 2);
}
BENCHMARK(Causal)->Apply(tokens)->Apply(best);
BENCHMARK(Selective)->Apply(tokens)->Apply(best);
BENCHMARK(SelectiveAll)->Apply(tokens)->Apply(best);
BENCHMARK(CausalThreads)->Apply(tokens)->Apply(best)->UseRealTime();
BENCHMARK(SelectiveAllThreads)->Apply(tokens)->Apply(best)->UseRealTime();

}  // namespace
}  // namespace bench
