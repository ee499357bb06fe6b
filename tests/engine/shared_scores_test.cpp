// SPDX-License-Identifier: MIT
#include "heed/engine/shared_scores.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <thread>
#include <vector>

namespace heed::test {
namespace {

constexpr Index size = 100, slots = 16;

class SharedBlocks : public testing::Test {
 protected:
  explicit SharedBlocks(Index tasks = 3) {
    Arena measure;
    detail::SharedScores<float>(tasks, size, measure);
    Arena arena(memory_.reserve(measure.used()));
    shared_ = detail::SharedScores<float>(tasks, size, arena);
  }

  /// Every number of a block is its name.
  void offer(Index name, Index count = size) {
    const std::vector<float> block(std::size_t(count), static_cast<float>(name));
    shared_.offer(name, block.data(), count);
  }
  bool take(Index task, Index name, Index count = size) {
    std::array<float, size + 1> block;
    block.fill(-1);
    const bool there = shared_.take(task, name, block.data(), count);
    const auto last = block.begin() + (there ? count : 0);
    EXPECT_TRUE(std::all_of(block.begin(), last, [&](float x) { return x == float(name); }))
        << name;
    EXPECT_TRUE(std::all_of(last, block.end(), [](float x) { return x == -1; })) << name;
    return there;
  }

  Workspace memory_;
  detail::SharedScores<float> shared_;
};

TEST_F(SharedBlocks, AreTakenByAllWhoHaveBegun) {
  EXPECT_FALSE(take(1, 0)) << "nobody offered it";
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

/// Else this would not return: nobody will take what is offered.
TEST_F(SharedBlocks, AreOfferedWithoutWaitingForWhoHasLeftOrNotBegun) {
  EXPECT_FALSE(take(1, 0));
  for (Index name = 0; name < slots; ++name) offer(name);
  shared_.leave(1);
  for (Index name = slots; name < 5 * slots; ++name) offer(name);
  EXPECT_FALSE(take(2, 3)) << "gone";
}

TEST_F(SharedBlocks, WaitForASlowTaker) {
  EXPECT_FALSE(take(1, 0));
  constexpr Index many = 500;
  std::thread offering([&] {
    for (Index name = 1; name < many; ++name) offer(name);
  });
  Index taken = 0;
  for (Index name = 1; name < many; ++name) {
    // Nobody may run so far ahead that a block is overwritten before it was taken.
    while (!take(1, name)) std::this_thread::yield();
    ++taken;
  }
  offering.join();
  EXPECT_EQ(taken, many - 1);
}

/// Whatever the order, who takes a block finds it whole.
TEST_F(SharedBlocks, AreWholeForTakersThatComeAndGo) {
  std::vector<std::thread> takers;
  for (const Index task : {1, 2})
    takers.emplace_back([&, task] {
      for (Index name = task; name < 20000; name += task) take(task, name);
      shared_.leave(task);
    });
  for (Index name = 0; name < 20000; name += 1 + name % 3) offer(name);
  for (std::thread& taker : takers) taker.join();
}

}  // namespace
}  // namespace heed::test
