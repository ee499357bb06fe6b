// SPDX-License-Identifier: MIT
// Ranks that do not mean the same call, or a call that cannot be divided: all say so, none waits.

#include "heed/distributed/sharding.hpp"
#include "support/sharded.hpp"
#include "support/thread_group.hpp"

#include <gtest/gtest.h>

#include <chrono>
#include <functional>
#include <string>
#include <thread>
#include <vector>

namespace heed::test::agreement {
namespace {

using distributed::Sharding;

constexpr Index tokens = 20;

ShardedCall usual() {
  return {.shape = {1, 2, 1, tokens, tokens, 4, 4}};
}

/// What three ranks throw if `change` makes their calls.
std::vector<std::string> thrown(
    const std::function<void(int rank, ShardedCall&, Options&, Sharding&)>& change) {
  return on_ranks(
      3,
      [&](ThreadGroup& threads) {
        GroupOf<ThreadGroup> group(threads);
        ShardedCall call = usual();
        Options options;
        Sharding sharding = Sharding::zigzag(tokens, 3);
        change(group.rank(), call, options, sharding);
        on_one_rank(group, sharding, call, options);
      },
      std::chrono::seconds(5));
}

void expect_all_say(const std::vector<std::string>& thrown, const std::string& what) {
  for (const std::string& text : thrown) {
    EXPECT_NE(text.find(what), std::string::npos) << text;
    EXPECT_EQ(text, thrown[0]);
  }
}

TEST(Agreement, OfRanksThatMeanTheSame) {
  for (const std::string& text : thrown([](int, auto&, auto&, auto&) {})) EXPECT_EQ(text, "");
}

TEST(Agreement, NamesWhatDiffers) {
  const auto on_rank_2 = [](auto&& change) {
    return thrown([=](int rank, ShardedCall& call, Options& options, Sharding& sharding) {
      if (rank == 2) change(call, options, sharding);
    });
  };
  expect_all_say(on_rank_2([](auto& call, auto&, auto&) { call.shape.heads = 4; }),
                 "query heads: 2 on rank 0, 4 on rank 2");
  expect_all_say(on_rank_2([](auto& call, auto&, auto&) { call.shape.value_dim = 3; }),
                 "dim of v: 4 on rank 0, 3 on rank 2");
  expect_all_say(on_rank_2([](auto& call, auto&, auto&) { call.left = 3; }), "keys its rows see");
  expect_all_say(on_rank_2([](auto& call, auto&, auto&) { call.cap = 3; }), "its stages");
  expect_all_say(on_rank_2([](auto& call, auto&, auto&) { call.positions = true; }), "its stages");
  expect_all_say(on_rank_2([](auto& call, auto&, auto&) { call.selects = true; }), "its stages");
  expect_all_say(on_rank_2([](auto&, auto& options, auto&) { options.negligible = 0.5; }),
                 "Options::negligible");
  expect_all_say(on_rank_2([](auto& call, auto&, auto& sharding) {
                   call.shape.queries = call.shape.keys = 23;
                   sharding = Sharding::zigzag(23, 3);
                 }),
                 "tokens of the sharding: 20 on rank 0, 23 on rank 2");
  expect_all_say(
      on_rank_2([](auto&, auto&, auto& sharding) { sharding = Sharding::contiguous(tokens, 3); }),
      "the chunks of the sharding");
}

TEST(Agreement, TellsAllWhyOneCannotBegin) {
  expect_all_say(thrown([](int rank, auto&, Options& options, auto&) {
                   if (rank == 1) options.negligible = 2;
                 }),
                 "rank 1: negligible is 2");
  expect_all_say(thrown([](int, auto& call, auto&, auto&) { call.bias = true; }),
                 "rank 0: distributed: a stage addresses pairs of tokens");
  expect_all_say(thrown([](int, auto& call, auto&, auto&) {
                   call.selects = true;
                   call.select.accumulate = false;
                 }),
                 "selection must accumulate");
  expect_all_say(
      thrown([](int, auto&, auto&, auto& sharding) { sharding = Sharding::zigzag(tokens, 4); }),
      "the sharding is for 4 ranks, the group has 3");
}

TEST(Agreement, DoesNotWaitForARankThatIsSilent) {
  const auto start = std::chrono::steady_clock::now();
  const auto said = on_ranks(
      3,
      [](ThreadGroup& threads) {
        GroupOf<ThreadGroup> group(threads);
        if (group.rank() != 1) on_one_rank(group, Sharding::zigzag(tokens, 3), usual());
      },
      std::chrono::milliseconds(50));
  EXPECT_EQ(said[0], "rank 1 has not answered rank 0");
  EXPECT_EQ(said[2], "rank 1 has not answered rank 2");
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(20));
}

}  // namespace
}  // namespace heed::test::agreement
