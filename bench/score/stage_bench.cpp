// SPDX-License-Identifier: MIT
// What does a stage that changes scores cost, beside plain causal attention?
//
//   score.stage_bench --benchmark_filter=N:2048
//
// Eight heads of 64, float, one thread. FLOP/s count the two products alone, so that a stage's
// price is the ratio of the rates.
#include "forward_pass.hpp"
#include "heed/score/alibi.hpp"
#include "heed/score/bias.hpp"
#include "heed/score/boolean_mask.hpp"
#include "heed/score/causal.hpp"
#include "heed/score/score_rule.hpp"
#include "heed/score/sinks.hpp"
#include "heed/score/softcap.hpp"
#include "heed/score/stage.hpp"
#include "heed/score/standard.hpp"
#include "heed/score/temperature.hpp"
#include "heed/score/when.hpp"

namespace bench {
namespace {

using heed::causal, heed::standard;

template <class Variant>
void run(benchmark::State& state, const Variant& variant) {
  const Index tokens = state.range(0);
  forward_pass<float>(state, variant, tokens, 64, causal_pairs(tokens));
}

void Causal(benchmark::State& state) {
  run(state, standard | causal);
}
void Softcap(benchmark::State& state) {
  run(state, standard | heed::softcap(30) | causal);
}
/// A stage that is off at run time.
void SoftcapOff(benchmark::State& state) {
  run(state, standard | heed::when(false, heed::softcap(30)) | causal);
}
/// [1, 1, N, N], shared by the heads.
void Bias(benchmark::State& state) {
  const Index tokens = state.range(0);
  const auto values = random<float, 4>(4, 1, 1, tokens, tokens);
  run(state, standard | heed::bias(values) | causal);
}
/// [1, 1, N, N] of bytes, nine of ten set: no tile is full or empty.
void Mask(benchmark::State& state) {
  const Index tokens = state.range(0);
  const auto numbers = random<float, 4>(8, 1, 1, tokens, tokens);
  Tensor<bool, 4> seen(1, 1, tokens, tokens);
  for (Index i = 0; i < seen.size(); ++i) seen.data()[i] = numbers.data()[i] > -1.28f;
  run(state, standard | heed::boolean_mask(seen) | causal);
}
void Alibi(benchmark::State& state) {
  run(state, standard | heed::alibi() | causal);
}
void ScoreRule(benchmark::State& state) {
  run(state, standard | heed::score_rule([](auto s, const auto& at) {
               return s - at.distance() * at.distance() * decltype(s)(1e-6f);
             }) | causal);
}
void Sinks(benchmark::State& state) {
  const auto logits = random<float, 1>(5, heads);
  run(state, standard | causal | heed::sinks(logits));
}
/// On queries and values, the pair arXiv:2411.12892 recommends.
void Temperature(benchmark::State& state) {
  const Index tokens = state.range(0);
  const auto tau_q = random<float, 3>(6, 1, heads, tokens),
             tau_v = random<float, 3>(7, 1, heads, tokens);
  run(state, heed::query_temperature(tau_q) | heed::value_temperature(tau_v) | standard | causal);
}

BENCHMARK(Causal)->Apply(tokens)->Apply(best);
BENCHMARK(Softcap)->Apply(tokens)->Apply(best);
BENCHMARK(SoftcapOff)->Apply(tokens)->Apply(best);
BENCHMARK(Bias)->Apply(tokens)->Apply(best);
BENCHMARK(Mask)->Apply(tokens)->Apply(best);
BENCHMARK(Alibi)->Apply(tokens)->Apply(best);
BENCHMARK(ScoreRule)->Apply(tokens)->Apply(best);
BENCHMARK(Sinks)->Apply(tokens)->Apply(best);
BENCHMARK(Temperature)->Apply(tokens)->Apply(best);

}  // namespace
}  // namespace bench
