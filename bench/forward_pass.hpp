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

/// What numbers stored as S are computed in, and what is multiplied, whose peak counts.
template <class S>
struct Computed {
  using In = S;
  using Multiplied = S;
};
template <>
struct Computed<Eigen::bfloat16> {
  using In = float;
  using Multiplied =
      std::conditional_t<heed::simd::multiplies_bfloat16, heed::simd::Bfloat16Pair, float>;
};

/// forward() under the variant, q, k and v of S.
/// @param pairs  visible pairs (query, key) of one head.
template <class S, class Variant>
void forward_pass(benchmark::State& state, const Variant& variant, Index tokens, Index dim,
                  double pairs, int threads = 1, std::optional<double> negligible = {}) {
  using T = typename Computed<S>::In;
  const auto tensor = [&](unsigned seed) -> Tensor<S, 4> {
    return random<T, 4>(seed, 1, heads, tokens, dim).template cast<S>();
  };
  const Tensor<S, 4> q = tensor(1), k = tensor(2), v = tensor(3);
  Tensor<T, 4> out(1, heads, tokens, dim);
  heed::Workspace workspace;
  Eigen::ThreadPool pool(threads);
  const heed::Options options{threads > 1 ? heed::executor(pool) : heed::serial(), &workspace,
                              negligible};

  heed::Visited visited;
  const double all = pairs * double(heads);
  using Multiplied = typename Computed<S>::Multiplied;
  measure<Multiplied>(state, {.flop = 4 * double(dim) * all, .pairs = all, .threads = threads},
                      the_peak, [&] { visited = heed::forward(q, k, v, variant, out, options); });
  state.counters["computed%"] = 100 * double(visited.pairs) / all;  // 100: no pair in vain
}

}  // namespace bench
