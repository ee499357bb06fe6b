// SPDX-License-Identifier: MIT
// Sequences that are kept, put back, and go on in another buffer; and those that may not.

#include "heed/kv/kv_sequence.hpp"
#include "support/buffers.hpp"

#include <gtest/gtest.h>

#include <optional>
#include <string>
#include <type_traits>
#include <vector>

namespace heed::test {
namespace {

template <class T>
class Snapshots : public testing::Test {};
TYPED_TEST_SUITE(Snapshots, Scalars, ScalarName);

// Nothing outside of a buffer writes what it remembers.
static_assert(std::is_const_v<
              std::remove_reference_t<decltype(std::declval<KvBuffer<float>&>().sequence(0))>>);
static_assert(
    std::is_const_v<std::remove_reference_t<decltype(std::declval<KvSequence<float>&>().slots())>>);
static_assert(
    std::is_const_v<std::remove_reference_t<decltype(std::declval<KvMark<float>&>().sequence())>>);

/// Everything a buffer can hold that a sequence may go on in: the same tokens, F, outputs to
/// rounding and evictions, whatever the two capacities.
TYPED_TEST(Snapshots, GoOnUnderAnotherBudgetAsIfItHadBeenRaised) {
  using T = TypeParam;
  const Inputs<T> in = inputs<T>(tokens(400, 8, 4, 2), 1);
  for (const Evict evict : {Evict::most_masked, Evict::least_attended, Evict::oldest})
    for (const Index chunk : {1, 7})
      for (const std::optional<Index> first : {std::optional<Index>(20), std::optional<Index>(150)})
        for (const std::optional<Index> second :
             {std::optional<Index>(21), std::optional<Index>(150), std::optional<Index>(300),
              std::optional<Index>()}) {
          if (evict == Evict::least_attended && chunk != 1) continue;
          if (second && *second < *first) continue;
          KvOptions small{.budget = first, .evict = evict, .chunk = chunk}, large = small;
          large.budget = second;
          SCOPED_TRACE(describe(small) + " to " + describe(large));
          KvBuffer<T> one = buffer_for(in, small), other = buffer_for(in, large);
          Buffered<T> got = answers_to(in);
          Buffered<T> forgotten = got;
          step(other, in, 0, 120, forgotten);  // another past
          step(one, in, 0, 200, got);
          other.copy_sequence(one, 0, 0);
          EXPECT_EQ(held(other.sequence(0)), held(one.sequence(0)));
          EXPECT_EQ(other.sequence(0).next(), 200);
          for (Index i = 200; i < 400; i += 50) step(other, in, i, i + 50, got);
          EXPECT_EQ(other.sequence(0).count(),
                    std::min<Index>(second.value_or(1000), *first + 200));
          EXPECT_LE(other.sequence(0).slots().slots, other.sequence(0).slots().capacity());
          // The forward pass under the mask that both left.
          reference::Rules rules = seeing(reference::causal());
          const reference::Array q = array(in.q), k = array(in.k), v = array(in.v);
          const reference::Array f = votes(q, k, rules, {}).f;
          rules.visible = rules.visible && reference::alive(array(got.evict_row));
          for (const Index i : {200, 201, 263, 399})
            for (const Index h : {0, 3}) {
              const reference::Row row = reference::selective_row(q, k, v, rules, f, 0, h, i);
              EXPECT_NEAR(double(got.lse(0, h, i)), row.lse, 20 * tolerance<T>) << i;
              for (Index d = 0; d < 8; ++d)
                EXPECT_NEAR(double(got.out(0, h, i, d)), row.out[std::size_t(d)], 20 * tolerance<T>)
                    << i;
            }
        }
}

/// Where few tokens are left of many, a smaller buffer takes them.
TYPED_TEST(Snapshots, FitASmallerBudgetIfTheirTokensDo) {
  using T = TypeParam;
  const Inputs<T> in = inputs<T>(tokens(30, 8, 2, 1), 2);
  KvBuffer<T> large = buffer_for(in, {.budget = 200}), small = buffer_for(in, {.budget = 10});
  Buffered<T> got = answers_to(in), want = answers_to(in);
  step(large, in, 0, 10, got);
  const std::size_t bytes = small.bytes();
  small.restore(0, large.snapshot(0));
  EXPECT_LE(small.bytes(), bytes + 1024);
  KvBuffer<T> straight = buffer_for(in, {.budget = 10});
  step(straight, in, 0, 10, want);
  step(straight, in, 10, 30, want);
  step(small, in, 10, 30, got);
  EXPECT_TRUE(close(got.out, want.out));
  EXPECT_TRUE(close(got.lse, want.lse));
  EXPECT_TRUE(same_bits(got.evict_row, want.evict_row));
}

TYPED_TEST(Snapshots, OutliveTheirBuffer) {
  using T = TypeParam;
  const Inputs<T> in = inputs<T>(tokens(40, 8, 2, 1), 3);
  const KvOptions o{.budget = 9, .chunk = 1};
  const Buffered<T> want = through(o, in);
  Buffered<T> got = answers_to(in);
  std::optional<KvBuffer<T>> first(buffer_for(in, o));
  step(*first, in, 0, 20, got);
  const KvSnapshot<T> kept = first->snapshot(0);
  EXPECT_TRUE(same_memory(kept, first->sequence(0)));
  first.reset();
  KvBuffer<T> second = buffer_for(in, o);
  second.restore(0, kept);
  step(second, in, 20, 40, got);
  expect_same_bits(got, want);
}

template <class S>
class StoredSnapshots : public testing::Test {};
using Narrow = testing::Types<Eigen::half, Eigen::bfloat16, std::int8_t>;
TYPED_TEST_SUITE(StoredSnapshots, Narrow);

/// Numbers move as they are stored, with their scales, and so does what is known of NaN.
TYPED_TEST(StoredSnapshots, MoveWhatIsStored) {
  const Inputs<float> in = inputs<float>(tokens(60, 8, 2, 1), 4);
  for (const bool poisoned : {false, true}) {
    Inputs<float> bad = in;
    if (poisoned) bad.v.chip(25, 2).setConstant(std::numeric_limits<float>::quiet_NaN());
    const KvShape shape = buffer_for(in, {}).shape();
    const auto with = [&](Index budget) {
      return KvBuffer<float, TypeParam>(shape, {.budget = budget, .evict = Evict::oldest});
    };
    KvBuffer<float, TypeParam> one = with(10), wide = with(150);
    Buffered<float> got = answers_to(in), want = answers_to(in);
    const auto through = [&](auto& buffer, Index from, Index to, Buffered<float>& answers) {
      const auto take = [&](const Inputs<float>& part, Tensor<float>& out, const KvStep<float>& o) {
        return buffer.step(part.q, part.k, part.v, standard, out, o);
      };
      step_by(take, bad, from, to, answers, Executor{});
    };
    through(one, 0, 30, got);
    wide.copy_sequence(one, 0, 0);
    KvBuffer<float, TypeParam> back = with(10);
    back.copy_sequence(wide, 0, 0);
    want = got;
    through(one, 30, 60, want);
    through(back, 30, 60, got);
    EXPECT_TRUE(same_bits(got.evict_row, want.evict_row));
    for (Index i = 0; i < 60; ++i)
      for (Index d = 0; d < 8; ++d) {
        const float g = got.out(0, 1, i, d), w = want.out(0, 1, i, d);
        EXPECT_EQ(std::isnan(g), std::isnan(w)) << i;
        if (!std::isnan(w)) {
          EXPECT_NEAR(g, w, 1e-5) << i;
        }
      }
    EXPECT_TRUE(std::isfinite(got.out(0, 1, 59, 0)));
  }
}

// ---- refusals

/// What is refused changes nothing.
template <class Error>
std::string refusal(KvBuffer<float>& to, const KvBuffer<float>& from, Index i = 0, Index j = 0) {
  const KvSequence<float> before = to.sequence(0);
  const std::string said = message_of<Error>([&] { to.copy_sequence(from, i, j); });
  EXPECT_TRUE(same_memory(before, to.sequence(0)));
  return said;
}

class UnlikeBuffers : public testing::Test {
 protected:
  const Inputs<float> in = inputs<float>(tokens(30, 8, 2, 2), 5);
  KvBuffer<float> filled(const KvOptions& o) const {
    KvBuffer<float> buffer = buffer_for(in, o);
    through(buffer, in);
    return buffer;
  }
};

TEST_F(UnlikeBuffers, OfOtherShapesTakeNoSequence) {
  KvBuffer<float> from = filled({.budget = 9});
  for (const KvShape& shape : {KvShape{1, 4, 2, 8, 8}, KvShape{1, 2, 1, 8, 8},
                               KvShape{1, 2, 2, 4, 8}, KvShape{1, 2, 2, 8, 9}}) {
    KvBuffer<float> to(shape, {.budget = 9});
    EXPECT_NE(refusal<ShapeError>(to, from).find(
                  "the sequence has 2 query heads, 2 key heads, keys of 8 and values of 8 "
                  "numbers, the buffer it should go to "),
              std::string::npos);
    EXPECT_THROW(to.restore(0, from.snapshot(0)), ShapeError);
  }
  KvBuffer<float> to({1, 1, 1, 4, 4}, {.budget = 9});
  EXPECT_EQ(refusal<ShapeError>(to, from),
            "the sequence has 2 query heads, 2 key heads, keys of 8 and values of 8 numbers, the "
            "buffer it should go to 1, 1, 4 and 4");
  // Query heads leave no trace where nothing selects.
  KvOptions plain{.budget = 9, .select = {}};
  KvBuffer<float> bare = filled(plain), more({1, 4, 2, 8, 8}, plain);
  more.copy_sequence(bare, 0, 0);
  EXPECT_EQ(more.sequence(0).count(), 9);
}

TEST_F(UnlikeBuffers, TakeNoMoreTokensThanTheirBudget) {
  KvBuffer<float> from = filled({.budget = 20}), to = filled({.budget = 19});
  EXPECT_EQ(refusal<ValueError>(to, from),
            "the sequence holds 20 tokens, the budget of the buffer it should go to is 19");
}

TEST_F(UnlikeBuffers, OfAnotherSelectionTakeNoSequence) {
  KvBuffer<float> from = filled({.budget = 9});
  const auto said = [&](std::optional<SelectOptions> select) {
    KvBuffer<float> to = filled({.budget = 9, .select = select});
    return refusal<ValueError>(to, from);
  };
  const std::string end = ": their F differ", made = "the sequence was made with ",
                    has = ", the buffer it should go to has ";
  EXPECT_EQ(said(std::nullopt), made + "select 1" + has + "0" + end);
  EXPECT_EQ(said(SelectOptions{.head = 1}), made + "select->head 0" + has + "1" + end);
  EXPECT_EQ(said(SelectOptions{.relu = false}), made + "select->relu 1" + has + "0" + end);
  EXPECT_EQ(said(SelectOptions{.protect_first = false}),
            made + "select->protect_first 1" + has + "0" + end);
  EXPECT_EQ(said(SelectOptions{.forbid_self = false}),
            made + "select->forbid_self 1" + has + "0" + end);
  EXPECT_EQ(said(SelectOptions{.accumulate = false}),
            made + "select->accumulate 1" + has + "0" + end);
  EXPECT_EQ(said(SelectOptions{.shift = false}), made + "select->shift 1" + has + "0" + end);
}

/// Weights that were not recorded cannot be restored; recorded ones may be dropped.
TEST_F(UnlikeBuffers, ThatNeedWeightsTakeThemFromThoseThatCount) {
  KvBuffer<float> masked = filled({.budget = 9}),
                  attended = filled({.budget = 9, .evict = Evict::least_attended});
  EXPECT_NE(refusal<ValueError>(attended, masked)
                .find("evicts by heavy_hitters, the buffer it is from by most_masked"),
            std::string::npos);
  const auto tokens_of_attended = held(attended.sequence(0));
  masked.copy_sequence(attended, 0, 0);
  EXPECT_EQ(held(masked.sequence(0)), tokens_of_attended);
  KvBuffer<float> empty = buffer_for(in, {.budget = 9});
  empty.copy_sequence(masked, 0, 0);
  EXPECT_LE(empty.sequence(0).bytes(), filled({.budget = 9}).sequence(0).bytes());
}

TEST_F(UnlikeBuffers, HaveNoOtherSequencesThanTheirs) {
  KvBuffer<float> buffer = filled({.budget = 9});
  for (const Index b : {-1, 1, 1000}) {
    const std::string said = "sequence " + std::to_string(b) + " is asked for, there are 1";
    EXPECT_EQ(message_of<ValueError>([&] { buffer.sequence(b); }), said);
    EXPECT_EQ(message_of<ValueError>([&] { buffer.snapshot(b); }), said);
    EXPECT_EQ(message_of<ValueError>([&] { buffer.restore(b, buffer.snapshot(0)); }), said);
    EXPECT_EQ(message_of<ValueError>([&] { buffer.clear(b); }), said);
    EXPECT_EQ(refusal<ValueError>(buffer, buffer, b, 0), said);
    EXPECT_EQ(refusal<ValueError>(buffer, buffer, 0, b), said);
  }
}

}  // namespace
}  // namespace heed::test
