// SPDX-License-Identifier: MIT
// What does a cache of an engine cost beside plain calls?
//
//   kv.kv_cache_bench --benchmark_repetitions=5
//
// Eight heads of 64 with as many key heads, float, one thread.
//   Prompt/8192, PromptOnABudget: a prompt into the cache, nothing evicted or on K = 512.
//   Forward/8192: forward() with selection on the same tensors, nothing dropped.
//   Token/K, PlainToken/K: a token on a full budget of K, and plain attention on as many keys.
//   Sequences/B, OneByOne/B: a token of each of B sequences on K = 512, in one step or in B steps;
//   items are tokens. What exceeds the processor's caches is bound by its memory in both.
//   Allocated/K: bytes for 4096 tokens of 32 layers, 32/8 heads of 128, bfloat16; K = 0: no budget.
//   Fork/8192, Save/8192: a copy of a sequence; a sequence as bytes.
#include "forward_pass.hpp"
#include "heed/kv/kv_file.hpp"
#include "heed/score/causal.hpp"
#include "heed/score/selective.hpp"
#include "heed/score/standard.hpp"

#include <sstream>

namespace bench {
namespace {

constexpr Index dim = 64;
constexpr heed::KvShape shape{.heads = heads, .key_heads = heads, .dim = dim, .value_dim = dim};
using Cache = heed::KvCache<float>;
using Sequence = heed::KvSequence<float>;

struct Rows {
  Tensor<float, 4> q, k, v, out;
  explicit Rows(Index count, Index batch = 1)
      : q(random<float, 4>(1, batch, heads, count, dim)),
        k(random<float, 4>(2, batch, heads, count, dim)),
        v(random<float, 4>(3, batch, heads, count, dim)),
        out(batch, heads, count, dim) {}

  void step(Cache& cache, Sequence& sequence) {
    cache.step({&sequence}, q, k, v, heed::standard, out);
  }
};

void prompt(benchmark::State& state, std::optional<Index> budget) {
  Rows rows(state.range(0));
  Cache cache(shape, {.budget = budget});
  for (auto _ : state) {
    Sequence sequence = cache.open();
    rows.step(cache, sequence);
    benchmark::ClobberMemory();
  }
}
void Prompt(benchmark::State& state) {
  prompt(state, std::nullopt);
}
void PromptOnABudget(benchmark::State& state) {
  prompt(state, 512);
}
void Forward(benchmark::State& state) {
  Rows rows(state.range(0));
  for (auto _ : state) {
    heed::forward(rows.q, rows.k, rows.v, heed::standard | heed::causal | heed::selective, rows.out,
                  {.negligible = 0});
    benchmark::ClobberMemory();
  }
}
BENCHMARK(Prompt)->Arg(8192)->Unit(benchmark::kMillisecond)->Apply(best);
BENCHMARK(PromptOnABudget)->Arg(8192)->Unit(benchmark::kMillisecond)->Apply(best);
BENCHMARK(Forward)->Arg(8192)->Unit(benchmark::kMillisecond)->Apply(best);

void Token(benchmark::State& state) {
  const Index budget = state.range(0);
  Cache cache(shape, {.budget = budget});
  Sequence sequence = cache.open();
  Rows(2 * budget).step(cache, sequence);
  Rows token(1);
  for (auto _ : state) {
    token.step(cache, sequence);
    benchmark::ClobberMemory();
  }
}
void PlainToken(benchmark::State& state) {
  Rows keys(state.range(0));
  const Rows token(1);
  for (auto _ : state) {
    heed::forward(token.q, keys.k, keys.v, heed::standard,
                  heed::View<float, 4>(keys.out.data(), {1, heads, 1, dim}));
    benchmark::ClobberMemory();
  }
}
BENCHMARK(Token)->Arg(512)->Arg(4096)->Unit(benchmark::kMicrosecond)->Apply(best);
BENCHMARK(PlainToken)->Arg(512)->Arg(4096)->Unit(benchmark::kMicrosecond)->Apply(best);

void sequences(benchmark::State& state, bool together) {
  const Index count = state.range(0);
  Cache cache(shape, {.budget = 512});
  std::vector<Sequence> in_cache(std::size_t(count), cache.open());
  std::vector<Sequence*> all;
  for (Sequence& s : in_cache) {
    Rows(1024).step(cache, s);
    all.push_back(&s);
  }
  Rows tokens(1, together ? count : 1);
  for (auto _ : state) {
    if (together) {
      cache.step(all, tokens.q, tokens.k, tokens.v, heed::standard, tokens.out);
    } else {
      for (Sequence& s : in_cache) tokens.step(cache, s);
    }
    benchmark::ClobberMemory();
  }
  state.SetItemsProcessed(state.iterations() * count);
}
void Sequences(benchmark::State& state) {
  sequences(state, true);
}
void OneByOne(benchmark::State& state) {
  sequences(state, false);
}
BENCHMARK(Sequences)->Arg(1)->Arg(4)->Arg(16)->Unit(benchmark::kMicrosecond)->Apply(best);
BENCHMARK(OneByOne)->Arg(16)->Unit(benchmark::kMicrosecond)->Apply(best);

Sequence filled(Cache& cache, Index count) {
  Sequence sequence = cache.open();
  Rows(count).step(cache, sequence);
  return sequence;
}
void Fork(benchmark::State& state) {
  Cache cache(shape, {});
  const Sequence sequence = filled(cache, state.range(0));
  for (auto _ : state) {
    Sequence fork = sequence;
    benchmark::DoNotOptimize(&fork);
  }
}
void Save(benchmark::State& state) {
  Cache cache(shape, {});
  const Sequence sequence = filled(cache, state.range(0));
  std::size_t bytes = 0;
  for (auto _ : state) {
    std::ostringstream to;
    heed::save(to, sequence);
    bytes = to.str().size();
  }
  state.SetBytesProcessed(state.iterations() * std::int64_t(bytes));
}
BENCHMARK(Fork)->Arg(8192)->Unit(benchmark::kMicrosecond)->Apply(best);
BENCHMARK(Save)->Arg(8192)->Unit(benchmark::kMillisecond)->Apply(best);

/// MB: pages, bookkeeping and scratch. held_MB: what the sequences refer to.
void Allocated(benchmark::State& state) {
  using Stored = heed::KvCache<float, Eigen::bfloat16>;
  constexpr Index layers = 32, tokens = 4096, rows = 64, wide = 128;
  constexpr heed::KvShape large{.heads = 32, .key_heads = 8, .dim = wide, .value_dim = wide};
  heed::KvOptions options;
  if (state.range(0) > 0) options.budget = state.range(0);
  const auto q = random<float, 4>(1, 1, large.heads, rows, wide),
             k = random<float, 4>(2, 1, large.key_heads, rows, wide);
  Tensor<float, 4> out(1, large.heads, rows, wide);
  for (auto _ : state) {
    const Stored::Pool pool(wide, wide);
    Stored cache(large, options, pool);
    heed::Workspace scratch;
    std::vector<Stored::Sequence> of_layers(std::size_t(layers), cache.open());
    for (Index n = 0; n < tokens; n += rows)
      for (auto& s : of_layers)
        cache.step({&s}, q, k, k, heed::standard, out, {.workspace = &scratch});
    std::size_t beside = 0;
    for (const auto& s : of_layers) beside += s.bytes();
    state.counters["held_MB"] = double(pool.bytes_held() + beside) * 1e-6;
    state.counters["MB"] = double(pool.bytes_reserved() + beside + scratch.bytes()) * 1e-6;
  }
}
BENCHMARK(Allocated)->Arg(0)->Arg(512)->Iterations(1)->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace bench
