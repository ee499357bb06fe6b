// SPDX-License-Identifier: MIT
// How many bytes a second do packing and the search for infinities move?
//
//   simd.pack_bench
//
// 2048 rows, bytes read and written together. Each is done once a call, where products take 2 D
// operations a number: at a few bytes a nanosecond packing costs what ten rows of scores do.
#include "heed/engine/blocking.hpp"
#include "heed/simd/pack.hpp"
#include "measure.hpp"

namespace bench {
namespace {

using heed::Index;

constexpr Index rows = 2048;

template <class T>
using Tile = heed::detail::TileConfig<T, heed::Blocking<T>>;

/// Rows into panels of `width`: keys, queries.
template <class T>
void pack(benchmark::State& state, Index width) {
  const Index dim = state.range(0);
  const std::vector<T> x(std::size_t(rows * dim), T(1));
  std::vector<T> y(std::size_t((rows + width) * dim));
  measure<T>(state, {.bytes = 2. * double(rows * dim) * sizeof(T)}, nothing, [&] {
    for (Index r = 0; r < rows; r += width)
      heed::simd::pack_panel([&](Index i) { return x.data() + (r + i) * dim; },
                             std::min(width, rows - r), dim, width, [](Index) { return T(1); },
                             y.data() + r * dim);
    benchmark::DoNotOptimize(y.data());
  });
}
template <class T>
void Keys(benchmark::State& state) {
  pack<T>(state, Tile<T>::panel_keys);
}
template <class T>
void Queries(benchmark::State& state) {
  pack<T>(state, Tile<T>::group_rows);
}
/// Values: rows scaled, and lengthened to whole registers.
template <class T>
void Rows(benchmark::State& state) {
  const Index dim = state.range(0), columns = heed::detail::round_up(dim, heed::simd::width<T>);
  const std::vector<T> x(std::size_t(rows * dim), T(1));
  std::vector<T> y(std::size_t(rows * columns));
  measure<T>(state, {.bytes = double(rows * (dim + columns)) * sizeof(T)}, nothing, [&] {
    heed::simd::pack_rows(
        x.data(), dim, rows, dim, [](Index) { return T(1); }, y.data(), columns);
    benchmark::DoNotOptimize(y.data());
  });
}
template <class T>
void AllFinite(benchmark::State& state) {
  const Index dim = state.range(0);
  const std::vector<T> x(std::size_t(rows * dim), T(1));
  measure<T>(state, {.bytes = double(rows * dim) * sizeof(T)}, nothing, [&] {
    bool finite = heed::simd::all_finite(x.data(), dim, rows, dim);
    benchmark::DoNotOptimize(finite);
  });
}

void dims(benchmark::internal::Benchmark* row) {
  row->ArgName("D")->Arg(40)->Arg(64)->Arg(128)->Unit(benchmark::kMicrosecond);
}
BENCHMARK(Keys<float>)->Apply(dims)->Apply(best);
BENCHMARK(Queries<float>)->Apply(dims)->Apply(best);
BENCHMARK(Rows<float>)->Apply(dims)->Apply(best);
BENCHMARK(AllFinite<float>)->Apply(dims)->Apply(best);
BENCHMARK(Keys<double>)->Apply(dims)->Apply(best);
BENCHMARK(Queries<double>)->Apply(dims)->Apply(best);
BENCHMARK(Rows<double>)->Apply(dims)->Apply(best);
BENCHMARK(AllFinite<double>)->Apply(dims)->Apply(best);

}  // namespace
}  // namespace bench
