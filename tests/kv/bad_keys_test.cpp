// SPDX-License-Identifier: MIT
// Keys that are no numbers: a full buffer lets them go before anything else.

#include "heed/kv/eviction.hpp"
#include "support/buffers.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

namespace heed::test {
namespace {

template <class T>
class BadKeys : public testing::Test {
 protected:
  static constexpr Index count = 60;

  /// The inputs with one number of each of these keys spoiled, of one key head alone: head 0, which
  /// selects, need not see it.
  static Inputs<T> spoiled(Inputs<T> in, const std::vector<Index>& keys, T value, Index head = 1) {
    for (const Index j : keys) in.k(0, head, j, 5) = value;
    return in;
  }

  /// Rows that see none of these keys are what they are in a text of good keys, masked alike.
  static void expect_spoil_no_other_row(const Inputs<T>& good, const std::vector<Index>& keys,
                                        const Buffered<T>& got, const KvOptions& o) {
    const reference::Array q = array(good.q), k = array(good.k), v = array(good.v);
    reference::Rules rules = seeing(reference::causal());
    reference::Array f({1, count, count});
    if (o.select) f = votes(q, k, rules, {}).f;
    rules.visible = rules.visible && reference::alive(array(got.evict_row));
    Index clean = 0;
    for (Index i = 0; i < count; ++i) {
      if (std::any_of(keys.begin(), keys.end(),
                      [&](Index j) { return j <= i && i < got.evict_row(0, j); }))
        continue;
      ++clean;
      for (Index h = 0; h < 2; ++h) {
        const reference::Row row = reference::selective_row(q, k, v, rules, f, 0, h, i);
        EXPECT_NEAR(double(got.lse(0, h, i)), row.lse, 20 * tolerance<T>) << "row " << i;
        for (Index d = 0; d < 8; ++d)
          ASSERT_NEAR(double(got.out(0, h, i, d)), row.out[std::size_t(d)], 20 * tolerance<T>)
              << "row " << i;
      }
    }
    EXPECT_GE(clean, count / 2);
  }

