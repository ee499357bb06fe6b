// SPDX-License-Identifier: MIT
// Does a token cost the same at every position once a buffer evicts, and what does it cost in
// one that does not? What does a chunk save?
//
//   kv.kv_buffer_bench --benchmark_filter=Decode --benchmark_repetitions=5
//
// One sequence, eight heads of 64 with as many key heads, float, one thread. `position` is that of
// the first token timed, 64 follow; FLOP/s count the two products over the tokens held. stream% is
// the keys and values read, over what one thread reads from memory: beyond 100 they come from the
// cache.
#include "forward_pass.hpp"
#include "heed/kv/kv_buffer.hpp"
#include "heed/score/standard.hpp"

#include <map>

namespace bench {
namespace {

using Buffer = heed::KvBuffer<float>;

constexpr Index dim = 64;

heed::KvOptions options(std::optional<Index> budget, Index chunk = 1) {
  heed::KvOptions o;
  o.budget = budget;
  o.chunk = chunk;
  return o;
}

/// Queries, keys and values of so many tokens, and where the outputs go.
struct Tokens {
  Tensor<float, 4> q, k, v, out;
  explicit Tokens(Index count)
      : q(random<float, 4>(1, 1, heads, count, dim)),
        k(random<float, 4>(2, 1, heads, count, dim)),
        v(random<float, 4>(3, 1, heads, count, dim)),
        out(1, heads, count, dim) {}

  void step(Buffer& buffer) { buffer.step(q, k, v, heed::standard, out); }
};

/// A buffer that has seen so many tokens, filled once. The copy has pages of its own, since those
/// that it shares would be copied while it is timed.
Buffer filled(std::optional<Index> budget, Index position) {
  static std::map<std::pair<Index, Index>, Buffer> known;
  const std::pair key(budget.value_or(0), position);
  auto at = known.find(key);
  if (at == known.end()) {
    Buffer buffer({1, heads, heads, dim, dim}, options(budget));
    if (position > 0) Tokens(position).step(buffer);
    at = known.emplace(key, std::move(buffer)).first;
  }
  Buffer copy({1, heads, heads, dim, dim}, options(budget));
  copy.copy_sequence(at->second, 0, 0);
  return copy;
}

/// One token a call.
void decode(benchmark::State& state, std::optional<Index> budget, Index position) {
  Buffer buffer = filled(budget, position);
  Tokens token(1);
  token.step(buffer);  // takes memory
  const Index from = buffer.sequence(0).count();
  const roofline::Stopwatch watch;
  for (auto _ : state) {
    token.step(buffer);
    benchmark::ClobberMemory();
  }
  const double seconds = watch.seconds() / double(state.iterations());
  const double held = double(from + buffer.sequence(0).count()) / 2, pairs = held * double(heads);
  count<float>(state,
               {.flop = 4 * double(dim) * pairs,
                .pairs = pairs,
                .bytes = 2 * double(dim) * pairs * sizeof(float)},
               seconds, the_stream);
  state.counters["MB"] = double(buffer.bytes()) * 1e-6;
}
void DecodeForgetting(benchmark::State& state) {
  decode(state, state.range(0), state.range(1));
}
void DecodeRemembering(benchmark::State& state) {
  decode(state, std::nullopt, state.range(0));
}

void timed(benchmark::internal::Benchmark* row) {
  row->Iterations(64)->Unit(benchmark::kMicrosecond);
}
BENCHMARK(DecodeForgetting)
    ->ArgNames({"K", "position"})
    ->ArgsProduct({{128, 512}, {512, 2048, 8192}})
    ->Apply(timed)
    ->Apply(best);
BENCHMARK(DecodeRemembering)
    ->ArgName("position")
    ->Arg(512)
    ->Arg(2048)
    ->Arg(8192)
    ->Apply(timed)
    ->Apply(best);

/// A text of 2048 tokens through a buffer of `budget`, or one that keeps everything, in chunks.
void prefill(benchmark::State& state, std::optional<Index> budget, Index chunk) {
  constexpr Index count = 2048;
  Tokens text(count);
  const Index most = budget.value_or(count);
  const double pairs = double(heads) * (causal_pairs(most) + double(count - most) * double(most));
  Buffer buffer({1, heads, heads, dim, dim}, options(budget, chunk));
  measure<float>(state, {.flop = 4 * double(dim) * pairs, .pairs = pairs}, the_peak, [&] {
    buffer.clear(0);
    text.step(buffer);
  });
  state.SetItemsProcessed(state.iterations() * count);  // tokens
}
void PrefillForgetting(benchmark::State& state) {
  prefill(state, state.range(0), state.range(1));
}
void PrefillRemembering(benchmark::State& state) {
  prefill(state, std::nullopt, state.range(0));
}
BENCHMARK(PrefillForgetting)
    ->ArgNames({"K", "chunk"})
    ->ArgsProduct({{512}, {1, 12, 96}})
    ->Unit(benchmark::kMillisecond)
    ->Apply(best);
BENCHMARK(PrefillRemembering)
    ->ArgName("chunk")
    ->Arg(1)
    ->Arg(12)
    ->Arg(96)
    ->Unit(benchmark::kMillisecond)
    ->Apply(best);

}  // namespace
}  // namespace bench
