// SPDX-License-Identifier: MIT
// Decoding takes no memory: what a step needs is there after the first.

#include "support/allocations.hpp"

#include "heed/kv/kv_buffer.hpp"
#include "heed/kv/kv_model.hpp"
#include "heed/score/standard.hpp"
#include "support/caches.hpp"

#include <gtest/gtest.h>

#include <new>
#include <string>
#include <vector>

namespace heed::test {
namespace {

class AllocationsOfSteps : public testing::Test {
 protected:
  void SetUp() override {
    if (!allocations_are_counted) GTEST_SKIP() << "malloc is not ours to replace in this build";
  }

  const Inputs<float> in = inputs<float>(tokens(500, 8, 4, 2), 1),
                      one = inputs<float>(tokens(1, 8, 4, 2), 2);
  Tensor<float> out{1, 4, 500, 8}, one_out{1, 4, 1, 8};
};

/// Whatever the rule, the five hundredth token as the thousandth.
TEST_F(AllocationsOfSteps, AreNoneOnceABufferIsFull) {
  for (const Evict evict : {Evict::most_masked, Evict::least_attended, Evict::oldest})
    for (const EvictWhen when :
         {EvictWhen::before_row, EvictWhen::after_row, EvictWhen::chunk_end}) {
      const KvOptions o{.budget = 40, .evict = evict, .when = when};
      SCOPED_TRACE(describe(o));
      KvBuffer<float> buffer = buffer_for(in, o);
      for (int text = 0; text < 2; ++text) {
        standard_step(buffer, in, out);
        const Allocations a = allocations_of([&] { standard_step(buffer, one, one_out); });
        EXPECT_EQ(a.count, 0u);
      }
    }
}

/// A long prompt is taken chunk by chunk: scratch is that of a chunk, not of the prompt.
TEST_F(AllocationsOfSteps, OfAPromptAreThoseOfAChunk) {
  const auto taken = [&](const Inputs<float>& prompt, Tensor<float>& to) {
    KvBuffer<float> buffer = buffer_for(prompt, {.budget = 40, .chunk = 16});
    return allocations_of([&] { standard_step(buffer, prompt, to); }).peak;
  };
  const Inputs<float> longer = inputs<float>(tokens(4000, 8, 4, 2), 3);
  Tensor<float> longer_out(1, 4, 4000, 8);
  EXPECT_LE(taken(longer, longer_out), taken(in, out) + 8192);  // but for malloc's rounding
}

/// Wherever memory runs out, the sequence that should have been replaced is what it was.
TEST_F(AllocationsOfSteps, ThatFailLeaveASequenceAsItWas) {
  const auto filled = [&](Index budget) {
    KvBuffer<float> buffer = buffer_for(in, {.budget = budget, .evict = Evict::least_attended});
    standard_step(buffer, in, out);
    return buffer;
  };
  const KvBuffer<float> from = filled(9);
  for (const Index budget : {9, 200}) {
    KvBuffer<float> to = filled(budget);
    const KvSequence<float> before = to.sequence(0);
    std::size_t failed = 0;
    for (bool done = false; !done; ++failed) {
      ASSERT_LT(failed, 100u);
      try {
        with_memory_for(failed, [&] { to.copy_sequence(from, 0, 0); });
        done = true;
      } catch (const std::bad_alloc&) {
        ASSERT_TRUE(same_memory(before, to.sequence(0))) << "allocation " << failed;
      }
    }
    EXPECT_GT(failed, 5u);
    EXPECT_EQ(held(to.sequence(0)), held(from.sequence(0)));
  }
}

// ---- of a cache

class AllocationsOfCaches : public testing::Test {
 protected:
  using Sequence = KvSequence<float>;

  void SetUp() override {
    if (!allocations_are_counted) GTEST_SKIP() << "malloc is not ours to replace in this build";
  }

