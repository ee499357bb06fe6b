// SPDX-License-Identifier: MIT
/// @file
/// Mixtures of stages over several ranks, and the same by one process. Compiled once, in
/// sharded.cpp.
#pragma once

#include "heed/distributed/sharding.hpp"
#include "heed/distributed/traffic_stats.hpp"
#include "heed/engine/options.hpp"
#include "heed/score/votes.hpp"
#include "heed/score/window.hpp"
#include "support/any_group.hpp"
#include "support/calls.hpp"

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace heed::test {

/// What stands between q · k and the softmax, and what the loss depends on.
struct ShardedCall {
  Shape shape;
  std::uint64_t seed = 1;
  bool temperatures = false, positions = false, causal = true, sinks = false, slopes = false,
       documents = false, starts = false, selects = false, memory = false, grad_lse = false,
       bias = false;
  double cap = 0, amplitude = 1;
  Index left = unbounded, right = unbounded, block = 0;
  SelectOptions select{};
};

/// Everything that comes out, for all tokens or for those of one rank.
struct ShardedResults {
  Tensor<double> out, grad_q, grad_k, grad_v;
  Tensor<double, 3> lse, grad_tau_q, grad_tau_k, grad_tau_v;
  Tensor<double, 2> memory;
  Tensor<double, 1> grad_slopes, grad_sinks;
  double grad_alpha = 0;
  distributed::TrafficStats forward, backward;
};

/// Calls visit(name, axis of the tokens, of a, of b) for each tensor with an entry for each token.
template <class A, class B, class Visit>
void each_token_result(A& a, B& b, Visit&& visit) {
  visit("out", 2, a.out, b.out), visit("lse", 2, a.lse, b.lse);
  visit("memory", 1, a.memory, b.memory);
  visit("grad_q", 2, a.grad_q, b.grad_q), visit("grad_k", 2, a.grad_k, b.grad_k);
  visit("grad_v", 2, a.grad_v, b.grad_v), visit("grad_tau_q", 2, a.grad_tau_q, b.grad_tau_q);
  visit("grad_tau_k", 2, a.grad_tau_k, b.grad_tau_k);
  visit("grad_tau_v", 2, a.grad_tau_v, b.grad_tau_v);
}

/// heed::forward() and backward() of all tokens.
ShardedResults in_one_process(const ShardedCall& call);
/// distributed::forward() and backward() of the rank's tokens, which are cut from the same inputs.
ShardedResults on_one_rank(AnyGroup& group, const distributed::Sharding& sharding,
                           const ShardedCall& call, const Options& options = {});

/// The entries of one rank along the axis of the tokens.
template <class T, int Rank>
Tensor<T, Rank> cut(const Tensor<T, Rank>& x, const distributed::Sharding& sharding, int rank,
                    int axis) {
  auto dims = x.dimensions();
  dims[std::size_t(axis)] = sharding.rows(rank);
  Tensor<T, Rank> part(dims);
  for (const distributed::Chunk& chunk : sharding.chunks()) {
    if (chunk.rank != rank || chunk.rows() == 0) continue;
    typename Tensor<T, Rank>::Dimensions from{}, to{}, size = x.dimensions();
    from[std::size_t(axis)] = chunk.first, to[std::size_t(axis)] = chunk.row;
    size[std::size_t(axis)] = chunk.rows();
    part.slice(to, size) = x.slice(from, size);
  }
  return part;
}

/// Fails where the rank's rows are not those of one process.
void expect_rows(const ShardedResults& of_rank, const ShardedResults& whole,
                 const distributed::Sharding& sharding, int rank, const std::string& what);
/// The same for the sums over the ranks of the gradients of shared parameters.
void expect_shared(const ShardedResults& sums, const ShardedResults& whole,
                   const std::string& what);
/// Adds one rank's share of the gradients of shared parameters.
void add_shared(ShardedResults& sums, const ShardedResults& share);

/// Bounds of chunks of uneven lengths, some of them empty, the same for every caller.
std::vector<Index> uneven_bounds(Index tokens, int chunks, std::uint64_t seed);

/// Each kind of mixture with a name, for sequences of these tokens.
std::vector<std::pair<std::string, ShardedCall>> sharded_calls(Index tokens);

}  // namespace heed::test
