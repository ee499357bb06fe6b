// SPDX-License-Identifier: MIT
#include "heed/engine/schedule/score_ring.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <functional>
#include <thread>
#include <utility>
#include <vector>

namespace heed::test {
namespace {

constexpr Index size = 100, slots = 16;

class SharedBlocks : public testing::Test {
 protected:
  explicit SharedBlocks(Index tasks = 3) {
    Arena measure;
    detail::ScoreRing<float>(tasks, size, measure);
    Arena arena(memory_.reserve(measure.used()));
    shared_ = detail::ScoreRing<float>(tasks, size, arena);
  }

  /// Every number of a block is its name.
  void offer(Index name, Index count = size) {
    const std::vector<float> block(std::size_t(count), static_cast<float>(name));
    shared_.publish(name, block.data(), count);
  }
  bool take(Index task, Index name, Index count = size) {
    std::array<float, size + 1> block;
    block.fill(-1);
    const bool there = shared_.try_get(task, name, block.data(), count);
    const auto last = block.begin() + (there ? count : 0);
    EXPECT_TRUE(std::all_of(block.begin(), last, [&](float x) { return x == float(name); }))
        << name;
    EXPECT_TRUE(std::all_of(last, block.end(), [](float x) { return x == -1; })) << name;
    return there;
  }

  Workspace memory_;
  detail::ScoreRing<float> shared_;
};

TEST_F(SharedBlocks, AreTakenByAllWhoHaveBegun) {
  EXPECT_FALSE(take(1, 0)) << "not published";
  EXPECT_FALSE(take(2, 0));
  offer(3);
  offer(4, 7);
  for (const Index task : {1, 2}) {
    EXPECT_TRUE(take(task, 3));
    EXPECT_TRUE(take(task, 4, 7));
    EXPECT_FALSE(take(task, 5)) << "yet to come";
  }
}

TEST_F(SharedBlocks, AreNotKeptForWhoHasNotBegunOrIsPastThem) {
  offer(0);
  EXPECT_FALSE(take(1, 0));
  EXPECT_FALSE(take(1, 9));
  offer(8);
  EXPECT_FALSE(take(2, 8));
}

/// The test would not return if publishing waited: no consumer takes these blocks.
TEST_F(SharedBlocks, AreOfferedWithoutWaitingForWhoHasLeftOrNotBegun) {
  EXPECT_FALSE(take(1, 0));
  for (Index name = 0; name < slots; ++name) offer(name);
  shared_.detach(1);
  for (Index name = slots; name < 5 * slots; ++name) offer(name);
  EXPECT_FALSE(take(2, 3)) << "overwritten";
}

TEST_F(SharedBlocks, WaitForASlowTaker) {
  EXPECT_FALSE(take(1, 0));
  constexpr Index many = 500;
  std::thread offering([&] {
    for (Index name = 1; name < many; ++name) offer(name);
  });
  // The producer must not overwrite a block before it was taken.
  const auto too_late = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  Index taken = 0;
  for (Index name = 1; name < many; ++name) {
    bool there = take(1, name);
    while (!there && std::chrono::steady_clock::now() < too_late) {
      std::this_thread::yield();
      there = take(1, name);
    }
    taken += there;
  }
  shared_.detach(1);
  offering.join();
  EXPECT_EQ(taken, many - 1);
}

/// A number whose copying the test can hold up.
struct SlowNumber {
  float x = 0;
  static inline thread_local std::function<void()> before_copy;

  SlowNumber() = default;
  explicit SlowNumber(float number) : x(number) {}
  SlowNumber(const SlowNumber&) = default;
  SlowNumber& operator=(const SlowNumber& other) {
    if (before_copy) std::exchange(before_copy, nullptr)();
    x = other.x;
    return *this;
  }
};

/// Task 1 begins while a block is about to be overwritten, after its like has been looked for and
/// before the block is overwritten.
TEST(SharedBlocksOf, AreWholeForATakerThatBeginsLate) {
  Arena measure;
  detail::ScoreRing<SlowNumber>(3, 1, measure);
  Workspace memory;
  Arena arena(memory.reserve(measure.used()));
  detail::ScoreRing<SlowNumber> shared(3, 1, arena);
  const auto offer = [&](Index name) {
    const SlowNumber block(static_cast<float>(name));
    shared.publish(name, &block, 1);
  };
  SlowNumber seen, unused;
  EXPECT_FALSE(shared.try_get(2, 1, &unused, 1));
  offer(1);
  std::thread offering([&] { offer(1 + slots); });  // waits for task 2
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  SlowNumber::before_copy = [&] {
    shared.detach(2);                                            // the offer goes on
    std::this_thread::sleep_for(std::chrono::milliseconds(20));  // but not past this copy
  };
  EXPECT_TRUE(shared.try_get(1, 1, &seen, 1));
  EXPECT_EQ(seen.x, 1);
  shared.detach(1);
  offering.join();
}

/// In any order of threads, a block that is taken is complete.
TEST_F(SharedBlocks, AreWholeForTakersThatComeAndGo) {
  std::vector<std::thread> takers;
  const auto begin = [&](Index task, Index from) {
    takers.emplace_back([&, task, from] {
      for (Index name = from; name < 20000; name += task) take(task, name);
      shared_.detach(task);
    });
  };
  begin(1, 0);
  for (Index name = 0; name < 20000; ++name) {
    if (name % 3 != 2) offer(name);
    if (name == 5000) begin(2, name);
  }
  for (std::thread& taker : takers) taker.join();
}

}  // namespace
}  // namespace heed::test
