// SPDX-License-Identifier: MIT
// No bit of a result depends on how many threads computed it.

#include "heed/core/thread_pool.hpp"
#include "heed/engine/forward.hpp"
#include "heed/score/causal.hpp"
#include "heed/score/query_offset.hpp"
#include "heed/score/score_rule.hpp"
#include "heed/score/selective.hpp"
#include "heed/score/standard.hpp"
#include "heed/score/window.hpp"
#include "support/calls.hpp"

#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <chrono>
#include <string>
#include <thread>

namespace heed::test {
namespace {

template <class T>
class Threads : public testing::Test {
 protected:
  template <class Variant>
  void expect_same_for_any_number(const Inputs<T>& in, const Variant& variant) {
    const Outputs<T> one = attend(in, variant);
    for (const int workers : {1, 2, 3, 7}) {
      SCOPED_TRACE(std::to_string(workers) + " threads");
      Eigen::ThreadPool pool(workers);
      const Outputs<T> many = attend(in, variant, {.executor = executor(pool)});
      expect_same_bits(one, many);
    }
  }
};
TYPED_TEST_SUITE(Threads, Scalars, ScalarName);

TYPED_TEST(Threads, DoNotChangeABitOfStandardAttention) {
  for (const Shape& s : {tokens(1, 16), tokens(5, 16, 3, 3), tokens(97, 16), tokens(300, 16),
                         tokens(130, 24, 4, 2, 3), tokens(33, 8, 1, 1, 7),
                         Shape{1, 8, 1, 1, 900, 16, 16}, Shape{2, 2, 2, 40, 513, 8, 24}}) {
    SCOPED_TRACE(describe(s));
    const auto in = inputs<TypeParam>(s, 1);
    for (const Index left : {Index(30), unbounded})
      for (const Index right : {Index(0), unbounded})
        this->expect_same_for_any_number(
            in, query_offset(s.keys - s.queries) | standard | window(left, right));
  }
}

TYPED_TEST(Threads, DoNotChangeABitOfSelectiveAttention) {
  for (const Shape& s : {tokens(1, 16), tokens(97, 16), tokens(300, 16, 2, 1),
                         tokens(130, 24, 4, 2, 3), tokens(40, 8, 8, 8, 2), tokens(1500, 8, 3, 3)}) {
    SCOPED_TRACE(describe(s));
    this->expect_same_for_any_number(inputs<TypeParam>(s, 3), standard | causal | selective);
  }
}

/// Whichever share of the heads has the one that selects.
TYPED_TEST(Threads, DoNotChangeABitWhereAnotherHeadSelects) {
  const auto in = inputs<TypeParam>(tokens(700, 8, 4, 2), 3);
  for (Index head = 0; head < 4; ++head)
    this->expect_same_for_any_number(in, standard | causal | selecting({.head = head}));
}

/// The share without the selecting head takes its scores from the other: or two threads would work
/// them out twice.
TYPED_TEST(Threads, WorkOutTheSelectingHeadsScoresOnce) {
  using T = TypeParam;
  const auto in = inputs<T>(tokens(1500, 8, 2, 2), 5);
  std::atomic<Index> rows{0};
  const auto counted = [&](auto s, const auto& at) {
    if (at.head == 0)
      rows.fetch_add(1, std::memory_order_relaxed);
    else if (at.key % 256 == 0)
      std::this_thread::sleep_for(std::chrono::microseconds(1));  // so that head 0 is ahead
    return s;
  };
  const auto variant = standard | score_rule(counted) | causal | selective;
  attend(in, variant);
  const Index alone = rows.exchange(0);
  Eigen::ThreadPool pool(2);
  attend(in, variant, {.executor = executor(pool)});
  EXPECT_LT(double(rows), 1.5 * double(alone));
}

/// What the stage writes is complete, and the same.
TYPED_TEST(Threads, DoNotChangeABitOfTheCarry) {
  using T = TypeParam;
  const Inputs<T> in = inputs<T>(tokens(210, 16, 4, 4, 3), 4);
  Tensor<T, 2> alone(3, 210), together(3, 210), use(3, 210), use_together(3, 210);
  attend(in, standard | causal | selective.carry_out(alone).memory(use));
  Eigen::ThreadPool pool(3);
  attend(in, standard | causal | selective.carry_out(together).memory(use_together),
         {.executor = executor(pool)});
  EXPECT_TRUE(same_bits(alone, together));
  EXPECT_TRUE(same_bits(use, use_together));
}

TYPED_TEST(Threads, ManyCallsShareOnePoolAndOneWorkspace) {
  using T = TypeParam;
  Eigen::ThreadPool pool(3);
  const Inputs<T> in = inputs<T>(tokens(64, 16, 4, 4, 2), 5),
                  other = inputs<T>(tokens(90, 48, 3, 3), 6, 50);
  const auto variant = standard | causal | selective;
  const Outputs<T> one = attend(in, variant), two = attend(other, variant);
  Workspace workspace;
  const Options options{.executor = executor(pool), .workspace = &workspace};
  for (int call = 0; call < 30; ++call) {
    expect_same_bits(one, attend(in, variant, options));
    expect_same_bits(two, attend(other, variant, options));
  }
}

/// A call made on a thread of its own pool: were it to wait for the others, and they for it,
/// neither would end.
TYPED_TEST(Threads, MayThemselvesMakeCallsOnTheirPool) {
  using T = TypeParam;
  const auto variant = standard | causal | selective;
  const Inputs<T> in = inputs<T>(tokens(130, 16, 4, 4, 3), 7);
  const Outputs<T> alone = attend(in, variant);
  for (int trial = 0; trial < 20; ++trial) {
    std::array<Outputs<T>, 2> got;
    Eigen::ThreadPool pool(2);
    Eigen::Barrier both_are_there(2), done(2);
    for (Outputs<T>& to : got)
      pool.Schedule([&] {
        both_are_there.Notify();
        both_are_there.Wait();
        to = attend(in, variant, {.executor = executor(pool)});
        done.Notify();
      });
    done.Wait();
    for (const Outputs<T>& each : got) expect_same_bits(each, alone);
  }
}

}  // namespace
}  // namespace heed::test
