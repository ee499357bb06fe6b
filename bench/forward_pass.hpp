// SPDX-License-Identifier: MIT
/// @file
/// A forward pass as a benchmark: inputs, and the work in it.
#pragma once

#include "heed/attention/layer_plan.hpp"
#include "heed/core/eigen_tensor.hpp"
#include "heed/core/thread_pool.hpp"
#include "heed/engine/forward.hpp"
#include "measure.hpp"
#include "random.hpp"

#include <optional>

namespace bench {

/// Eight heads, one sequence.
inline constexpr Index heads = 8;

/// The pairs a causal mask shows, of one head.
using heed::causal_pairs;

/// The lengths of text every variant is timed at.
inline void tokens(benchmark::internal::Benchmark* row) {
  row->ArgName("N")->RangeMultiplier(2)->Range(512, 4096)->Unit(benchmark::kMillisecond);
}

/// What numbers stored as S are computed in.
template <class S>
using ComputedIn = std::conditional_t<std::is_same_v<S, Eigen::bfloat16>, float, S>;

/// forward() under the variant, q, k and v of S.
/// @param pairs  visible pairs (query, key) of one head.
/// @param options  but for the threads and the workspace.
/// @param of_heads  query heads, and as many key heads.
template <class S, class Variant>
void forward_pass(benchmark::State& state, const Variant& variant, Index tokens, Index dim,
                  double pairs, int threads = 1, heed::Options options = {},
                  Index of_heads = heads) {
  using T = ComputedIn<S>;
  const auto tensor = [&](unsigned seed) -> Tensor<S, 4> {
    return random<T, 4>(seed, 1, of_heads, tokens, dim).template cast<S>();
  };
  const Tensor<S, 4> q = tensor(1), k = tensor(2), v = tensor(3);
  Tensor<T, 4> out(1, of_heads, tokens, dim);
  heed::Workspace workspace;
  Eigen::ThreadPool pool(threads);
  if (threads > 1) options.executor = heed::executor(pool);
  options.workspace = &workspace;

  heed::WorkStats visited;
  const double all = pairs * double(of_heads);
  const Work work{.flop = 4 * double(dim) * all, .pairs = all, .threads = threads};
  const auto call = [&] { visited = heed::forward(q, k, v, variant, out, options); };
  // The peak of what is multiplied; of matrix registers, which are far beyond, that of float.
  if constexpr (heed::detail::have_bfloat16_products<T, S>()) {
    if (options.bfloat16.value_or(heed::fastest_bfloat16(tokens)) == heed::Bfloat16::pairs)
      measure<heed::simd::Bfloat16Pair>(state, work, the_peak, call);
    else
      measure<T>(state, work, the_peak, call);
  } else {
    measure<T>(state, work, the_peak, call);
  }
  state.counters["computed%"] = 100 * double(visited.pairs) / all;  // 100: no pair in vain
}

}  // namespace bench
