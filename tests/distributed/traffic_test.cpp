// SPDX-License-Identifier: MIT
// What is sent: no more than what is seen and not forgotten, and it is counted.

#include "support/sharded.hpp"
#include "support/thread_group.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <string>
#include <vector>

namespace heed::test::traffic {
namespace {

using distributed::Sharding;
using distributed::TrafficStats;

ShardedCall of(Index tokens) {
  return {.shape = {1, 2, 1, tokens, tokens, 4, 4}};
}

struct Traffic {
  TrafficStats forward, backward;
};

/// The sums over the ranks.
Traffic traffic_of(const Sharding& sharding, const ShardedCall& call, const Options& options = {}) {
  std::vector<ShardedResults> results(std::size_t(sharding.ranks()));
  for (const std::string& text : on_ranks(sharding.ranks(), [&](ThreadGroup& threads) {
         GroupOf<ThreadGroup> group(threads);
         results[std::size_t(group.rank())] = on_one_rank(group, sharding, call, options);
       }))
    EXPECT_EQ(text, "");
  Traffic sum;
  const auto add = [](TrafficStats& to, const TrafficStats& x) {
    to.bytes += x.bytes, to.messages += x.messages, to.tokens += x.tokens;
    to.ring_bytes += x.ring_bytes, to.work += x.work;
  };
  for (const ShardedResults& r : results)
    add(sum.forward, r.forward), add(sum.backward, r.backward);
  return sum;
}

TEST(Traffic, OfOneRankIsNone) {
  const Traffic t = traffic_of(Sharding::zigzag(30, 1), of(30));
  EXPECT_EQ(t.forward.bytes, 0);
  EXPECT_EQ(t.backward.messages, 0);
}

TEST(Traffic, OfAFullRowOfRanksIsThatOfARing) {
  ShardedCall call = of(40);
  call.causal = false;
  const Traffic t = traffic_of(Sharding::contiguous(40, 4), call);
  EXPECT_EQ(t.forward.tokens, 3 * 40);
  EXPECT_EQ(t.forward.ring_bytes, 3 * 40 * 8 * 8);  // tokens, numbers of k and v, bytes
  EXPECT_EQ(t.backward.ring_bytes, 2 * t.forward.ring_bytes);
}

TEST(Traffic, UnderACausalMaskIsOfEarlierKeysAlone) {
  EXPECT_EQ(traffic_of(Sharding::contiguous(40, 4), of(40)).forward.tokens, 10 * (3 + 2 + 1));
}

TEST(Traffic, OfAWindowIsOfItsNeighbours) {
  ShardedCall call = of(40);
  call.left = 3;
  const Traffic t = traffic_of(Sharding::contiguous(40, 4), call);
  EXPECT_EQ(t.forward.tokens, 3 * 3);  // three borders, three keys across each
  EXPECT_EQ(t.backward.tokens, 3 * 3);
}

TEST(Traffic, FallsWithWhatIsForgotten) {
  ShardedCall call = of(400);
  call.selects = true, call.amplitude = 8;
  const Sharding sharding = Sharding::contiguous(400, 4);
  const Traffic all = traffic_of(sharding, call, {.negligible = 0}),
                live = traffic_of(sharding, call);
  EXPECT_EQ(all.forward.tokens, 100 * (3 + 2 + 1));
  EXPECT_LT(live.forward.tokens, all.forward.tokens / 2);
  EXPECT_LT(live.forward.bytes, all.forward.bytes);
  EXPECT_LT(live.backward.bytes, all.backward.bytes);
}

/// A rank's late chunk does not take the keys that only its early one needs.
TEST(Traffic, WorkFallsWithWhatEachChunkHasForgotten) {
  ShardedCall call = of(400);
  call.selects = true, call.amplitude = 8;
  const Traffic all = traffic_of(Sharding::zigzag(400, 1), call, {.negligible = 0}),
                live = traffic_of(Sharding::zigzag(400, 1), call);
  const Index past = 2 * 200 * 200;  // pairs of the late chunk's rows and the early chunk's keys
  EXPECT_LT(live.forward.work.pairs, all.forward.work.pairs - past / 2);
  EXPECT_LT(live.backward.work.pairs, all.backward.work.pairs - past / 2);
}

/// Counts what it is given to send.
class CountingGroup : public ThreadGroup {
 public:
  CountingGroup(const ThreadGroup& group, std::atomic<Index>& bytes)
      : ThreadGroup(group), bytes_(&bytes) {}
  Request send(int to, std::span<const std::byte> message) {
    *bytes_ += Index(message.size());
    return ThreadGroup::send(to, message);
  }

 private:
  std::atomic<Index>* bytes_;
};

TEST(Traffic, IsCountedToTheByte) {
  ShardedCall call = of(60);
  call.selects = true;
  std::atomic<Index> sent = 0, counted = 0;
  on_ranks(3, [&](ThreadGroup& threads) {
    CountingGroup counting(threads, sent);
    GroupOf<CountingGroup> group(counting);
    const ShardedResults r = on_one_rank(group, Sharding::zigzag(60, 3), call);
    counted += r.forward.bytes + r.backward.bytes;
  });
  EXPECT_GT(sent, 0);
  EXPECT_EQ(sent, counted);
}

}  // namespace
}  // namespace heed::test::traffic
