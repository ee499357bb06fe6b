// SPDX-License-Identifier: MIT
// One token against keys and values that come from memory, by what they are stored in: how near is
// it to a plain read of the same bytes?
//
//   kv.storage_bench --benchmark_repetitions=5
//
// 16384 tokens, eight key heads of 128, `group` query heads each, one thread. Tensors: the
// caller's, through forward(), and the type of q if it is not float; Buffer: a KvBuffer without
// evictions. stream% is the bytes of keys and values over what one thread reads from memory
// in the same run, peak% the FLOP over the peak of float's multiply-adds.
#include "forward_pass.hpp"
#include "heed/engine/quantize.hpp"
#include "heed/kv/kv_buffer.hpp"
#include "heed/score/standard.hpp"

#include <Eigen/Core>

namespace bench {
namespace {

constexpr Index held = 16384, key_heads = 8, dim = 128;

template <class S>
constexpr double bytes = 2. *
                         held* key_heads*(double(sizeof(S)) * double(heed::simd::units<S>(dim)) +
                                          double(sizeof(float)) *
                                              double(heed::simd::scales<S>(dim)));

/// A caller's tensor of S.
template <class S>
struct Stored {
  static constexpr bool scaled = !heed::DirectStorageOf<S, float>;
  Tensor<S, 4> numbers{1, key_heads, held, heed::simd::units<S>(dim)};
  Tensor<float, heed::detail::scale_rank<S>> scale;

  explicit Stored(unsigned seed) {
    const auto x = random<float, 4>(seed, 1, key_heads, held, dim);
    if constexpr (heed::simd::has_groups<S>)
      scale.resize(1, key_heads, held, heed::simd::scales<S>(dim));
    else
      scale.resize(1, key_heads, held);
    if constexpr (scaled)
      heed::quantize(x, numbers, scale);
    else
      for (Index i = 0; i < x.size(); ++i) numbers.data()[i] = S(x.data()[i]);
  }
  auto argument() const {
    if constexpr (scaled)
      return heed::Quantized<float, S>{numbers, scale};
    else
      return heed::View<const S, 4>(numbers);
  }
};

template <class S, class Call>
void token(benchmark::State& state, Index heads, Call&& call) {
  const double flop = 4. * dim * held * double(heads);
  const double seconds = measure<float>(state, {.flop = flop, .bytes = bytes<S>}, the_stream, call);
  state.counters["peak%"] = 100 * flop / seconds / peak<float>(1);
}

template <class S, class Q = float>
void Tensors(benchmark::State& state) {
  const Index heads = key_heads * state.range(0);
  const Stored<S> k(1), v(2);
  const Tensor<Q, 4> q = random<float, 4>(3, 1, heads, 1, dim).cast<Q>();
  Tensor<float, 4> out(1, heads, 1, dim);
  heed::Workspace workspace;
  token<S>(state, heads, [&] {
    heed::forward(q, k.argument(), v.argument(), heed::standard, out, {.workspace = &workspace});
  });
}

/// The contents of a buffer after so many tokens; the queries do not matter.
template <class S>
const heed::KvSnapshot<float, S>& full_sequence(const heed::KvOptions& options) {
  static const heed::KvSnapshot<float, S> sequence = [&] {
    constexpr Index part = 1024;
    heed::KvBuffer<float, S> buffer({1, key_heads, key_heads, dim, dim}, options);
    const auto k = random<float, 4>(1, 1, key_heads, part, dim),
               v = random<float, 4>(2, 1, key_heads, part, dim);
    Tensor<float, 4> out(1, key_heads, part, dim);
    while (buffer.sequence(0).count() < held) buffer.step(k, k, v, heed::standard, out);
    return buffer.snapshot(0);
  }();
  return sequence;
}

template <class S>
void Buffer(benchmark::State& state) {
  const Index heads = key_heads * state.range(0);
  heed::KvOptions options;
  options.select.reset();
  options.chunk = 96;
  heed::KvBuffer<float, S> buffer({1, heads, key_heads, dim, dim}, options);
  buffer.restore(0, full_sequence<S>(options));
  const auto k = random<float, 4>(4, 1, key_heads, 1, dim),
             q = random<float, 4>(5, 1, heads, 1, dim);
  Tensor<float, 4> out(1, heads, 1, dim);
  token<S>(state, heads, [&] { buffer.step(q, k, k, heed::standard, out); });
}

void groups(benchmark::internal::Benchmark* row) {
  row->ArgName("group")->Arg(1)->Arg(4)->Arg(8)->Unit(benchmark::kMillisecond)->Apply(best);
}
BENCHMARK(Tensors<float>)->Apply(groups);
BENCHMARK(Tensors<Eigen::bfloat16>)->Apply(groups);
BENCHMARK(Tensors<Eigen::bfloat16, Eigen::bfloat16>)->Apply(groups);
BENCHMARK(Tensors<Eigen::half>)->Apply(groups);
BENCHMARK(Tensors<std::int8_t>)->Apply(groups);
BENCHMARK(Tensors<heed::Fp8E4M3>)->Apply(groups);
BENCHMARK(Tensors<heed::Int4Pair>)->Apply(groups);
BENCHMARK(Buffer<float>)->Apply(groups);
BENCHMARK(Buffer<Eigen::bfloat16>)->Apply(groups);
BENCHMARK(Buffer<Eigen::half>)->Apply(groups);
BENCHMARK(Buffer<std::int8_t>)->Apply(groups);
BENCHMARK(Buffer<heed::Fp8E4M3>)->Apply(groups);
BENCHMARK(Buffer<heed::Int4Pair>)->Apply(groups);

}  // namespace
}  // namespace bench