  /// Runs act() with memory for 0, 1, … allocations until it succeeds. Wherever memory runs out,
  /// the sequences and the pool are as they were.
  template <class Act>
  static void expect_nothing_changes(const std::vector<const Sequence*>& sequences,
                                     const KvPool<float>& pool, std::size_t least, Act&& act) {
    std::vector<std::vector<std::byte>> before;
    for (const Sequence* s : sequences) before.push_back(memory_of(*s));
    const Index pages = pool.pages_held();
    std::size_t failed = 0;
    for (bool done = false; !done;) {
      ASSERT_LT(failed, 200u);
      try {
        with_memory_for(failed, act);
        done = true;
      } catch (const std::bad_alloc&) {
        for (std::size_t i = 0; i < sequences.size(); ++i)
          ASSERT_EQ(memory_of(*sequences[i]), before[i]) << "allocation " << failed << ", " << i;
        ASSERT_EQ(pool.pages_held(), pages) << "allocation " << failed;
        ++failed;
      }
    }
    EXPECT_GE(failed, least);
  }

  static constexpr Index page = small_page<float>;
  const KvPool<float> pool{8, 8, {.page = page}};
};

TEST_F(AllocationsOfCaches, ThatFailInAStepChangeNothing) {
  for (const EvictionRule& rule : {EvictionRule(most_masked), EvictionRule(heavy_hitters)})
    for (const std::optional<Index> budget :
         {std::optional<Index>(3 * page), std::optional<Index>()})
      for (const bool forked : {false, true}) {
        const KvOptions o{.budget = budget, .evict = rule};
        SCOPED_TRACE(describe(o) + (forked ? ", forked" : ""));
        KvCache<float> cache(cache_shape, o, pool);
        Sequence a = filled(cache, page - 1, 1), b = cache.open(), c = filled(cache, 5 * page, 2);
        std::vector<Sequence> forks;
        if (forked) forks = {a, c};
        const Inputs<float> rows = rows_for<float>(3, page + 3, 3);
        Tensor<float> to(3, 4, page + 3, 8);
        Sequence* const all[] = {&a, &b, &c};
        expect_nothing_changes({&a, &b, &c}, pool, 5, [&] {
          KvCache<float> own = cache;  // without scratch
          standard_step(own, all, rows, to);
        });
        EXPECT_EQ(b.next(), page + 3);
        if (forked) {
          EXPECT_EQ(forks[0].next(), page - 1);
        }
      }
}

TEST_F(AllocationsOfCaches, ThatFailInAStepThatTurnsKeysChangeNothing) {
  for (const std::optional<Index> budget :
       {std::optional<Index>(page + 5), std::optional<Index>()}) {
    KvOptions o{.budget = budget};
    o.rotary.emplace(8);
    KvCache<float> cache(cache_shape, o, pool);
    Sequence s = filled(cache, page - 1, 1);
    const Inputs<float> rows = rows_for<float>(1, 4 * page, 3);  // the table grows
    Tensor<float> to(1, 4, 4 * page, 8);
    Sequence* const one[] = {&s};
    expect_nothing_changes({&s}, pool, 5, [&] {
      KvCache<float> own = cache;
      standard_step(own, one, rows, to);
    });
  }
}

TEST_F(AllocationsOfCaches, ThatFailWhereTokensArePutInChangeNothing) {
  KvCache<float> cache(cache_shape, {.evict = heavy_hitters, .heads = KvHeads::apart, .select = {}},
                       pool);
  Sequence s = cache.open();
  const Inputs<float> rows = rows_for<float>(1, 2 * page, 3);
  Tensor<float, 2> weights(2, 2 * page);
  weights.setZero();
  expect_nothing_changes({&s}, pool, 5,
                         [&] { cache.append(s, rows.k, rows.v, {.weights = weights}); });
  EXPECT_EQ(s.count(1), 2 * page);
}

TEST_F(AllocationsOfCaches, ThatFailInAModelChangeNoLayer) {
  KvModel<float> model(cache_shape, {3 * page, std::nullopt}, {}, pool);
  KvModelSequence<float> a = model.open();
  const auto rows = [&](Index count) {
    KvModelStep<float> step = model.begin({&a}, {count});
    const Inputs<float> in = rows_for<float>(1, count, 3);
    Tensor<float> out(1, 4, count, 8);
    for (Index l = 0; l < 2; ++l) step.take(l, in.q, in.k, in.v, standard, out);
  };
  rows(4 * page);
  const auto mark = a.mark();
  expect_nothing_changes({&a[0], &a[1]}, pool, 5,
                         [&] { static_cast<void>(model.begin({&a}, {2 * page})); });
  rows(page);
  expect_nothing_changes({&a[0], &a[1]}, pool, 10, [&] { a.roll_back(mark); });
  EXPECT_EQ(a[0].next(), 4 * page);
  EXPECT_EQ(a[1].next(), 4 * page);
  const KvModelSequence<float> other = a;
  expect_nothing_changes({&a[0], &a[1]}, pool, 10,
                         [&] { static_cast<void>(KvModelSequence<float>(other)); });
}

/// A step of more sequences than fit on the stack.
TEST_F(AllocationsOfCaches, ThatFailInAStepOfManyChangeNothing) {
  KvCache<float> cache(cache_shape, {.budget = 9}, pool);
  std::vector<Sequence> all(20);
  std::vector<Sequence*> step;
  std::vector<const Sequence*> watched;
  for (std::size_t b = 0; b < all.size(); ++b) {
    all[b] = filled(cache, Index(b), b);
    step.push_back(&all[b]), watched.push_back(&all[b]);
  }
  const Inputs<float> rows = rows_for<float>(20, 2, 3);
  Tensor<float> to(20, 4, 2, 8);
  expect_nothing_changes(watched, pool, 3, [&] { standard_step(cache, step, rows, to); });
}

TEST_F(AllocationsOfCaches, ThatFailInForksAndMarksChangeNothing) {
  KvCache<float> cache(cache_shape, {.budget = 3 * page, .evict = heavy_hitters}, pool);
  const Sequence from = filled(cache, 5 * page, 1);
  Sequence to = filled(cache, 7, 2);
  expect_nothing_changes({&from, &to}, pool, 5, [&] { to = from; });
  EXPECT_TRUE(same_memory(to, from));
  const auto mark = to.mark();
  take(cache, to, rows_for<float>(1, 9, 3));
  expect_nothing_changes({&from, &to}, pool, 5, [&] { to.roll_back(mark); });
  EXPECT_TRUE(same_memory(to, from));
  expect_nothing_changes({&from, &to}, pool, 5, [&] { static_cast<void>(to.mark()); });
  expect_nothing_changes({&from, &to}, pool, 1, [&] { static_cast<void>(cache.open()); });
}

TEST_F(AllocationsOfCaches, ThatFailInNewBudgetsAndRemovalsChangeNothing) {
  KvCache<float> cache(cache_shape, {}, pool), plain(cache_shape, {.select = {}}, pool);
  Sequence s = filled(cache, 5 * page, 1);
  expect_nothing_changes({&s}, pool, 8, [&] { cache.set_budget(s, page + 1); });
  EXPECT_EQ(s.count(), page + 1);
  Sequence dropped = filled(cache, 5 * page, 2), fork = dropped;
  expect_nothing_changes({&dropped, &fork}, pool, 1, [&] { fork.drop(3, page); });
  EXPECT_EQ(fork.count(), 4 * page + 3);
  Sequence cut = filled(plain, 5 * page, 3), other = cut;
  expect_nothing_changes({&cut, &other}, pool, 1, [&] { other.truncate(page); });
  EXPECT_EQ(other.next(), page);
}

TEST_F(AllocationsOfCaches, ThatFailInMovesToOtherCachesChangeNothing) {
  const KvPool<float> wide(8, 8);
  KvCache<float> cache(cache_shape, {.budget = 3 * page}, pool),
      shared(cache_shape, {.budget = 200}, pool), copied(cache_shape, {.budget = 200}, wide);
  const Sequence from = filled(cache, 5 * page, 1);
  Sequence to = filled(shared, 7, 2), far = filled(copied, 9, 3);
  expect_nothing_changes({&from, &to}, pool, 6, [&] { to = shared.open(from); });
  EXPECT_EQ(held(to), held(from));
  expect_nothing_changes({&from, &far}, wide, 6, [&] { far = copied.open(from); });
  EXPECT_EQ(held(far), held(from));
  expect_nothing_changes({&from}, pool, 1, [&] { KvPool<float>(8, 8, {.bytes = 100000}); });
}

}  // namespace
}  // namespace heed::test