  static std::vector<T> values() {
    using Limits = std::numeric_limits<T>;
    return {Limits::quiet_NaN(), -Limits::quiet_NaN(), Limits::infinity(), -Limits::infinity()};
  }
};
TYPED_TEST_SUITE(BadKeys, Scalars, ScalarName);

/// Seen by their own row, which cannot do without, and by no other.
TYPED_TEST(BadKeys, GoWithTheNextRowOfAFullBuffer) {
  using T = TypeParam;
  const Inputs<T> good = inputs<T>(tokens(this->count, 8, 2, 2), 1);
  for (const Evict evict : {Evict::most_masked, Evict::least_attended})
    for (const Index chunk : {1, 7, 16}) {
      if (evict == Evict::least_attended && chunk != 1) continue;
      for (const T value : this->values())
        for (const Index head : {0, 1}) {
          const KvOptions o{.budget = 8, .evict = evict, .recent = 1, .chunk = chunk};
          SCOPED_TRACE(testing::Message() << describe(o) << ", " << value << " of head " << head);
          const Buffered<T> got = through(o, this->spoiled(good, {12, 30, 31}, value, head));
          EXPECT_EQ(got.evict_row(0, 12), 13);
          EXPECT_EQ(got.evict_row(0, 30), 31);
          EXPECT_EQ(got.evict_row(0, 31), 32);
          this->expect_spoil_no_other_row(good, {12, 30, 31}, got, o);
        }
    }
}

/// One a row, the oldest first, once there is need.
TYPED_TEST(BadKeys, WaitUntilABufferIsFull) {
  using T = TypeParam;
  const Inputs<T> good = inputs<T>(tokens(this->count, 8, 2, 2), 2);
  for (const Evict evict : {Evict::most_masked, Evict::least_attended}) {
    const KvOptions o{.budget = 8, .evict = evict, .recent = 1};
    SCOPED_TRACE(describe(o));
    const Buffered<T> got =
        through(o, this->spoiled(good, {3, 5}, std::numeric_limits<T>::quiet_NaN()));
    EXPECT_EQ(got.evict_row(0, 3), 8);
    EXPECT_EQ(got.evict_row(0, 5), 9);
    this->expect_spoil_no_other_row(good, {3, 5}, got, o);
  }
}

TYPED_TEST(BadKeys, StayWhileTheyAreRecentOrProtected) {
  using T = TypeParam;
  const Inputs<T> good = inputs<T>(tokens(this->count, 8, 2, 2), 3);
  for (const Evict evict : {Evict::most_masked, Evict::least_attended}) {
    const KvOptions o{.budget = 8, .evict = evict, .protect = {0, 20}, .recent = 3};
    SCOPED_TRACE(describe(o));
    const Buffered<T> got =
        through(o, this->spoiled(good, {12, 20}, std::numeric_limits<T>::quiet_NaN()));
    EXPECT_EQ(got.evict_row(0, 12), 15);
    EXPECT_EQ(got.evict_row(0, 20), this->count);
  }
}

TYPED_TEST(BadKeys, GoWhenTheRowOrTheChunkHasAttended) {
  using T = TypeParam;
  const Inputs<T> good = inputs<T>(tokens(this->count, 8, 2, 2), 4);
  for (const Evict evict : {Evict::most_masked, Evict::least_attended}) {
    const auto evicted_at = [&](EvictWhen when, Index chunk) {
      const KvOptions o{.budget = 8, .evict = evict, .when = when, .recent = 1, .chunk = chunk};
      const Buffered<T> got =
          through(o, this->spoiled(good, {12}, std::numeric_limits<T>::quiet_NaN()));
      this->expect_spoil_no_other_row(good, {12}, got, o);
      return Index(got.evict_row(0, 12));
    };
    EXPECT_EQ(evicted_at(EvictWhen::after_row, 1), 14);
    EXPECT_EQ(evicted_at(EvictWhen::chunk_end, 1), 14);
    if (evict == Evict::least_attended) continue;
    EXPECT_EQ(evicted_at(EvictWhen::after_row, 5), 14);
    EXPECT_EQ(evicted_at(EvictWhen::chunk_end, 10), 20);
  }
}

/// A window evicts by age alone, so that the evictions are known beforehand.
TYPED_TEST(BadKeys, OfAWindowGoWhenTheyAreOld) {
  using T = TypeParam;
  const Inputs<T> good = inputs<T>(tokens(this->count, 8, 2, 2), 5);
  const KvOptions o{.budget = 8, .evict = Evict::oldest};
  const Buffered<T> got =
      through(o, this->spoiled(good, {12}, std::numeric_limits<T>::quiet_NaN()));
  EXPECT_EQ(got.evict_row(0, 12), 19);
  this->expect_spoil_no_other_row(good, {12}, got, o);
}

/// A query that is NaN, where votes may have any sign, makes every F NaN; what it spoiled goes,
/// and what comes later is sound.
TYPED_TEST(BadKeys, AreNotTheOnlyOnesAnFMayBeNaNToo) {
  using T = TypeParam;
  Inputs<T> in = inputs<T>(tokens(this->count, 8, 2, 2), 6, 0.3);
  in.q.chip(20, 2).setConstant(std::numeric_limits<T>::quiet_NaN());
  for (const Index chunk : {1, 6}) {
    const KvOptions o{.budget = 8,
                      .protect = {},
                      .select = SelectOptions{.relu = false, .protect_first = false},
                      .chunk = chunk};
    const Buffered<T> got = through(o, in);
    Index spoiled = 0;
    for (Index j = 0; j < 20; ++j)
      if (got.evict_row(0, j) > 20) {
        ++spoiled;
        EXPECT_LE(got.evict_row(0, j), 20 + 8) << j;
      }
    EXPECT_EQ(spoiled, 7);
    for (Index i = 28; i < this->count; ++i)
      EXPECT_TRUE(std::isfinite(got.out(0, 1, i, 0))) << "row " << i;
  }
}

/// The weights of a row that is NaN are not counted: they would be NaN, and the rule would be lost
/// with them.
TYPED_TEST(BadKeys, LeaveTheWeightsThatWereCounted) {
  using T = TypeParam;
  const Inputs<T> good = inputs<T>(tokens(this->count, 8, 2, 2), 7);
  KvBuffer<T> buffer = buffer_for(good, {.budget = 8, .evict = Evict::least_attended, .recent = 1});
  through(buffer, this->spoiled(good, {12, 59}, std::numeric_limits<T>::quiet_NaN()));
  const KvSlots<T>& s = buffer.sequence(0).slots();
  for (Index slot = 0; slot < s.slots; ++slot) {
    EXPECT_TRUE(std::isfinite(s.received_weight[std::size_t(slot)])) << slot;
    const bool bad = (s.marks[std::size_t(slot)] & KvSlots<T>::bad_key) != 0;
    EXPECT_EQ(bad, s.position[std::size_t(slot)] == 59) << slot;
  }
}

}  // namespace
}  // namespace heed::test
