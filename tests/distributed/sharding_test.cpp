// SPDX-License-Identifier: MIT
#include "heed/distributed/sharding.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

namespace heed::test::shardings {
namespace {

using distributed::Chunk;
using distributed::Sharding;

/// Pairs that the rank computes under a causal mask.
double causal_pairs_of(const Sharding& sharding, int rank) {
  double pairs = 0;
  for (const Chunk& chunk : sharding.chunks())
    if (chunk.rank == rank)
      pairs += double(chunk.rows()) * double(chunk.first + chunk.last + 1) / 2;
  return pairs;
}

TEST(Shardings, HoldEachTokenOnce) {
  for (const int ranks : {1, 2, 5, 64})
    for (const Index tokens : {0, 1, 7, 200})
      for (const Sharding& sharding :
           {Sharding::contiguous(tokens, ranks), Sharding::zigzag(tokens, ranks)}) {
        Index next = 0, rows = 0;
        for (const Chunk& chunk : sharding.chunks()) {
          EXPECT_EQ(chunk.first, next);
          next = chunk.last;
        }
        for (int r = 0; r < ranks; ++r) rows += sharding.rows(r);
        EXPECT_EQ(next, tokens);
        EXPECT_EQ(rows, tokens);
        EXPECT_EQ(sharding.tokens(), tokens);
      }
}

TEST(Shardings, ZigzagGivesEachRankAnEarlyAndALateChunk) {
  const Sharding sharding = Sharding::zigzag(14, 2);  // chunks of 4, 4, 3 and 3
  const std::vector<int> ranks{0, 1, 1, 0};
  const std::vector<Index> rows{0, 0, 4, 4};
  ASSERT_EQ(sharding.chunks().size(), ranks.size());
  for (std::size_t c = 0; c < ranks.size(); ++c) {
    EXPECT_EQ(sharding.chunks()[c].rank, ranks[c]);
    EXPECT_EQ(sharding.chunks()[c].row, rows[c]);
  }
}

TEST(Shardings, ZigzagBalancesACausalMaskWithinFivePercent) {
  for (const int ranks : {2, 4, 64}) {
    const Sharding zigzag = Sharding::zigzag(131072, ranks),
                   contiguous = Sharding::contiguous(131072, ranks);
    double most = 0, least = 1e300, last = causal_pairs_of(contiguous, ranks - 1);
    for (int r = 0; r < ranks; ++r) {
      most = std::max(most, causal_pairs_of(zigzag, r));
      least = std::min(least, causal_pairs_of(zigzag, r));
    }
    EXPECT_LT(most, 1.05 * least) << ranks;
    EXPECT_GT(last, 2 * causal_pairs_of(contiguous, 0)) << ranks;
  }
}

TEST(Shardings, RefuseWhatIsNotASharding) {
  const std::vector<Index> three{0, 4, 8}, falling{0, 5, 4}, late{1, 4, 8};
  EXPECT_THROW(Sharding::contiguous(three, 3), ValueError);
  EXPECT_THROW(Sharding::contiguous(falling, 2), ValueError);
  EXPECT_THROW(Sharding::contiguous(late, 2), ValueError);
  EXPECT_THROW(Sharding::zigzag(three, 2), ValueError);
  EXPECT_THROW(Sharding::zigzag(8, 0), ValueError);
  EXPECT_THROW(Sharding::contiguous(-1, 2), ValueError);
  const std::vector<int> no_rank{0, 2};
  EXPECT_THROW(Sharding(three, no_rank, 2), ValueError);
}

}  // namespace
}  // namespace heed::test::shardings
