// SPDX-License-Identifier: MIT
// Several ranks give what one process gives: outputs, log-sum-exp and all gradients.

#include "heed/core/thread_pool.hpp"
#include "support/sharded.hpp"
#include "support/thread_group.hpp"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace heed::test::calls_on_ranks {
namespace {

using distributed::Sharding;

/// What each rank gets.
std::vector<ShardedResults> on_all_ranks(const Sharding& sharding, const ShardedCall& call,
                                         const Options& options = {}) {
  std::vector<ShardedResults> results(std::size_t(sharding.ranks()));
  const auto thrown = on_ranks(sharding.ranks(), [&](ThreadGroup& threads) {
    GroupOf<ThreadGroup> group(threads);
    results[std::size_t(group.rank())] = on_one_rank(group, sharding, call, options);
  });
  for (const std::string& text : thrown) EXPECT_EQ(text, "");
  return results;
}

void expect_as_in_one_process(const Sharding& sharding, const ShardedCall& call,
                              const ShardedResults& whole, const std::string& what) {
  const auto results = on_all_ranks(sharding, call);
  ShardedResults sums;
  for (int r = 0; r < sharding.ranks(); ++r) {
    expect_rows(results[std::size_t(r)], whole, sharding, r, what);
    add_shared(sums, results[std::size_t(r)]);
  }
  expect_shared(sums, whole, what);
}

TEST(ShardedCalls, MatchOneProcess) {
  for (const auto& [name, call] : sharded_calls(75)) {
    const ShardedResults whole = in_one_process(call);
    for (const int ranks : {1, 2, 3, 4, 8}) {
      const std::string what = name + " on " + std::to_string(ranks) + " ranks, ";
      expect_as_in_one_process(Sharding::contiguous(75, ranks), call, whole, what + "contiguous");
      expect_as_in_one_process(Sharding::zigzag(75, ranks), call, whole, what + "zigzag");
    }
  }
}

TEST(ShardedCalls, MatchOneProcessWhereChunksAreUnevenOrEmpty) {
  for (const auto& [name, call] : sharded_calls(41)) {
    const ShardedResults whole = in_one_process(call);
    for (const int ranks : {2, 3, 4}) {
      const std::string what = name + " on " + std::to_string(ranks) + " uneven ranks, ";
      expect_as_in_one_process(Sharding::contiguous(uneven_bounds(41, ranks, call.seed), ranks),
                               call, whole, what + "contiguous");
      expect_as_in_one_process(
          Sharding::zigzag(uneven_bounds(41, 2 * ranks, call.seed + 50), ranks), call, whole,
          what + "zigzag");
    }
  }
}

/// Chunks of more rows than are voted with at a time.
TEST(ShardedCalls, MatchOneProcessWhereKeysDieWithinAChunk) {
  ShardedCall call{.shape = {1, 2, 1, 1100, 1100, 4, 4}, .seed = 5, .selects = true};
  for (const double amplitude : {1, 8}) {
    call.amplitude = amplitude;
    const ShardedResults whole = in_one_process(call);
    for (const Sharding& sharding : {Sharding::contiguous(1100, 2), Sharding::zigzag(1100, 1)})
      expect_as_in_one_process(sharding, call, whole, "long chunks");
  }
}

TEST(ShardedCalls, GiveTheSameBitsForAnyNumberOfThreads) {
  for (const auto& [name, call] : sharded_calls(150)) {
    const Sharding sharding = Sharding::zigzag(150, 2);
    const auto serially = on_all_ranks(sharding, call);
    Eigen::ThreadPool pool(3);
    const auto in_parallel = on_all_ranks(sharding, call, {.executor = executor(pool)});
    for (std::size_t r = 0; r < serially.size(); ++r)
      each_token_result(serially[r], in_parallel[r],
                        [&, &of = name](const char* result, int, const auto& a, const auto& b) {
                          EXPECT_TRUE(same_bits(a, b)) << result << ", " << of;
                        });
  }
}

}  // namespace
}  // namespace heed::test::calls_on_ranks
