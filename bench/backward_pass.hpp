// SPDX-License-Identifier: MIT
/// @file
/// A backward pass of causal attention as a benchmark: inputs, and the work in it.
#pragma once

#include "forward_pass.hpp"
#include "heed/engine/backward.hpp"

namespace bench {

/// backward() under the variant, in float.
template <class Variant>
void backward_pass(benchmark::State& state, const Variant& variant, Index tokens,
                   std::optional<double> negligible = {}, int threads = 1) {
  constexpr Index dim = 64;
  const auto numbers = [&](unsigned seed) { return random<float, 4>(seed, 1, heads, tokens, dim); };
  const auto q = numbers(1), k = numbers(2), v = numbers(3), grad_out = numbers(4);
  Tensor<float, 4> out(1, heads, tokens, dim), grad_q = out, grad_k = out, grad_v = out;
  Tensor<float, 3> lse(1, heads, tokens);
  heed::Workspace workspace;
  Eigen::ThreadPool pool(threads);
  const heed::Options options{threads > 1 ? heed::executor(pool) : heed::serial(), &workspace,
                              negligible};
  heed::forward(q, k, v, variant, out, lse, options);

  const double pairs = causal_pairs(tokens) * double(heads);
  heed::WorkStats visited;
  measure<float>(
      state, {.flop = 10 * double(dim) * pairs, .pairs = pairs, .threads = threads}, the_peak, [&] {
        visited =
            heed::backward(q, k, v, variant, out, lse, grad_out, grad_q, grad_k, grad_v, options);
      });
  state.counters["computed%"] = 100 * double(visited.pairs) / pairs;  // 100: no pair in vain
}

}  // namespace bench
