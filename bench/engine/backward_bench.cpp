// SPDX-License-Identifier: MIT
// What share of the multiply-add peak does the backward pass reach, and what does selection cost
// there?
//
//   engine.backward_bench --benchmark_filter=N:1024
//
// Eight heads of 64, float, one thread or two. FLOP/s count the five products of the backward pass,
// of which the scores are one already computed by the forward pass.
#include "forward_pass.hpp"
#include "heed/core/thread_pool.hpp"
#include "heed/engine/backward.hpp"
#include "heed/score/causal.hpp"
#include "heed/score/selective.hpp"
#include "heed/score/standard.hpp"

namespace bench {
namespace {

template <class Variant>
void run(benchmark::State& state, const Variant& variant, std::optional<double> negligible = {},
         int threads = 1) {
  constexpr Index dim = 64;
  const Index tokens = state.range(0);
  const auto numbers = [&](unsigned seed) { return random<float, 4>(seed, 1, heads, tokens, dim); };
  const auto q = numbers(1), k = numbers(2), v = numbers(3), grad_out = numbers(4);
  Tensor<float, 4> out(1, heads, tokens, dim), grad_q = out, grad_k = out, grad_v = out;
  Tensor<float, 3> lse(1, heads, tokens);
  heed::Workspace workspace;
  Eigen::ThreadPool pool(threads);
  const heed::Options options{threads > 1 ? heed::executor(pool) : heed::serial(), &workspace,
                              negligible};
  heed::forward(q, k, v, variant, out, lse, options);

  const double pairs = causal_pairs(tokens) * double(heads);
  heed::WorkStats visited;
  measure<float>(
      state, {.flop = 10 * double(dim) * pairs, .pairs = pairs, .threads = threads}, the_peak, [&] {
        visited =
            heed::backward(q, k, v, variant, out, lse, grad_out, grad_q, grad_k, grad_v, options);
      });
  state.counters["computed%"] = 100 * double(visited.pairs) / pairs;  // 100: no pair in vain
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
