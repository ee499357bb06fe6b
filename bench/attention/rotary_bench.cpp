// SPDX-License-Identifier: MIT
// What does it cost to turn queries and keys, beside the causal attention behind?
//
//   attention.rotary_bench --benchmark_repetitions=5
//
// One sequence of N tokens, `heads` heads of 64, one thread; q and k are both turned. Angles: every
// call makes its own. Table: cosines and sines are ready. causal% is the time over that of
// forward() under a causal mask on the same tensors, the least of many, taken in turn with this.
#include "forward_pass.hpp"
#include "heed/attention/rotary.hpp"
#include "heed/score/causal.hpp"
#include "heed/score/standard.hpp"

#include <algorithm>
#include <limits>

namespace bench {
namespace {

constexpr Index dim = 64;

template <class S, class Turn>
void beside_causal(benchmark::State& state, Turn&& turn) {
  const Index tokens = state.range(0), several = state.range(1);
  const auto tensor = [&](unsigned seed) -> Tensor<S, 4> {
    return random<float, 4>(seed, 1, several, tokens, dim).cast<S>();
  };
  Tensor<S, 4> q = tensor(1), k = tensor(2);
  const Tensor<S, 4> v = tensor(3);
  Tensor<float, 4> out(1, several, tokens, dim);
  heed::Workspace workspace;
  const auto attend = [&] {
    heed::forward(q, k, v, heed::standard | heed::causal, out, {.workspace = &workspace});
  };

  double causal = std::numeric_limits<double>::max(), turned = causal;
  const auto take = [](double& least, auto&& call) {
    const roofline::Stopwatch watch;
    call();
    least = std::min(least, watch.seconds());
  };
  attend();
  for (int i = 0; i < (tokens < 1000 ? 200 : 30); ++i) {
    take(causal, attend);
    for (int j = 0; j < 3; ++j)  // the first finds q and k where attention left them
      take(turned, [&] { turn(q), turn(k); });
  }
  const double numbers = 2. * double(several * tokens * dim);
  measure<float>(state, {.flop = 3 * numbers, .bytes = 2 * double(sizeof(S)) * numbers}, nothing,
                 [&] { turn(q), turn(k); });
  state.counters["causal%"] = 100 * turned / causal;
}

template <class S, heed::RotaryOptions::Pairs pairs>
void Angles(benchmark::State& state) {
  beside_causal<S>(state, [](auto& x) { heed::rotary(x, {.pairs = pairs}); });
}
template <class S, heed::RotaryOptions::Pairs pairs>
void Table(benchmark::State& state) {
  const heed::RotaryTable<float> table(dim, 0, state.range(0));
  beside_causal<S>(state, [&](auto& x) { heed::rotary(x, table, {.pairs = pairs}); });
}

void sizes(benchmark::internal::Benchmark* row) {
  row->ArgNames({"N", "heads"})->Args({300, 10})->Args({2048, 8})->Unit(benchmark::kMicrosecond);
}
constexpr auto half_split = heed::RotaryOptions::half_split,
               interleaved = heed::RotaryOptions::interleaved;
BENCHMARK(Angles<float, half_split>)->Apply(sizes)->Apply(best);
BENCHMARK(Angles<float, interleaved>)->Apply(sizes)->Apply(best);
BENCHMARK(Angles<Eigen::bfloat16, half_split>)->Apply(sizes)->Apply(best);
BENCHMARK(Angles<Eigen::bfloat16, interleaved>)->Apply(sizes)->Apply(best);
BENCHMARK(Table<float, half_split>)->Apply(sizes)->Apply(best);
BENCHMARK(Table<float, interleaved>)->Apply(sizes)->Apply(best);
BENCHMARK(Table<Eigen::bfloat16, half_split>)->Apply(sizes)->Apply(best);
BENCHMARK(Table<Eigen::bfloat16, interleaved>)->Apply(sizes)->Apply(best);

}  // namespace
}  // namespace bench
