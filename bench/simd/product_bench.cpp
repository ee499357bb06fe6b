// SPDX-License-Identifier: MIT
// What share of the multiply-add peak do the two micro-kernels reach by themselves, at the shapes
// the engine runs them in?
//
//   simd.product_bench --benchmark_filter=float
//
// A block of keys, again and again: in the first-level cache at D = 64, in the second at 256. What
// the forward pass loses beside these is softmax, masks, packing and memory.
#include "heed/engine/blocking.hpp"
#include "heed/simd/product.hpp"
#include "measure.hpp"

namespace bench {
namespace {

using heed::Index, heed::simd::Batch;

template <class T>
using Tile = heed::detail::TileConfig<T, heed::Blocking<T>>;

/// Numbers where a line of cache begins, as Eigen and the engine's workspace place them.
template <class T>
class Numbers {
 public:
  Numbers(Index count, T x) : numbers_(std::size_t(count) + line, x) {}
  T* data() {
    return numbers_.data() +
           (line - reinterpret_cast<std::uintptr_t>(numbers_.data()) / sizeof(T) % line) % line;
  }

 private:
  static constexpr std::size_t line = 64 / sizeof(T);
  std::vector<T> numbers_;
};

/// A tile of scores, kept as a tile of weights is.
template <int Rows, int Panels, class T>
[[gnu::noinline]] void scores(const T* q, const T* k, Index dim, T* out) {
  constexpr int vectors = Panels * Tile<T>::panel_vectors;
  Batch<T> acc[Rows][vectors];
  heed::simd::multiply<Rows, vectors, Tile<T>::panel_vectors>(q, Index(Rows), k,
                                                              Tile<T>::panel_keys * dim, dim, acc);
#pragma GCC unroll 16
  for (int r = 0; r < Rows; ++r)
#pragma GCC unroll 8
    for (int v = 0; v < vectors; ++v)
      acc[r][v].store_unaligned(out + r * Tile<T>::block_keys + v * heed::simd::width<T>);
}

/// Queries times the keys of a block, in tiles of Rows × Panels.
template <class T, int Rows, int Panels>
void multiply(benchmark::State& state) {
  constexpr Index keys = Tile<T>::block_keys;
  const Index dim = state.range(0);
  Numbers<T> q(Rows * dim, T(1)), k(keys * dim, T(1)), out(Rows * keys, T(0));
  measure<T>(state, {.flop = 2. * Rows * double(keys * dim)}, the_peak, [&] {
    for (Index key = 0; key < keys; key += Panels * Tile<T>::panel_keys)
      scores<Rows, Panels>(q.data(), k.data() + key * dim, dim, out.data() + key);
    benchmark::DoNotOptimize(out.data());
  });
}

/// The weights of a block times its values, in tiles of Rows × Vectors.
template <class T, int Rows, int Vectors>
void accumulate(benchmark::State& state) {
  constexpr Index keys = Tile<T>::block_keys;
  const Index dim = state.range(0);
  Numbers<T> p(Rows * keys, T(1e-3)), v(keys * dim, T(1)), out(Rows * dim, T(0));
  measure<T>(state, {.flop = 2. * Rows * double(keys * dim)}, the_peak, [&] {
    heed::simd::accumulate<Rows, Vectors, keys, 1>(p.data(), v.data(), dim, keys, dim, out.data(),
                                                   dim);
    benchmark::DoNotOptimize(out.data());
  });
}

// The shapes of Worker: a group of rows, few rows, one row.
template <class T>
void ScoresOfGroup(benchmark::State& state) {
  multiply<T, Tile<T>::group_rows, 1>(state);
}
template <class T>
void ScoresOfFew(benchmark::State& state) {
  multiply<T, Tile<T>::few_rows, 2>(state);
}
template <class T>
void ScoresOfOne(benchmark::State& state) {
  multiply<T, 1, 4>(state);
}
template <class T>
void ValuesOfGroup(benchmark::State& state) {
  accumulate<T, Tile<T>::group_rows, 2>(state);
}
template <class T>
void ValuesOfFew(benchmark::State& state) {
  accumulate<T, Tile<T>::few_rows, 4>(state);
}
template <class T>
void ValuesOfOne(benchmark::State& state) {
  accumulate<T, 1, 8>(state);
}

void dims(benchmark::internal::Benchmark* row) {
  row->ArgName("D")->Arg(64)->Arg(80)->Arg(128)->Arg(256);
}

BENCHMARK(ScoresOfGroup<float>)->Apply(dims)->Apply(best);
BENCHMARK(ScoresOfFew<float>)->Apply(dims)->Apply(best);
BENCHMARK(ScoresOfOne<float>)->Apply(dims)->Apply(best);
BENCHMARK(ValuesOfGroup<float>)->Apply(dims)->Apply(best);
BENCHMARK(ValuesOfFew<float>)->Apply(dims)->Apply(best);
BENCHMARK(ValuesOfOne<float>)->Apply(dims)->Apply(best);

BENCHMARK(ScoresOfGroup<double>)->Apply(dims)->Apply(best);
BENCHMARK(ScoresOfFew<double>)->Apply(dims)->Apply(best);
BENCHMARK(ScoresOfOne<double>)->Apply(dims)->Apply(best);
BENCHMARK(ValuesOfGroup<double>)->Apply(dims)->Apply(best);
BENCHMARK(ValuesOfFew<double>)->Apply(dims)->Apply(best);
BENCHMARK(ValuesOfOne<double>)->Apply(dims)->Apply(best);

}  // namespace
}  // namespace bench
