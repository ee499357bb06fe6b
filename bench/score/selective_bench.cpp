// SPDX-License-Identifier: MIT
// What does selection cost, beside plain causal attention?
//
//   score.selective_bench --benchmark_filter=N:2048
//
// Eight heads of 64. FLOP/s count the two products alone, so that the price of a selection is the
// ratio of the rates.
#include "forward_pass.hpp"
#include "heed/score/causal.hpp"
#include "heed/score/selective.hpp"
#include "heed/score/standard.hpp"
#include "heed/score/window.hpp"

namespace bench {
namespace {

using heed::causal, heed::selective, heed::standard;

template <class T, class Variant>
void run(benchmark::State& state, const Variant& variant, int threads = 1) {
  const Index tokens = state.range(0);
  forward_pass<T>(state, variant, tokens, 64, causal_pairs(tokens), threads);
}

template <class T>
void Causal(benchmark::State& state) {
  run<T>(state, standard | causal);
}
template <class T>
void Selective(benchmark::State& state) {
  run<T>(state, standard | causal | selective);
}
void SelectiveThreads(benchmark::State& state) {
  run<float>(state, standard | causal | selective, 2);
}
/// Dropping nothing: the price of selection where nothing is forgotten.
template <class T>
void SelectiveAll(benchmark::State& state) {
  const Index tokens = state.range(0);
  forward_pass<T>(state, standard | causal | selective, tokens, 64, causal_pairs(tokens), 1,
                  {.negligible = 0});
}
/// With the memory it leaves, for a loss.
void SelectiveMemory(benchmark::State& state) {
  Tensor<float, 2> memory(1, state.range(0));
  run<float>(state, standard | causal | selective.memory(memory));
}
/// 256 keys a row.
void SelectiveWindow(benchmark::State& state) {
  const Index tokens = state.range(0);
  const heed::Window window = heed::window(255, 0);
  forward_pass<float>(state, standard | causal | window | selective, tokens, 64,
                      heed::visible_pairs(window, tokens));
}
void CausalWindow(benchmark::State& state) {
  const Index tokens = state.range(0);
  const heed::Window window = heed::window(255, 0);
  forward_pass<float>(state, standard | causal | window, tokens, 64,
                      heed::visible_pairs(window, tokens));
}

BENCHMARK(Causal<float>)->Name("Causal")->Apply(tokens)->Apply(best);
BENCHMARK(Selective<float>)->Name("Selective")->Apply(tokens)->Apply(best);
BENCHMARK(SelectiveAll<float>)->Name("SelectiveAll")->Apply(tokens)->Apply(best);
BENCHMARK(SelectiveThreads)->Apply(tokens)->Apply(best)->UseRealTime();
BENCHMARK(SelectiveMemory)->Apply(tokens)->Apply(best);
BENCHMARK(CausalWindow)->Apply(tokens)->Apply(best);
BENCHMARK(SelectiveWindow)->Apply(tokens)->Apply(best);
BENCHMARK(Causal<double>)->Name("CausalDouble")->Apply(tokens)->Apply(best);
BENCHMARK(Selective<double>)->Name("SelectiveDouble")->Apply(tokens)->Apply(best);

}  // namespace
}  // namespace bench
