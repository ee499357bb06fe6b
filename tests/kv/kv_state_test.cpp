// SPDX-License-Identifier: MIT
// What a sequence remembers: slots, copies, and what must never come back.

#include "heed/kv/kv_sequence.hpp"
#include "support/buffers.hpp"
#include "support/sanitizers.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace heed::test {
namespace {

template <class T>
class Sequences : public testing::Test {};
TYPED_TEST_SUITE(Sequences, Scalars, ScalarName);

constexpr Index empty_slot = KvSlots<float>::empty_slot;

// ---- slots

TYPED_TEST(Sequences, ReuseTheSlotOfAnEvictedTokenAndMoveNoOther) {
  using T = TypeParam;
  const Inputs<T> in = inputs<T>(tokens(120, 8, 2, 1), 1);
  for (const EvictWhen when : {EvictWhen::before_row, EvictWhen::after_row, EvictWhen::chunk_end})
    for (const Index chunk : {1, 5}) {
      const KvOptions o{.budget = 10, .when = when, .chunk = chunk};
      SCOPED_TRACE(describe(o));
      KvBuffer<T> buffer = buffer_for(in, o);
      Buffered<T> answers = answers_to(in);
      const Index page = buffer.sequence(0).pool().page(),
                  capacity = (9 + chunk) / page * page + page;
      Vector<Index> before(std::size_t(capacity), empty_slot);
      for (Index i = 0; i < 120; i += chunk) {
        step(buffer, in, i, i + chunk, answers);
        const KvSlots<T>& s = buffer.sequence(0).slots();
        EXPECT_EQ(buffer.sequence(0).next(), i + chunk);
        EXPECT_LE(s.slots, 10 + chunk);
        ASSERT_LE(s.capacity(), capacity);
        Index tokens_held = 0;
        for (Index slot = 0; slot < s.capacity(); ++slot) {
          const Index was = before[std::size_t(slot)], is = s.position[std::size_t(slot)];
          tokens_held += is != empty_slot;
          // The token stayed, was evicted, or was replaced by a token of this step.
          EXPECT_TRUE(is == was || is == empty_slot || is >= i) << "slot " << slot;
        }
        EXPECT_EQ(s.count, tokens_held);
        EXPECT_EQ(Index(s.free.size()) + s.count, s.slots);
        for (const Index slot : s.free) EXPECT_EQ(s.position[std::size_t(slot)], empty_slot);
        before = s.position;
        before.resize(std::size_t(capacity), empty_slot);
      }
    }
}

/// A token that comes into a slot starts from nothing.
TYPED_TEST(Sequences, StartEveryTokenWithAnFOfZero) {
  using T = TypeParam;
  const Inputs<T> in = inputs<T>(tokens(60, 8, 2, 1), 2, 2);
  KvBuffer<T> buffer = buffer_for(in, {.budget = 6});
  Buffered<T> answers = answers_to(in);
  for (Index i = 0; i < 60; ++i) {
    step(buffer, in, i, i + 1, answers);
    const auto tokens = held(buffer.sequence(0));
    EXPECT_EQ(tokens.back(), std::make_pair(i, 0.)) << i;
    EXPECT_EQ(tokens.front(), std::make_pair(Index(0), 0.)) << i;
    for (const auto& [position, f] : tokens) EXPECT_GE(f, 0.);
  }
}

TYPED_TEST(Sequences, ForgetEverythingWhenCleared) {
  using T = TypeParam;
  const Inputs<T> in = inputs<T>(tokens(40, 8, 2, 1, 2), 3),
                  other = inputs<T>(tokens(30, 8, 2, 1, 2), 4);
  for (const Evict evict : {Evict::most_masked, Evict::least_attended})
    for (const std::optional<Index> budget : {std::optional<Index>(7), std::optional<Index>()}) {
      const KvOptions o{.budget = budget, .evict = evict};
      SCOPED_TRACE(describe(o));
      KvBuffer<T> used = buffer_for(in, o), fresh = buffer_for(in, o);
      Inputs<T> poisoned = other;
      poisoned.v.setConstant(std::numeric_limits<T>::infinity());
      through(used, poisoned);
      const std::size_t bytes = used.bytes();
      for (const Index b : {0, 1}) {
        used.clear(b);
        EXPECT_EQ(used.sequence(b).next(), 0);
        EXPECT_EQ(used.sequence(b).count(), 0);
        EXPECT_TRUE(held(used.sequence(b)).empty());
      }
      EXPECT_EQ(used.bytes(), bytes);
      expect_same_bits(through(used, in), through(fresh, in));
    }
}

TYPED_TEST(Sequences, AreClearedOneByOne) {
  using T = TypeParam;
  const Inputs<T> in = inputs<T>(tokens(20, 8, 2, 1, 2), 5);
  KvBuffer<T> buffer = buffer_for(in, {.budget = 7});
  through(buffer, in);
  const KvSequence<T> second = buffer.sequence(1);
  buffer.clear(0);
  EXPECT_TRUE(same_memory(second, buffer.sequence(1)));
}

// ---- copies

/// A fork: two buffers go on from one past, and neither knows of the other.
TYPED_TEST(Sequences, GoOnAfterACopyAsTheyWouldHave) {
  using T = TypeParam;
  const Inputs<T> one = inputs<T>(tokens(60, 8, 4, 2, 2), 6);
  Inputs<T> other = one;  // the same first 25 tokens, then others
  const Inputs<T> rest = inputs<T>(tokens(60, 8, 4, 2, 2), 7);
  for (Index i = 25; i < 60; ++i) {
    other.q.chip(i, 2) = rest.q.chip(i, 2);
    other.k.chip(i, 2) = rest.k.chip(i, 2);
    other.v.chip(i, 2) = rest.v.chip(i, 2);
  }
  for (const Evict evict : {Evict::most_masked, Evict::least_attended})
    for (const std::optional<Index> budget : {std::optional<Index>(9), std::optional<Index>()}) {
      const KvOptions o{.budget = budget, .evict = evict, .chunk = 1};
      SCOPED_TRACE(describe(o));
      const Buffered<T> want_one = through(o, one), want_other = through(o, other);
      KvBuffer<T> first = buffer_for(one, o);
      Buffered<T> got_one = answers_to(one);
      step(first, one, 0, 25, got_one);
      KvBuffer<T> second = first;
      Buffered<T> got_other = got_one;
      for (Index i = 25; i < 60; i += 7) {
        step(first, one, i, i + 7, got_one);
        step(second, other, i, i + 7, got_other);
      }
      expect_same_bits(got_one, want_one);
      expect_same_bits(got_other, want_other);
    }
}

/// A draft that was rejected: the sequence is put back and goes on otherwise.
TYPED_TEST(Sequences, AreRolledBackByCopyingThemBack) {
  using T = TypeParam;
  const Inputs<T> in = inputs<T>(tokens(60, 8, 2, 1, 2), 8),
                  draft = inputs<T>(tokens(60, 8, 2, 1, 2), 9);
  for (const std::optional<Index> budget : {std::optional<Index>(9), std::optional<Index>()})
    for (const Index chunk : {1, 4}) {
      const KvOptions o{.budget = budget, .chunk = chunk};
      SCOPED_TRACE(describe(o));
      KvBuffer<T> straight = buffer_for(in, o), buffer = buffer_for(in, o);
      Buffered<T> want = answers_to(in), got = want, rejected = want;
      for (Index i = 0; i < 60; i += 12) {
        step(straight, in, i, i + 12, want);
        const std::vector<KvSnapshot<T>> snapshot{buffer.snapshot(0), buffer.snapshot(1)};
        step(buffer, draft, i, i + 12, rejected);
        for (const Index b : {0, 1}) buffer.restore(b, snapshot[std::size_t(b)]);
        step(buffer, in, i, i + 12, got);
      }
      expect_same_bits(got, want);
    }
}

/// One past, many futures in one batch.
TYPED_TEST(Sequences, AreForkedWithinABatch) {
  using T = TypeParam;
  const Inputs<T> in = inputs<T>(tokens(40, 8, 2, 1, 2), 10);
  KvBuffer<T> buffer = buffer_for(in, {.budget = 9});
  Buffered<T> got = answers_to(in);
  step(buffer, in, 0, 20, got);
  buffer.copy_sequence(buffer, 0, 1);
  Inputs<T> same = in;
  same.q.chip(1, 0) = in.q.chip(0, 0);
  same.k.chip(1, 0) = in.k.chip(0, 0);
  same.v.chip(1, 0) = in.v.chip(0, 0);
  step(buffer, same, 20, 40, got);
  for (Index i = 20; i < 40; ++i)
    for (Index d = 0; d < 8; ++d) EXPECT_EQ(got.out(0, 0, i, d), got.out(1, 0, i, d));
  EXPECT_TRUE(same_memory(buffer.sequence(0), buffer.sequence(1)));
}

TYPED_TEST(Sequences, SurviveTheMoveOfTheirBuffer) {
  using T = TypeParam;
  const Inputs<T> in = inputs<T>(tokens(40, 8, 2, 1), 11);
  const KvOptions o{.budget = 9, .chunk = 1};
  const Buffered<T> want = through(o, in);
  Buffered<T> got = answers_to(in);
  KvBuffer<T> first = buffer_for(in, o);
  step(first, in, 0, 20, got);
  KvBuffer<T> second = std::move(first);
  step(second, in, 20, 30, got);
  KvBuffer<T> third({}, {});
  third = second;
  step(third, in, 30, 40, got);
  expect_same_bits(got, want);
}

// ---- memory

TYPED_TEST(Sequences, TakeNoMoreMemoryForTenThousandTokens) {
  using T = TypeParam;
  const Inputs<T> in = inputs<T>(tokens(500, 4, 2, 1), 12);
  for (const EvictWhen when : {EvictWhen::before_row, EvictWhen::after_row, EvictWhen::chunk_end})
    for (const Index chunk : {1, 20}) {
      const KvOptions o{.budget = 16, .when = when, .chunk = chunk};
      SCOPED_TRACE(describe(o));
      KvBuffer<T> buffer = buffer_for(in, o);
      std::size_t bytes = 0;
      Tensor<T> out(1, 2, 500, 4);
      for (Index i = 0; i < 20; ++i) {
        standard_step(buffer, in, out);
        if (i == 0) bytes = buffer.bytes();
      }
      EXPECT_EQ(buffer.sequence(0).next(), 10000);
      EXPECT_EQ(buffer.sequence(0).count(), 16);
      EXPECT_LE(buffer.sequence(0).slots().slots, 16 + chunk);
      EXPECT_EQ(buffer.bytes(), bytes);
    }
}

/// Positions past what a float counts exactly in small steps do not matter either: the last of many
/// tokens attends to what is held, by the F that is held.
TYPED_TEST(Sequences, AreAsExactAfterTenThousandTokensAsAtFirst) {
  using T = TypeParam;
  const Inputs<T> in = inputs<T>(tokens(500, 4, 1, 1), 13);
  KvBuffer<T> buffer = buffer_for(in, {.budget = 16});
  Tensor<T> out(1, 1, 500, 4);
  for (Index i = 0; i < 20; ++i) standard_step(buffer, in, out);
  const auto before = held(buffer.sequence(0));
  Buffered<T> got = answers_to(Inputs<T>{slice(in.q, 0, 1), slice(in.k, 0, 1), slice(in.v, 0, 1)});
  const Inputs<T> one{slice(in.q, 7, 8), slice(in.k, 7, 8), slice(in.v, 7, 8)};
  standard_step(buffer, one, got.out);
  const auto now = held(buffer.sequence(0));
  ASSERT_EQ(now.size(), 16u);
  EXPECT_EQ(now.back().first, 10000);

  // Token n of the text is token n mod 500 of the inputs.
  const auto token = [](Index position) { return position == 10000 ? 7 : position % 500; };
  std::vector<double> z;
  for (const auto& [position, f_after] : now) {
    double f = 0, score = 0;
    for (const auto& [earlier, f_before] : before)
      if (earlier == position) f = f_before;
    for (Index d = 0; d < 4; ++d)
      score += double(in.q(0, 0, 7, d)) * double(in.k(0, 0, token(position), d)) / 2;
    z.push_back(score - f);
    const double cast = position == 0 || position == 10000 ? 0 : std::max(score, 0.);
    EXPECT_NEAR(f_after, f + cast, 4 * tolerance<T> * (1 + f));
  }
  reference::softmax(z);
  for (Index d = 0; d < 4; ++d) {
    double want = 0;
    for (std::size_t s = 0; s < now.size(); ++s)
      want += z[s] * double(in.v(0, 0, token(now[s].first), d));
    EXPECT_NEAR(got.out(0, 0, 0, d), want, 4 * tolerance<T>);
  }
}

TYPED_TEST(Sequences, WithoutABudgetGrowByPages) {
  using T = TypeParam;
  const Inputs<T> in = inputs<T>(tokens(600, 4), 14);
  KvBuffer<T> buffer = buffer_for(in, {});
  Buffered<T> answers = answers_to(in);
  const Index page = buffer.sequence(0).pool().page();
  for (Index i = 0; i < 600; ++i) {
    step(buffer, in, i, i + 1, answers);
    ASSERT_EQ(buffer.sequence(0).slots().capacity(), i / page * page + page);
    ASSERT_EQ(buffer.sequence(0).pages(), i / page + 1);
    ASSERT_EQ(buffer.sequence(0).pool().pages_held(), i / page + 1);
  }
  EXPECT_EQ(buffer.sequence(0).count(), 600);
}

// ---- what must never come back

/// Rows at which none of the poisoned tokens is held.
template <class T>
std::vector<Index> rows_without(const std::vector<Index>& poisoned, const Buffered<T>& got) {
  std::vector<Index> rows;
  for (Index i = 0; i < got.out.dimension(2); ++i)
    if (std::none_of(poisoned.begin(), poisoned.end(),
                     [&](Index j) { return j <= i && i < got.evict_row(0, j); }))
      rows.push_back(i);
  return rows;
}

template <class T>
void expect_clean_rows(const std::vector<Index>& poisoned, const Buffered<T>& got,
                       const Buffered<T>& clean) {
  const std::vector<Index> rows = rows_without(poisoned, got);
  EXPECT_GT(rows.size(), 20u);
  const Tensor<T> difference = got.out - clean.out;
  for (const Index i : rows)
    for (Index h = 0; h < got.out.dimension(1); ++h) {
      EXPECT_NEAR(got.lse(0, h, i), clean.lse(0, h, i), 10 * tolerance<T>) << "row " << i;
      for (Index d = 0; d < got.out.dimension(3); ++d)
        ASSERT_LE(std::abs(difference(0, h, i, d)), 10 * tolerance<T>) << "row " << i;
    }
}

template <class T>
std::vector<T> not_finite() {
  using Limits = std::numeric_limits<T>;
  return {Limits::quiet_NaN(), Limits::infinity(), -Limits::infinity()};
}

/// Neither from its keys nor from its values, whether its slot is empty, taken again, or was still
/// in use when the chunk began.
TYPED_TEST(Sequences, NeverReadATokenThatWentNotEvenNaN) {
  using T = TypeParam;
  const Inputs<T> in = inputs<T>(tokens(70, 8, 2, 1), 15);
  const std::vector<Index> poisoned{3, 4, 21};
  for (const SelectOptions& select : {SelectOptions{}, SelectOptions{.relu = false}})
    for (const EvictWhen when : {EvictWhen::before_row, EvictWhen::after_row, EvictWhen::chunk_end})
      for (const Index chunk : {1, 3, 16, 40}) {
        const KvOptions o{
            .budget = 8, .evict = Evict::oldest, .when = when, .select = select, .chunk = chunk};
        const Buffered<T> clean = through(o, in);
        for (const T value : not_finite<T>()) {
          SCOPED_TRACE(testing::Message() << value << ", " << describe(o)
                                          << (select.relu ? "" : ", votes of any sign"));
          Inputs<T> bad = in;
          for (const Index j : poisoned) {
            bad.k.chip(j, 2).setConstant(value);
            bad.v.chip(j, 2).setConstant(value);
          }
          expect_clean_rows(poisoned, through(o, bad), clean);
        }
      }
}

TYPED_TEST(Sequences, NeverReadTheValueOfATokenThatWasVotedOut) {
  using T = TypeParam;
  const Inputs<T> in = inputs<T>(tokens(70, 8, 2, 1), 16);
  for (const Index chunk : {1, 3, 16, 40}) {
    const KvOptions o{.budget = 8, .chunk = chunk};
    const Buffered<T> clean = through(o, in);
    std::vector<Index> poisoned;  // evicted soon, so that rows without them follow
    for (Index j = 1; j < 60 && poisoned.size() < 4; ++j)
      if (clean.evict_row(0, j) < j + 8) poisoned.push_back(j);
    for (const T value : not_finite<T>()) {
      SCOPED_TRACE(testing::Message() << value << ", chunk " << chunk);
      Inputs<T> bad = in;
      for (const Index j : poisoned) bad.v.chip(j, 2).setConstant(value);
      const Buffered<T> got = through(o, bad);
      EXPECT_TRUE(same_bits(got.evict_row, clean.evict_row));
      expect_clean_rows(poisoned, got, clean);
    }
  }
}

/// Weights do not depend on values, and neither does the token that received the least.
TYPED_TEST(Sequences, NeverReadTheValueOfATokenThatReceivedTheLeast) {
  using T = TypeParam;
  const Inputs<T> in = inputs<T>(tokens(70, 8, 2, 1), 17);
  const KvOptions o{.budget = 8, .evict = Evict::least_attended};
  const Buffered<T> clean = through(o, in);
  std::vector<Index> poisoned;
  for (Index j = 1; j < 60 && poisoned.size() < 4; ++j)
    if (clean.evict_row(0, j) < j + 8) poisoned.push_back(j);
  for (const T value : not_finite<T>()) {
    Inputs<T> bad = in;
    for (const Index j : poisoned) bad.v.chip(j, 2).setConstant(value);
    const Buffered<T> got = through(o, bad);
    EXPECT_TRUE(same_bits(got.evict_row, clean.evict_row));
    expect_clean_rows(poisoned, got, clean);
  }
}

/// The scratch of a step and the slots of a sequence hold what was there before; it must not show.
TYPED_TEST(Sequences, DoNotDependOnWhatMemoryHeldBefore) {
  using T = TypeParam;
  const Inputs<T> in = inputs<T>(tokens(37, 8, 6, 2), 18);
  Inputs<T> poison = in;
  for (Tensor<T>* x : {&poison.q, &poison.k, &poison.v})
    x->setConstant(std::numeric_limits<T>::infinity());
  for (const std::optional<Index> budget : {std::optional<Index>(9), std::optional<Index>()})
    for (const Index chunk : {1, 3, 13, 37}) {
      const KvOptions o{.budget = budget, .chunk = chunk};
      SCOPED_TRACE(describe(o));
      KvBuffer<T> used = buffer_for(in, o), fresh = buffer_for(in, o);
      for (const T value : not_finite<T>()) {
        for (Tensor<T>* x : {&poison.q, &poison.k, &poison.v}) x->setConstant(value);
        through(used, poison);
        used.clear(0);
      }
      const Buffered<T> got = through(used, in), want = through(fresh, in);
      EXPECT_TRUE(close(got.out, want.out));
      EXPECT_TRUE(close(got.lse, want.lse));
      EXPECT_TRUE(same_bits(got.evict_row, want.evict_row));
    }
}

}  // namespace
}  // namespace heed::test
