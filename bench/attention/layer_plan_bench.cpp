// SPDX-License-Identifier: MIT
// Does a plan of mixed spans take the time its cost formula says?
//
//   attention.layer_plan_bench
//
// Eight layers of eight heads of 64, float, one thread; `full` of the layers, evenly spread, see
// everything, the others a span. formula% is LayerPlan::cost_ratio, time% the time over that of
// eight full layers, taken in the same run.
#include "forward_pass.hpp"
#include "heed/attention/layer_plan.hpp"
#include "heed/score/causal.hpp"
#include "heed/score/standard.hpp"

#include <limits>

namespace bench {
namespace {

using heed::causal, heed::LayerPlan, heed::standard;

constexpr Index layers = 8, dim = 64;

template <class Span>
void Plan(benchmark::State& state, const Span& span) {
  const Index tokens = state.range(0);
  const LayerPlan plan = LayerPlan::spread(layers, state.range(1)),
                  all = LayerPlan::top(layers, layers);
  const auto q = random<float, 4>(1, 1, heads, tokens, dim),
             k = random<float, 4>(2, 1, heads, tokens, dim),
             v = random<float, 4>(3, 1, heads, tokens, dim);
  Tensor<float, 4> out(1, heads, tokens, dim);
  heed::Workspace workspace;
  const auto run = [&](const LayerPlan& layered) {
    for (Index layer = 0; layer < layers; ++layer)
      heed::forward(q, k, v, standard | causal | layered.stage(layer, span), out,
                    {.workspace = &workspace});
  };

  double full = std::numeric_limits<double>::max();
  for (int i = 0; i < 3; ++i) {
    const roofline::Stopwatch watch;
    run(all);
    full = std::min(full, watch.seconds());
  }
  const double formula = plan.cost_ratio(span, tokens),
               pairs = formula * double(layers * heads) * causal_pairs(tokens);
  const double seconds = measure<float>(state, {.flop = 4 * double(dim) * pairs, .pairs = pairs},
                                        the_peak, [&] { run(plan); });
  state.counters["formula%"] = 100 * formula;
  state.counters["time%"] = 100 * seconds / full;
}

void plans(benchmark::internal::Benchmark* row) {
  row->ArgNames({"N", "full"})->ArgsProduct({{1024, 4096}, {0, 1, 2, 8}});
  row->Unit(benchmark::kMillisecond);
}
/// As in examples/lm: one layer of four is full, or one of eight.
void as_trained(benchmark::internal::Benchmark* row) {
  row->ArgNames({"N", "full"})->ArgsProduct({{512, 2048}, {layers / 4, layers / 8}});
  row->Unit(benchmark::kMillisecond);
}
BENCHMARK_CAPTURE(Plan, Window256, heed::window(255, 0))->Apply(plans)->Apply(best);
BENCHMARK_CAPTURE(Plan, BlockSpan256, heed::block_span(256))->Apply(plans)->Apply(best);
BENCHMARK_CAPTURE(Plan, BlockSpan256Previous1, heed::block_span(256, 1))->Apply(plans)->Apply(best);
BENCHMARK_CAPTURE(Plan, BlockSpan64, heed::block_span(64))->Apply(as_trained)->Apply(best);

}  // namespace
}  // namespace bench
