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

/// forward() under the variant.
/// @param pairs  visible pairs (query, key) of one head.
template <class T, class Variant>
void forward_pass(benchmark::State& state, const Variant& variant, Index tokens, Index dim,
                  double pairs, int threads = 1, std::optional<double> negligible = {}) {
  const auto q = random<T, 4>(1, 1, heads, tokens, dim), k = random<T, 4>(2, 1, heads, tokens, dim),
             v = random<T, 4>(3, 1, heads, tokens, dim);
  Tensor<T, 4> out(1, heads, tokens, dim);
  heed::Workspace workspace;
  Eigen::ThreadPool pool(threads);
  const heed::Options options{threads > 1 ? heed::executor(pool) : heed::serial(), &workspace,
                              negligible};

  heed::Visited visited;
  const double all = pairs * double(heads);
  measure<T>(state, {.flop = 4 * double(dim) * all, .pairs = all, .threads = threads}, the_peak,
             [&] { visited = heed::forward(q, k, v, variant, out, options); });
  state.counters["computed%"] = 100 * double(visited.pairs) / all;  // 100: no pair in vain
}

}  // namespace bench
