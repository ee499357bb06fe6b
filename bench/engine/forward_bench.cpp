// SPDX-License-Identifier: MIT
// What share of the multiply-add peak does the forward pass reach, from short texts to long ones,
// from narrow heads to wide ones, in float, double and bfloat16, on one thread and on several?
//
//   engine.forward_bench --benchmark_filter='Causal<float>' --benchmark_repetitions=5
//
// Eight heads. peak% is of the peak measured at the start of the same run.
#include "forward_pass.hpp"
#include "heed/engine/forward.hpp"
#include "heed/score/causal.hpp"
#include "heed/score/standard.hpp"

namespace bench {
namespace {

using heed::causal, heed::standard;

template <class T>
void Causal(benchmark::State& state) {
  const Index tokens = state.range(0);
  forward_pass<T>(state, standard | causal, tokens, state.range(1), causal_pairs(tokens));
}
/// bfloat16, multiplied in a way of one's own choice.
template <heed::Bfloat16 By>
void CausalBy(benchmark::State& state) {
  const Index tokens = state.range(0);
  if (heed::detail::available(By) != By) return state.SkipWithError("not on this processor");
  forward_pass<Eigen::bfloat16>(state, standard | causal, tokens, state.range(1),
                                causal_pairs(tokens), 1, {.bfloat16 = By});
}
template <class T>
void Standard(benchmark::State& state) {
  const Index tokens = state.range(0);
  forward_pass<T>(state, standard, tokens, state.range(1), double(tokens) * double(tokens));
}
template <class T>
void CausalThreads(benchmark::State& state) {
  const Index tokens = state.range(0);
  forward_pass<T>(state, standard | causal, tokens, state.range(1), causal_pairs(tokens),
                  int(state.range(2)));
}

void lengths(benchmark::internal::Benchmark* row) {
  row->ArgNames({"N", "D"})->ArgsProduct({{128, 256, 512, 1024, 2048, 4096}, {64, 128}});
}
void long_ones(benchmark::internal::Benchmark* row) {
  row->ArgNames({"N", "D"})->ArgsProduct({{2048}, {64, 128}})->Unit(benchmark::kMillisecond);
}
void dims(benchmark::internal::Benchmark* row) {
  row->ArgNames({"N", "D"})->ArgsProduct({{1024}, {32, 40, 80, 96, 112, 256}});
}
void threads(benchmark::internal::Benchmark* row) {
  row->ArgNames({"N", "D", "threads"})->ArgsProduct({{512, 2048}, {64}, {2}})->UseRealTime();
}

BENCHMARK(Causal<float>)->Apply(lengths)->Apply(dims)->Apply(best)->Unit(benchmark::kMillisecond);
BENCHMARK(Causal<Eigen::bfloat16>)
    ->Apply(lengths)
    ->Apply(dims)
    ->Apply(best)
    ->Unit(benchmark::kMillisecond);
BENCHMARK(CausalBy<heed::Bfloat16::tiles>)->Apply(long_ones)->Apply(best);
BENCHMARK(CausalBy<heed::Bfloat16::pairs>)->Apply(long_ones)->Apply(best);
BENCHMARK(CausalBy<heed::Bfloat16::widened>)->Apply(long_ones)->Apply(best);
BENCHMARK(Causal<double>)->Apply(lengths)->Apply(dims)->Apply(best)->Unit(benchmark::kMillisecond);
BENCHMARK(Standard<float>)->Apply(lengths)->Apply(best)->Unit(benchmark::kMillisecond);
BENCHMARK(Standard<double>)->Apply(lengths)->Apply(best)->Unit(benchmark::kMillisecond);
BENCHMARK(CausalThreads<float>)->Apply(threads)->Apply(best)->Unit(benchmark::kMillisecond);
BENCHMARK(CausalThreads<double>)->Apply(threads)->Apply(best)->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace bench
