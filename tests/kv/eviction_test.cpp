// SPDX-License-Identifier: MIT
// Which token is evicted, and when: properties that hold for any numbers.

#include "heed/kv/eviction.hpp"

#include "support/buffers.hpp"
#include "support/fixtures.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <string>
#include <vector>

namespace heed::test {
namespace {

template <class T>
class Evictions : public testing::Test {};
TYPED_TEST_SUITE(Evictions, Scalars, ScalarName);

/// Keys a row attends to.
template <class T>
std::vector<Index> seen_by(Index row, const Buffered<T>& got, Index batch = 0) {
  std::vector<Index> keys;
  for (Index j = 0; j <= row; ++j)
    if (row < got.evict_row(batch, j)) keys.push_back(j);
  return keys;
}

// ---- spec of the paper's pruning

TYPED_TEST(Evictions, LeaveEachRowExactlyTheBudget) {
  using T = TypeParam;
  const Inputs<T> in = inputs<T>(tokens(80, 8, 2, 1, 2), 1);
  for (const Evict evict : {Evict::most_masked, Evict::least_attended, Evict::oldest})
    for (const Index budget : {2, 9, 33})
      for (const Index chunk : {1, 16}) {
        if (evict == Evict::least_attended && chunk != 1) continue;
        const KvOptions o{.budget = budget, .evict = evict, .chunk = chunk};
        SCOPED_TRACE(describe(o));
        KvBuffer<T> buffer = buffer_for(in, o);
        const Buffered<T> got = through(buffer, in);
        for (Index b = 0; b < 2; ++b) {
          EXPECT_EQ(buffer.sequence(b).count(), budget);
          for (Index i = 0; i < 80; ++i)
            ASSERT_EQ(Index(seen_by(i, got, b).size()), std::min(i + 1, budget)) << i;
        }
      }
}

TYPED_TEST(Evictions, AfterTheRowLeaveEachRowOneTokenMore) {
  using T = TypeParam;
  const Inputs<T> in = inputs<T>(tokens(60, 8, 2, 1), 2);
  for (const Index chunk : {1, 16}) {
    KvBuffer<T> buffer =
        buffer_for(in, {.budget = 9, .when = EvictWhen::after_row, .chunk = chunk});
    const Buffered<T> got = through(buffer, in);
    EXPECT_EQ(buffer.sequence(0).count(), 9);
    for (Index i = 0; i < 60; ++i)
      ASSERT_EQ(Index(seen_by(i, got).size()), std::min<Index>(i + 1, 10)) << i;
  }
}

TYPED_TEST(Evictions, AtTheEndOfAChunkLetItGrowByTheChunk) {
  using T = TypeParam;
  const Inputs<T> in = inputs<T>(tokens(60, 8, 2, 1), 3);
  KvBuffer<T> buffer = buffer_for(in, {.budget = 9, .when = EvictWhen::chunk_end, .chunk = 8});
  const Buffered<T> got = through(buffer, in);
  EXPECT_EQ(buffer.sequence(0).count(), 9);
  for (Index i = 8; i < 60; ++i) {
    const Index chunk = i / 8, held = std::min<Index>(8 * chunk, 9);
    ASSERT_EQ(Index(seen_by(i, got).size()), held + i - 8 * chunk + 1) << i;
  }
}

/// Nor the row's own token: it sees itself even with every vote against it.
TYPED_TEST(Evictions, NeverTouchTheFirstTokenTheProtectedOrTheRecent) {
  using T = TypeParam;
  const Inputs<T> in = inputs<T>(tokens(80, 8, 2, 1, 2), 4, 2);
  for (const Evict evict : {Evict::most_masked, Evict::least_attended, Evict::oldest})
    for (const Index recent : {1, 4}) {
      const KvOptions o{.budget = 8, .evict = evict, .protect = {0, 5, 6}, .recent = recent};
      SCOPED_TRACE(describe(o));
      const Buffered<T> got = through(o, in);
      for (Index b = 0; b < 2; ++b)
        for (Index j = 0; j < 80; ++j) {
          if (j == 0 || j == 5 || j == 6) {
            EXPECT_EQ(got.evict_row(b, j), 80) << j;
          }
          EXPECT_GE(got.evict_row(b, j), std::min<Index>(j + recent, 80)) << j;
        }
    }
}

TYPED_TEST(Evictions, DoNotHappenWithRoomForAll) {
  using T = TypeParam;
  const Inputs<T> in = inputs<T>(tokens(50, 8, 2, 1), 5);
  for (const Index chunk : {1, 16}) {
    const Buffered<T> all = through(KvOptions{.budget = {}, .chunk = chunk}, in);
    for (const Index budget : {50, 51, 1000}) {
      const Buffered<T> got = through(KvOptions{.budget = budget, .chunk = chunk}, in);
      EXPECT_TRUE(close(got.out, all.out)) << budget;
      EXPECT_TRUE(close(got.lse, all.lse)) << budget;
      EXPECT_EQ(*std::min_element(got.evict_row.data(), got.evict_row.data() + 50), 50) << budget;
    }
  }
}

TYPED_TEST(Evictions, OfOneTokenChangeTheLastRowOnly) {
  using T = TypeParam;
  const Inputs<T> in = inputs<T>(tokens(50, 8, 2, 1), 6, 0.5);
  const Buffered<T> all = through(KvOptions{.chunk = 1}, in),
                    got = through(KvOptions{.budget = 49, .chunk = 1}, in);
  EXPECT_TRUE(same_bits(slice(got.out, 0, 49), slice(all.out, 0, 49)));
  EXPECT_FALSE(close(slice(got.out, 49, 50), slice(all.out, 49, 50)));
}

/// Without votes the first token and a sliding window are left.
TYPED_TEST(Evictions, TakeTheOldestWithoutVotes) {
  using T = TypeParam;
  Inputs<T> in = inputs<T>(tokens(50, 8, 2, 2), 7);
  in.q.chip(0, 1).setZero();
  for (const EvictWhen when : {EvictWhen::before_row, EvictWhen::after_row})
    for (const Index chunk : {1, 12}) {
      KvOptions o{.budget = 7, .when = when, .chunk = chunk};
      const Buffered<T> by_votes = through(o, in);
      const Index window = when == EvictWhen::before_row ? 6 : 7;
      for (Index j = 1; j < 50; ++j)
        EXPECT_EQ(by_votes.evict_row(0, j), std::min<Index>(j + window, 50)) << j;
      o.evict = Evict::oldest;
      expect_same_bits(by_votes, through(o, in));
    }
}

TYPED_TEST(Evictions, AtABudgetOfTwoLeaveTheFirstTokenAndTheSelf) {
  using T = TypeParam;
  const Inputs<T> in = inputs<T>(tokens(20, 8, 2, 1), 8);
  for (const Index chunk : {1, 6}) {
    const Buffered<T> got = through(KvOptions{.budget = 2, .chunk = chunk}, in);
    for (Index i = 1; i < 20; ++i) EXPECT_EQ(seen_by(i, got), (std::vector<Index>{0, i}));
  }
}

/// Of two tokens equally masked the older goes: ties in the golden case.
TYPED_TEST(Evictions, OfEqualsTakeTheOldest) {
  using T = TypeParam;
  const Fixture& f = fixture("prune_ties");
  const Inputs<T> in{tensor<T>(f.array("q")), tensor<T>(f.array("k")), tensor<T>(f.array("v"))};
  KvOptions o{.budget = Index(f.number("budget"))};
  for (const Index chunk : {1, 3, 19}) {
    o.chunk = chunk;
    EXPECT_TRUE(close(array(through(o, in).evict_row), f.array("evict_row"), 0));
  }
}

/// The row's own votes count if it attends before the eviction: token 2 votes token 1 out for token
/// 3 already.
TYPED_TEST(Evictions, AfterTheRowHearItsOwnVotes) {
  using T = TypeParam;
  const auto in = with_scores<T>({{0, 0, 0, 0}, {0, 0, 0, 0}, {0, 0, 0, 0}, {0, 0, 9, 0}});
  EXPECT_EQ(through(KvOptions{.budget = 3}, in).evict_row(0, 1), 3);
  const Buffered<T> after = through(KvOptions{.budget = 3, .when = EvictWhen::after_row}, in);
  EXPECT_EQ(seen_by(3, after), (std::vector<Index>{0, 1, 2, 3}));
  KvBuffer<T> buffer = buffer_for(in, {.budget = 3, .when = EvictWhen::after_row});
  through(buffer, in);
  EXPECT_EQ(held(buffer.sequence(0)).at(1).first, 1);
  EXPECT_EQ(held(buffer.sequence(0)).at(2).first, 3);
}

/// Which positions are protected is looked up once a token, not whenever one has to go.
TYPED_TEST(Evictions, KnowByAMarkWhatIsProtected) {
  using T = TypeParam;
  const Inputs<T> in = inputs<T>(tokens(60, 8, 2, 1), 11);
  const Vector<Index> protect{40, 0, 7, 40, 55, 1000, 0};  // in no order, and some twice
  for (const Index chunk : {1, 9}) {
    KvBuffer<T> buffer = buffer_for(in, {.budget = 20, .protect = protect, .chunk = chunk}),
                other = buffer_for(in, {.budget = 30, .protect = {3, 40}, .chunk = chunk});
    const auto expect_marks = [](const KvBuffer<T>& of, const Vector<Index>& want) {
      const KvSlots<T>& s = of.sequence(0).slots();
      for (Index slot = 0; slot < s.slots; ++slot) {
        const Index position = s.position[std::size_t(slot)];
        const bool stays = std::find(want.begin(), want.end(), position) != want.end();
        if (position >= 0) {
          EXPECT_EQ((s.marks[std::size_t(slot)] & s.is_protected) != 0, stays) << position;
        }
      }
    };
    const Buffered<T> got = through(buffer, in);
    for (const Index j : {0, 7, 40, 55}) EXPECT_EQ(got.evict_row(0, j), 60) << j;
    expect_marks(buffer, protect);
    other.copy_sequence(buffer, 0, 0);
    expect_marks(other, {3, 40});
    EXPECT_EQ(buffer.options().protect, (Vector<Index>{0, 7, 40, 55, 1000}));
  }
}

/// As is where the first token sits, which is asked for at each row.
TYPED_TEST(Evictions, KnowTheSlotOfTheFirstToken) {
  using T = TypeParam;
  const Inputs<T> in = inputs<T>(tokens(30, 8, 2, 1), 12);
  KvBuffer<T> keeps = buffer_for(in, {.budget = 5}), wide = buffer_for(in, {.budget = 200}),
              forgets = buffer_for(in, {.budget = 5, .evict = Evict::oldest, .protect = {}});
  Buffered<T> answers = answers_to(in);
  step(forgets, in, 0, 5, answers);
  const auto first_of = [](const KvBuffer<T>& buffer) {
    const KvSlots<T>& s = buffer.sequence(0).slots();
    const auto found = std::find(s.position.begin(), s.position.begin() + s.slots, Index(0));
    EXPECT_EQ(s.first, found == s.position.begin() + s.slots ? -1 : found - s.position.begin());
    return s.first;
  };
  EXPECT_GE(first_of(forgets), 0);
  step(forgets, in, 5, 6, answers);
  EXPECT_EQ(first_of(forgets), -1);
  through(keeps, in);
  EXPECT_GE(first_of(keeps), 0);
  wide.copy_sequence(keeps, 0, 0);
  EXPECT_GE(first_of(wide), 0);
  keeps.clear(0);
  EXPECT_EQ(first_of(keeps), -1);
}

// ---- what selects

/// Eviction does not change F of the tokens held, so that evictions follow from full attention.
TYPED_TEST(Evictions, FollowFromTheUnprunedF) {
  using T = TypeParam;
  const Inputs<T> in = inputs<T>(tokens(70, 8, 2, 1, 2), 9);
  const reference::Array f = votes(array(in.q), array(in.k), seeing(reference::causal()), {}).f;
  for (const Index budget : {2, 5, 20}) {
    const KvOptions o{.budget = budget, .chunk = 10};
    EXPECT_TRUE(
        close(array(through(o, in).evict_row), reference::eviction_schedule(f, pruning(o, 70)), 0));
  }
}

/// Every setting of the selection, with the eviction that follows from it.
TYPED_TEST(Evictions, FollowFromTheFOfEverySelection) {
  using T = TypeParam;
  for (int bits = 0; bits < 32; ++bits) {
    const SelectOptions select{.head = bits % 3,
                               .relu = (bits & 1) != 0,
                               .protect_first = (bits & 2) != 0,
                               .forbid_self = (bits & 4) != 0,
                               .accumulate = (bits & 8) != 0,
                               .shift = (bits & 16) != 0};
    KvOptions o{.budget = 9, .protect = {}, .select = select};
    const Inputs<T> in = inputs<T>(tokens(40, 8, 3, 1), 50 + std::uint64_t(bits), 0.5);
    const reference::Array q = array(in.q), k = array(in.k), v = array(in.v);
    const reference::Rules rules = seeing(reference::causal());
    // A row may use its own votes when it attends; the eviction was decided before.
    reference::Selection settled = selection(select);
    settled.shift = true;
    const reference::Array evict_row =
        reference::eviction_schedule(votes(q, k, rules, settled).f, pruning(o, 40));
    const reference::Array f = votes(q, k, rules, selection(select)).f;
    const reference::Rules alive = seeing(reference::causal() && reference::alive(evict_row));
    const reference::Attention want = reference::every_row(q, k, v, [&](Index b, Index h, Index i) {
      return reference::selective_row(q, k, v, alive, f, b, h, i);
    });
    for (const Index chunk : {1, 7}) {
      o.chunk = chunk;
      SCOPED_TRACE(testing::Message() << "bits " << bits << ", " << describe(o));
      const Buffered<T> got = through(o, in);
      EXPECT_TRUE(close(array(got.evict_row), evict_row, 0)) << "evict_row";
      expect_close<T>(got, want);
    }
  }
}

/// Without selection F is zero, and the oldest token is evicted.
TYPED_TEST(Evictions, WithoutSelectionAreASlidingWindow) {
  using T = TypeParam;
  const Inputs<T> in = inputs<T>(tokens(60, 8, 2, 1), 10);
  for (const Evict evict : {Evict::most_masked, Evict::oldest}) {
    const KvOptions o{.budget = 10, .evict = evict, .protect = {0, 1}, .select = {}, .chunk = 9};
    const auto window = [](const reference::Pair& p) {
      return p.key <= p.position && (p.key < 2 || p.key > p.position - 8);
    };
    expect_close<T>(through(o, in), oracle(in, seeing(window)));
  }
}

/// Rows that all attend to one token keep it, and evict those that receive no weight.
TYPED_TEST(Evictions, OfTheLeastAttendedKeepTheHeavyHitter) {
  using T = TypeParam;
  std::vector<std::vector<double>> scores(12, std::vector<double>(12, 0));
  for (auto& row : scores) row[3] = 4;
  const auto in = with_scores<T>(scores);
  const KvOptions o{.budget = 5, .evict = Evict::least_attended, .protect = {}, .select = {}};
  const Buffered<T> got = through(o, in);
  EXPECT_EQ(got.evict_row(0, 3), 12);
}

// ---- errors

class EvictionRules : public testing::Test {
 protected:
  static std::string refusal(const KvOptions& o) {
    return message_of<ValueError>([&] { KvBuffer<float>({.heads = 2}, o); });
  }
  static bool accepts(const KvOptions& o) { return refusal(o) == "nothing was thrown"; }
};

TEST_F(EvictionRules, RefuseABudgetBelowWhatMayNotGo) {
  EXPECT_TRUE(accepts({.budget = 2}));
  EXPECT_EQ(refusal({.budget = 1}),
            "budget is 1, must be at least 2: KvOptions::protect keeps 1, recent keeps 1");
  EXPECT_EQ(refusal({.budget = 2, .protect = {0, 1}}),
            "budget is 2, must be at least 3: KvOptions::protect keeps 2, recent keeps 1");
  EXPECT_TRUE(accepts({.budget = 3, .protect = {0, 1}}));
  EXPECT_TRUE(accepts({.budget = 3, .protect = {1, 0, 1, 1}}));  // named twice, kept once
  EXPECT_EQ(refusal({.budget = 5, .recent = 5}),
            "budget is 5, must be at least 6: KvOptions::protect keeps 1, recent keeps 5");
  EXPECT_TRUE(accepts({.budget = 6, .recent = 5}));
  EXPECT_TRUE(accepts({.budget = 1, .protect = {}}));
  EXPECT_NE(refusal({.budget = 0, .protect = {}}), "nothing was thrown");
  EXPECT_NE(refusal({.budget = -3}), "nothing was thrown");
  EXPECT_TRUE(accepts({.budget = {}, .protect = {0, 1, 2, 3}, .recent = 100}));
}

/// Half of the budget where nothing else is said: what has just come had no time to be attended to.
TEST_F(EvictionRules, KeepHalfOfTheBudgetRecentWhereTheLeastAttendedGoes) {
  const auto recent = [](const KvOptions& o) { return o.recent_tokens(); };
  const Evict attended = Evict::least_attended;
  EXPECT_EQ(recent({.budget = 16, .evict = attended}), 8);
  EXPECT_EQ(recent({.budget = 17, .evict = attended}), 8);
  EXPECT_EQ(recent({.budget = 2, .evict = attended}), 1);
  EXPECT_EQ(recent({.budget = 1, .evict = attended, .protect = {}}), 1);
  EXPECT_EQ(recent({.budget = 6, .evict = attended, .protect = {0, 1, 2, 3}}), 2);
  EXPECT_EQ(recent({.budget = 16, .evict = attended, .recent = 1}), 1);
  EXPECT_EQ(recent({.budget = {}, .evict = attended}), 1);
  for (const Evict other : {Evict::most_masked, Evict::oldest}) {
    EXPECT_EQ(recent({.budget = 16, .evict = other}), 1);
    EXPECT_EQ(recent({.budget = 16, .evict = other, .recent = 3}), 3);
  }
  EXPECT_TRUE(accepts({.budget = 2, .evict = attended}));
  EXPECT_TRUE(accepts({.budget = 4, .evict = attended, .protect = {0, 1, 2}}));
  const Inputs<float> in = inputs<float>(tokens(80, 8, 2, 1), 13);
  const Buffered<float> got = through(KvOptions{.budget = 10, .evict = attended}, in);
  Index soonest = 80;
  for (Index j = 0; j < 80; ++j)
    if (got.evict_row(0, j) < 80) soonest = std::min(soonest, Index(got.evict_row(0, j)) - j);
  EXPECT_EQ(soonest, 5);
}

TEST_F(EvictionRules, RefuseNumbersOutOfTheirDomain) {
  const Index most = std::numeric_limits<Index>::max();
  EXPECT_EQ(refusal({.budget = 5, .recent = most}),
            "budget is 5, must be at least " + std::to_string(most) +
                ": KvOptions::protect keeps 1, recent keeps " + std::to_string(most));
  EXPECT_EQ(refusal({.budget = {}, .recent = 0}),
            "recent is 0, the newest token itself always stays");
  EXPECT_EQ(refusal({.budget = {}, .chunk = 0}), "chunk is 0, must be at least 1");
  EXPECT_EQ(refusal({.budget = {}, .chunk = -2}), "chunk is -2, must be at least 1");
  EXPECT_EQ(refusal({.budget = {}, .protect = {0, -1}}), "protected position -1 is negative");
  EXPECT_EQ(refusal({.budget = {}, .select = SelectOptions{.head = 2}}),
            "head 2 selects, there are 2");
  EXPECT_EQ(refusal({.budget = {}, .select = SelectOptions{.head = -1}}),
            "head -1 selects, there are 2");
}

/// Eviction at the end of a chunk waits for all of it, and no more rows than a block are in hand at
/// once. Elsewhere a longer chunk is taken in pieces.
TEST_F(EvictionRules, RefuseToWaitForTheEndOfAChunkLongerThanABlock) {
  const auto with = [](EvictWhen when, Index chunk) {
    return KvOptions{.budget = 10, .when = when, .chunk = chunk};
  };
  const std::string said = refusal(with(EvictWhen::chunk_end, 128));
  EXPECT_NE(said.find("chunk is 128, must be at most 96"), std::string::npos) << said;
  EXPECT_FALSE(accepts(with(EvictWhen::chunk_end, 97)));
  EXPECT_TRUE(accepts(with(EvictWhen::chunk_end, 96)));
  EXPECT_TRUE(accepts(with(EvictWhen::before_row, 128)));
  EXPECT_TRUE(accepts(with(EvictWhen::after_row, 128)));
}

TEST_F(EvictionRules, RefuseToCountWeightsByTheChunk) {
  EXPECT_EQ(refusal({.budget = {}, .evict = Evict::least_attended, .chunk = 2}),
            "heavy_hitters goes token by token: chunk is 2, must be 1");
  EXPECT_TRUE(
      accepts({.budget = {}, .evict = Evict::least_attended, .when = EvictWhen::chunk_end}));
}

}  // namespace
}  // namespace heed::test
