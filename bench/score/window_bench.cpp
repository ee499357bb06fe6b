// SPDX-License-Identifier: MIT
// Does a mask cost what it shows?
//
//   score.window_bench --benchmark_filter=N:2048
//
// Eight heads of 64, float, one thread. Beside plain causal attention: intervals of keys (window,
// block span, documents) and masks that are read pair by pair. FLOP/s count visible pairs alone;
// computed% is what register tiles and blocks add to them.
#include "forward_pass.hpp"
#include "heed/score/block_span.hpp"
#include "heed/score/boolean_mask.hpp"
#include "heed/score/causal.hpp"
#include "heed/score/documents.hpp"
#include "heed/score/standard.hpp"
#include "heed/score/window.hpp"

namespace bench {
namespace {

using heed::causal, heed::standard;

template <class Variant>
void run(benchmark::State& state, const Variant& variant, double pairs) {
  forward_pass<float>(state, variant, state.range(0), 64, pairs);
}

void Causal(benchmark::State& state) {
  run(state, standard | causal, causal_pairs(state.range(0)));
}
/// 256 keys a row.
void Window(benchmark::State& state) {
  const heed::Window window = heed::window(255, 0);
  run(state, standard | causal | window, heed::visible_pairs(window, state.range(0)));
}
/// 256 keys a row at most, half of them on average.
void BlockSpan(benchmark::State& state) {
  const heed::BlockSpan span = heed::block_span(256);
  run(state, standard | causal | span, heed::visible_pairs(span, state.range(0)));
}
/// Four documents of equal length.
void Documents(benchmark::State& state) {
  const Index tokens = state.range(0);
  Tensor<std::int64_t, 2> ids(1, tokens);
  for (Index n = 0; n < tokens; ++n) ids(0, n) = n / (tokens / 4);
  run(state, standard | causal | heed::documents(ids), 4 * causal_pairs(tokens / 4));
}

/// The causal mask itself as a tensor, shared by the heads: what a table costs over an interval.
void MaskCausal(benchmark::State& state) {
  const Index tokens = state.range(0);
  Tensor<std::uint8_t, 4> mask(1, 1, tokens, tokens);
  for (Index i = 0; i < tokens; ++i)
    for (Index j = 0; j < tokens; ++j) mask(0, 0, i, j) = j <= i;
  run(state, standard | heed::boolean_mask(mask), causal_pairs(tokens));
}
/// Three pairs of four, at random: no block is fully masked or fully visible.
void MaskRandom(benchmark::State& state) {
  const Index tokens = state.range(0);
  Tensor<std::uint8_t, 4> mask(1, 1, tokens, tokens);
  std::mt19937 generator(8);
  double pairs = 0;
  for (Index i = 0; i < tokens; ++i)
    for (Index j = 0; j < tokens; ++j) {
      mask(0, 0, i, j) = generator() % 4 != 0;
      pairs += j <= i && mask(0, 0, i, j);
    }
  run(state, standard | causal | heed::boolean_mask(mask), pairs);
}

BENCHMARK(Causal)->Apply(tokens)->Apply(best);
BENCHMARK(Window)->Apply(tokens)->Apply(best);
BENCHMARK(BlockSpan)->Apply(tokens)->Apply(best);
BENCHMARK(Documents)->Apply(tokens)->Apply(best);
BENCHMARK(MaskCausal)->Apply(tokens)->Apply(best);
BENCHMARK(MaskRandom)->Apply(tokens)->Apply(best);

}  // namespace
}  // namespace bench
