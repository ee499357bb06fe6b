// SPDX-License-Identifier: MIT
// A sequence as a value: forks, marks, and what is removed from it.

#include "heed/kv/kv_sequence.hpp"

#include "support/caches.hpp"

#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

namespace heed::test {
namespace {

template <class T>
class SequenceValues : public testing::Test {
 protected:
  static constexpr Index page = small_page<T>;

  KvPool<T> pool{8, 8, {.page = page}};
  KvCache<T> cache{cache_shape, {.budget = 3 * page}, pool};
  KvCache<T> window{cache_shape, {.budget = 3 * page, .evict = oldest, .select = {}}, pool};
  KvCache<T> whole{cache_shape, {}, pool};
};
TYPED_TEST_SUITE(SequenceValues, Scalars, ScalarName);

TYPED_TEST(SequenceValues, AreClosedUntilACacheOpensThem) {
  using T = TypeParam;
  KvSequence<T> s;
  EXPECT_FALSE(s.is_open());
  EXPECT_EQ(s.next(), 0);
  EXPECT_EQ(s.pages(), 0);
  s.close();
  const std::string closed = "the sequence is closed";
  const auto says = [&](auto&& call) { EXPECT_EQ(message_of<ValueError>(call), closed); };
  says([&] { s.clear(); });
  says([&] { s.shape(); });
  says([&] { s.options(); });
  says([&] { s.pool(); });
  says([&] { s.budget(); });
  says([&] { s.count(); });
  says([&] { s.held(); });
  says([&] { s.slots(); });
  says([&] { s.mark(); });
  says([&] { s.truncate(0); });
  says([&] { s.drop(0, 0); });
  says([&] { this->cache.open(s); });
  says([&] { this->cache.set_budget(s, 4); });
  KvSequence<T> open = this->cache.open();
  const KvMark<T> mark = open.mark();
  says([&] { s.roll_back(mark); });
  EXPECT_TRUE(open.is_open());
  EXPECT_EQ(open.budget(), this->cache.options().budget);
  EXPECT_EQ(open.pages(), 0);
}

TYPED_TEST(SequenceValues, ReturnTheirPagesWhenClosed) {
  using T = TypeParam;
  KvSequence<T> a = filled(this->cache, 5 * this->page, 1), b = filled(this->cache, 5, 2);
  EXPECT_EQ(this->pool.pages_held(), 2 * 3 + 2);
  a.close();
  EXPECT_FALSE(a.is_open());
  EXPECT_EQ(a.next(), 0);
  EXPECT_EQ(a.pages(), 0);
  EXPECT_EQ(this->pool.pages_held(), 2);
  a.close();
  { const KvSequence<T> gone = std::move(b); }
  EXPECT_EQ(this->pool.pages_held(), 0);
}

/// The pages of what is assigned over return at once, not when the other side ends.
TYPED_TEST(SequenceValues, ThatAreMovedFromAreClosed) {
  using T = TypeParam;
  KvSequence<T> a = filled(this->cache, 2 * this->page, 1), b = filled(this->cache, 5, 2);
  const KvSequence<T> copy = b;
  a = std::move(b);
  EXPECT_FALSE(b.is_open());  // NOLINT: it is what is tested
  EXPECT_EQ(b.next(), 0);
  EXPECT_EQ(b.pages(), 0);
  EXPECT_EQ(this->pool.pages_held(), 2);
  EXPECT_TRUE(same_memory(a, copy));
  KvSequence<T> c(std::move(a));
  EXPECT_FALSE(a.is_open());  // NOLINT
  EXPECT_EQ(a.next(), 0);
  EXPECT_TRUE(same_memory(c, copy));
  KvSequence<T>& self = c;
  c = std::move(self);
  EXPECT_TRUE(same_memory(c, copy));
  c = self;
  EXPECT_TRUE(same_memory(c, copy));
}

// ---- forks

/// A fork costs nothing until one of the two writes, and then the pages that are written.
TYPED_TEST(SequenceValues, ShareThePagesOfForksUntilOneWrites) {
  using T = TypeParam;
  const Index slots = this->page, G = 2;
  KvSequence<T> a = filled(this->whole, 2 * slots + 3, 1);
  EXPECT_EQ(this->pool.pages_held(), G * 3);
  KvSequence<T> b = a, c = a;
  EXPECT_EQ(this->pool.pages_held(), G * 3);
  EXPECT_EQ(b.pages(), G * 3);
  const Inputs<T> one = rows_for<T>(1, 1, 2), many = rows_for<T>(1, slots, 3);
  const KvSequence<T> before = a;
  take(this->whole, b, one);
  EXPECT_EQ(this->pool.pages_held(), G * 4);
  take(this->whole, b, one);  // its own now
  EXPECT_EQ(this->pool.pages_held(), G * 4);
  EXPECT_TRUE(same_memory(a, before));
  take(this->whole, c, many);  // the rest of a page, and another
  EXPECT_EQ(this->pool.pages_held(), G * 6);
  EXPECT_TRUE(same_memory(a, before));
  b.close(), c.close();
  EXPECT_EQ(this->pool.pages_held(), G * 3);
}

/// Where nothing is evicted, a fork of full pages needs no copies: new pages alone are asked for.
TYPED_TEST(SequenceValues, NeedNoCopiesOfPagesThatTheyCannotWrite) {
  using T = TypeParam;
  const Index small = this->page;
  for (const Index rest : {Index(0), Index(3)}) {
    const Index pages =
        rest == 0 ? 8 + 2 : 8 + 2 + 2;  // 2 key heads: the prefix, and one page more
    KvPool<T> exact(8, 8, {.page = small, .pages = pages});
    KvCache<T> own(cache_shape, {}, exact);
    const KvSequence<T> prefix = filled(own, 4 * small + rest, 1);
    EXPECT_EQ(prefix.own_pages(), prefix.pages());
    EXPECT_EQ(own.pages_for(4 * small + rest), prefix.pages());
    KvSequence<T> fork = prefix;
    EXPECT_EQ(fork.own_pages(), 0);
    EXPECT_NO_THROW(take(own, fork, rows_for<T>(1, 1, 2))) << rest;
    EXPECT_EQ(fork.own_pages(), 2);
    EXPECT_EQ(exact.pages_held(), pages);
  }
}

/// What a cache says a sequence holds is what it holds.
TYPED_TEST(SequenceValues, HoldThePagesThatTheirCacheSays) {
  using T = TypeParam;
  const Index small = this->page;
  for (const std::optional<Index> budget :
       {std::optional<Index>(), std::optional<Index>(small + 5)})
    for (const EvictWhen when : {EvictWhen::before_row, EvictWhen::after_row})
      for (const Index tokens : {Index(1), small - 1, small, small + 5, 3 * small + 1}) {
        KvCache<T> own(cache_shape, {.budget = budget, .when = when},
                       KvPool<T>(8, 8, {.page = small}));
        EXPECT_EQ(filled(own, tokens, 1).pages(), own.pages_for(tokens)) << tokens;
      }
}

/// Forks go on as sequences that never had anything in common.
TYPED_TEST(SequenceValues, ForkIntoSequencesOfTheirOwn) {
  using T = TypeParam;
  for (KvCache<T>* const any : {&this->cache, &this->window, &this->whole})
    for (const Index prompt : {1, 20, 150}) {
      KvSequence<T> fork[3], own[3];
      fork[0] = filled(*any, prompt, 1), fork[1] = fork[0], fork[2] = fork[1];
      for (auto& s : own) s = filled(*any, prompt, 1);
      for (std::uint64_t round = 0; round < 6; ++round)
        for (std::size_t i = 0; i < 3; ++i) {
          if ((round + i) % 3 == 0) continue;
          const Inputs<T> in = rows_for<T>(1, 1 + Index(7 * round * i % 40), 10 * round + i);
          EXPECT_TRUE(same_bits(take(*any, fork[i], in), take(*any, own[i], in)));
        }
      for (std::size_t i = 0; i < 3; ++i) EXPECT_TRUE(same_memory(fork[i], own[i])) << i;
    }
}

/// All of a batch at once.
TYPED_TEST(SequenceValues, ForkWithinAStep) {
  using T = TypeParam;
  std::vector<KvSequence<T>> forks(5, filled(this->cache, 100, 1));
  KvSequence<T> own = filled(this->cache, 100, 1);
  std::vector<KvSequence<T>*> all;
  for (auto& s : forks) all.push_back(&s);
  const Inputs<T> in = rows_for<T>(5, 4, 2);
  Tensor<T> out(5, 4, 4, 8);
  standard_step(this->cache, all, in, out);
  for (Index b = 0; b < 5; ++b) {
    KvSequence<T> alone = own;
    EXPECT_TRUE(same_bits(take(this->cache, alone, batch_of(in, b, 4)), batch_of(out, b, 4)));
    EXPECT_TRUE(same_memory(alone, forks[std::size_t(b)]));
  }
}

// ---- marks

TYPED_TEST(SequenceValues, RollBackAnyNumberOfSteps) {
  using T = TypeParam;
  for (KvCache<T>* const any : {&this->cache, &this->window, &this->whole}) {
    KvSequence<T> s = filled(*any, 70, 1);
    const KvSequence<T> before = s;
    const Index pages = this->pool.pages_held();
    const KvMark<T> mark = s.mark();
    EXPECT_EQ(this->pool.pages_held(), pages);
    const Inputs<T> in = rows_for<T>(1, 9, 2);
    const Tensor<T> first = take(*any, s, in);
    const KvSequence<T> after = s;
    for (int i = 0; i < 10; ++i) take(*any, s, in);
    s.roll_back(mark);
    EXPECT_TRUE(same_memory(s, before));
    EXPECT_TRUE(same_memory(mark.sequence(), before));
    EXPECT_TRUE(same_bits(take(*any, s, in), first));
    EXPECT_TRUE(same_memory(s, after));
    s.roll_back(mark);  // as often as one likes
    EXPECT_TRUE(same_memory(s, before));
    s.clear();
    s.roll_back(mark);
    EXPECT_TRUE(same_memory(s, before));
    any->set_budget(s, 20);
    s.roll_back(mark);
    EXPECT_TRUE(same_memory(s, before));
  }
  EXPECT_EQ(this->pool.pages_held(), 0);
}

/// A mark holds pages of its own only where the sequence has written since.
TYPED_TEST(SequenceValues, PayForMarksWhatTheyChange) {
  using T = TypeParam;
  KvSequence<T> s = filled(this->whole, 5 * this->page + 1, 1);
  {
    const KvMark<T> mark = s.mark();
    take(this->whole, s, rows_for<T>(1, 1, 2));
    EXPECT_EQ(this->pool.pages_held(), 2 * 7);
    s.roll_back(mark);
    EXPECT_EQ(this->pool.pages_held(), 2 * 6);
    take(this->whole, s, rows_for<T>(1, 1, 2));
  }
  EXPECT_EQ(this->pool.pages_held(), 2 * 6);
}

TYPED_TEST(SequenceValues, RefuseTheMarksOfOthers) {
  using T = TypeParam;
  KvSequence<T> a = filled(this->cache, 10, 1), fork = a;
  const KvMark<T> mark = a.mark();
  const KvSequence<T> before = fork;
  const std::string said = message_of<ValueError>([&] { fork.roll_back(mark); });
  EXPECT_EQ(said.rfind("the mark is of sequence ", 0), 0u) << said;
  EXPECT_NE(said.find(", the sequence to roll back is "), std::string::npos) << said;
  EXPECT_TRUE(same_memory(fork, before));
  KvSequence<T> moved = std::move(a);  // the same sequence elsewhere
  take(this->cache, moved, rows_for<T>(1, 3, 2));
  moved.roll_back(mark);
  EXPECT_TRUE(same_memory(moved, before));
  moved = fork;  // another one
  EXPECT_THROW(moved.roll_back(mark), ValueError);
}

// ---- tokens removed

/// What is truncated is as if it had never come.
TYPED_TEST(SequenceValues, TruncateWhereNothingWasEvicted) {
  using T = TypeParam;
  KvCache<T> plain(cache_shape, {.select = {}}, this->pool);
  const Inputs<T> in = rows_for<T>(1, 5 * this->page, 3);
  for (KvCache<T>* const any : {&this->window, &plain})
    for (const Index stay : {Index(0), Index(1), this->page - 1, this->page, 2 * this->page + 5}) {
      KvSequence<T> s = any->open(), other = any->open();
      take(*any, other, batch_of(in, 0, stay));
      take(*any, s, batch_of(in, 0, 3 * this->page));
      const KvSequence<T> fork = s;
      s.truncate(3 * this->page);
      EXPECT_TRUE(same_memory(s, fork));
      s.truncate(stay);
      EXPECT_EQ(s.next(), stay);
      EXPECT_EQ(s.pages(), 2 * pages_of(stay, this->page));
      EXPECT_EQ(held(s), held(other));
      EXPECT_EQ(s.slots().first == KvSlots<T>::empty_slot, stay == 0);
      const Inputs<T> more = rows_for<T>(1, 4, 9);
      EXPECT_TRUE(same_bits(take(*any, s, more), take(*any, other, more)));
      EXPECT_EQ(fork.count(), 3 * this->page);
    }
}

TYPED_TEST(SequenceValues, RefuseToTruncateWhatCannotBe) {
  using T = TypeParam;
  const auto refusal = [&](KvSequence<T> s, Index tokens) {
    const KvSequence<T> before = s;
    const std::string said = message_of<ValueError>([&] { s.truncate(tokens); });
    EXPECT_TRUE(same_memory(s, before));
    return said;
  };
  const std::string marks = "return to a mark instead";
  EXPECT_EQ(refusal(filled(this->window, 10, 1), 11), "truncate to 11 tokens: the sequence has 10");
  EXPECT_EQ(refusal(filled(this->window, 10, 1), -1), "truncate to -1 tokens: the sequence has 10");
  EXPECT_EQ(refusal(filled(this->cache, 10, 1), 9),
            "truncate to 9 of 10 tokens: rows that go have changed F or weights of tokens that "
            "stay; " +
                marks);
  const Index n = 3 * this->page + 2;
  EXPECT_EQ(refusal(filled(this->window, n, 1), n - 1),
            "truncate to " + std::to_string(n - 1) + " of " + std::to_string(n) +
                " tokens: 2 of them were evicted; " + marks);
  KvCache<T> hitters(cache_shape, {.evict = heavy_hitters, .select = {}}, this->pool);
  EXPECT_NE(refusal(filled(hitters, 10, 1), 9).find("have changed F or weights"),
            std::string::npos);
}

/// Dropped tokens are masked from then on, and others keep their positions and F.
TYPED_TEST(SequenceValues, DropPositionsProtectedOrNot) {
  using T = TypeParam;
  for (KvCache<T>* const any : {&this->cache, &this->whole}) {
    KvSequence<T> s = filled(*any, 40, 1), kept = s;
    auto want = held(s);
    s.drop(0, 0), s.drop(40, 40);
    EXPECT_TRUE(same_memory(s, kept));
    s.drop(0, 1), s.drop(10, 20);
    want.erase(std::remove_if(
                   want.begin(), want.end(),
                   [](const auto& t) { return t.first == 0 || (t.first >= 10 && t.first < 20); }),
               want.end());
    EXPECT_EQ(held(s), want);
    EXPECT_EQ(s.next(), 40);
    EXPECT_EQ(s.slots().first, KvSlots<T>::empty_slot);
    EXPECT_EQ(kept.count(), std::min<Index>(40, any->options().budget.value_or(40)));
    s.drop(20, 40);  // pages behind the last token return
    EXPECT_EQ(s.pages(), 2 * pages_of(s.slots().slots, this->page));
    s.drop(0, 40);
    EXPECT_EQ(s.count(), 0);
    EXPECT_EQ(s.pages(), 0);
    EXPECT_EQ(s.next(), 40);
    // Only the new token is seen: the answer is its value.
    const Inputs<T> in = rows_for<T>(1, 1, 5);
    const Tensor<T> out = take(*any, s, in);
    for (Index h = 0; h < 4; ++h)
      for (Index d = 0; d < 8; ++d) EXPECT_NEAR(out(0, h, 0, d), in.v(0, h / 2, 0, d), 1e-6);
    EXPECT_EQ(held_positions(s), std::vector<Index>{40});
  }
}

TYPED_TEST(SequenceValues, RefuseToDropWhatIsNotThere) {
  using T = TypeParam;
  KvSequence<T> s = filled(this->cache, 10, 1);
  const KvSequence<T> before = s;
  for (const auto& [first, last] : {std::array<Index, 2>{-1, 2}, {5, 4}, {5, 11}, {11, 11}})
    EXPECT_EQ(message_of<ValueError>([&, f = first, l = last] { s.drop(f, l); }),
              "drop positions " + std::to_string(first) + " … " + std::to_string(last - 1) +
                  ": the sequence has 10");
  EXPECT_TRUE(same_memory(s, before));
  for (const Index head : {-1, 2})
    EXPECT_EQ(message_of<ValueError>([&] { s.held(head); }),
              "key head " + std::to_string(head) + " is asked for, there are 2");
}

TYPED_TEST(SequenceValues, BeginAgainWhenCleared) {
  using T = TypeParam;
  KvSequence<T> s = filled(this->cache, 100, 1);
  const KvSequence<T> fork = s;
  s.clear();
  EXPECT_TRUE(s.is_open());
  EXPECT_EQ(s.next(), 0);
  EXPECT_EQ(s.count(), 0);
  EXPECT_EQ(s.pages(), 0);
  EXPECT_EQ(fork.count(), 3 * this->page);
  KvSequence<T> fresh = this->cache.open();
  const Inputs<T> in = rows_for<T>(1, 80, 4);
  EXPECT_TRUE(same_bits(take(this->cache, s, in), take(this->cache, fresh, in)));
  EXPECT_TRUE(same_memory(s, fresh));
}

}  // namespace
}  // namespace heed::test
