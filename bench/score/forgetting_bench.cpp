// SPDX-License-Identifier: MIT
// What is won by dropping the keys that selection has masked for good?
//
//   score.forgetting_bench --benchmark_filter=N:4096
//
// Eight heads of 64. Of the keys so many in a hundred are voted against by every row, hard enough
// to be dead after a few; the others by none. Or (Trained): queries and keys of a layer's selecting
// head in a language model, examples/lm, for all of eight heads of 32. FLOP/s count all visible
// pairs, dead or not; `work%` is what was computed of the pairs that are visible, so that 100 /
// work% times the rate of `All` is as fast as dropping can be.
#include "attend/npy.hpp"
#include "forward_pass.hpp"
#include "heed/score/causal.hpp"
#include "heed/score/selective.hpp"
#include "heed/score/standard.hpp"

#include <filesystem>

namespace bench {
namespace {

constexpr Index dim = 64;

/// A layer of bench/data/NAME, [layers, tokens, D], once for every head.
Tensor<float, 4> trained(const char* name, Index layer) {
  const npy::Array all = npy::read(std::filesystem::path(HEED_BENCH_DATA) / name);
  Tensor<float, 4> x(1, heads, all.shape.at(1), all.shape.at(2));
  const Index size = Index(x.size()) / heads;
  for (Index h = 0; h < heads; ++h)
    std::copy_n(all.values<float>().data() + layer * size, size, x.data() + h * size);
  return x;
}

struct Inputs {
  Tensor<float, 4> q, k, v;

  explicit Inputs(Index layer)
      : q(trained("selecting_q.npy", layer)), k(trained("selecting_k.npy", layer)), v(q) {
    fill(v, 3);
  }

  /// Head 0's queries all point one way; doomed keys with them, the others against.
  Inputs(Index tokens, Index doomed_percent)
      : q(random<float, 4>(1, 1, heads, tokens, dim)),
        k(random<float, 4>(2, 1, heads, tokens, dim)),
        v(random<float, 4>(3, 1, heads, tokens, dim)) {
    std::mt19937 generator(4);
    for (Index i = 0; i < tokens; ++i) {
      const float side = Index(generator() % 100) < doomed_percent ? 1.f : -1.f;
      for (Index d = 0; d < dim; ++d) q(0, 0, i, d) = 1, k(0, 0, i, d) = side;
    }
  }
};

void run(benchmark::State& state, const Inputs& x, std::optional<double> negligible) {
  const Index tokens = x.q.dimension(2);
  Tensor<float, 4> out(x.v.dimensions());
  heed::Workspace workspace;
  const heed::Options options{.workspace = &workspace, .negligible = negligible};
  const double pairs = causal_pairs(tokens) * double(heads);
  heed::WorkStats visited;
  measure<float>(
      state, {.flop = 4 * double(x.q.dimension(3)) * pairs, .pairs = pairs}, the_peak, [&] {
        visited = heed::forward(x.q, x.k, x.v, heed::standard | heed::causal | heed::selective, out,
                                options);
      });
  state.counters["work%"] = 100 * double(visited.pairs) / pairs;
  state.counters["dropped"] = visited.dropped;
}
void All(benchmark::State& state) {
  run(state, Inputs(state.range(0), state.range(1)), 0);
}
void Dropping(benchmark::State& state) {
  run(state, Inputs(state.range(0), state.range(1)), std::nullopt);
}
void TrainedAll(benchmark::State& state) {
  run(state, Inputs(state.range(0)), 0);
}
void TrainedDropping(benchmark::State& state) {
  run(state, Inputs(state.range(0)), std::nullopt);
}

void shares(benchmark::internal::Benchmark* row) {
  row->ArgNames({"N", "dead%"})
      ->ArgsProduct({{1024, 4096}, {0, 50, 75, 90}})
      ->Unit(benchmark::kMillisecond);
}
void layers(benchmark::internal::Benchmark* row) {
  row->ArgName("layer")->DenseRange(0, 3)->Unit(benchmark::kMillisecond);
}
BENCHMARK(All)->Apply(shares)->Apply(best);
BENCHMARK(Dropping)->Apply(shares)->Apply(best);
BENCHMARK(TrainedAll)->Apply(layers)->Apply(best);
BENCHMARK(TrainedDropping)->Apply(layers)->Apply(best);

}  // namespace
}  // namespace bench
