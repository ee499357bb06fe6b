// SPDX-License-Identifier: MIT
#include "heed/score/alive.hpp"

#include "heed/score/causal.hpp"
#include "heed/score/query_offset.hpp"
#include "heed/score/selective.hpp"
#include "heed/score/standard.hpp"
#include "heed/score/when.hpp"
#include "reference/pruning.hpp"
#include "support/calls.hpp"
#include "support/fixtures.hpp"

#include <gtest/gtest.h>

#include <cstdint>
#include <limits>
#include <string>

namespace heed::test {
namespace {

using Rows = Tensor<std::int64_t, 2>;

/// Every call here, so that one variant is compiled.
auto until(const Rows& evict_row, Index offset = 0, bool selects = false) {
  return query_offset(offset) | standard | causal | alive(evict_row) | when(selects, selective);
}

template <class T>
class AliveMasks : public testing::Test {};
TYPED_TEST_SUITE(AliveMasks, Scalars, ScalarName);

TYPED_TEST(AliveMasks, ShowAKeyUntilItGoes) {
  Rows evict_row(1, 3);
  evict_row.setValues({{3, 2, 3}});
  const auto in = with_scores<TypeParam>({{0, 0, 0}, {0, 0, 0}, {0, 0, 0}});
  EXPECT_TRUE(shows(attend(in, until(evict_row)), {{1, 0, 0}, {.5, .5, 0}, {.5, 0, .5}}));
}

TYPED_TEST(AliveMasks, MatchTheOracle) {
  using T = TypeParam;
  const Index n = 210;
  const Inputs<T> in = inputs<T>(tokens(n, 8, 2, 1, 2), 1);
  Rows evict_row(2, n);
  Random random(2);
  for (Index i = 0; i < evict_row.size(); ++i) evict_row.data()[i] = random.integer(-5, n + 50);
  for (Index j = 0; j < 130; ++j) evict_row(1, j) = 60;  // whole blocks that are evicted
  reference::Rules rules = seeing(reference::causal() && reference::alive(array(evict_row)));
  expect_oracle(in, until(evict_row), rules);
}

TYPED_TEST(AliveMasks, CountByPosition) {
  using T = TypeParam;
  const Inputs<T> in = inputs<T>(Shape{1, 1, 1, 25, 80, 8, 8}, 3);
  Rows evict_row(1, 80);
  Random random(4);
  for (Index j = 0; j < 80; ++j) evict_row(0, j) = random.integer(30, 90);
  reference::Rules rules = seeing(reference::causal() && reference::alive(array(evict_row)));
  rules.offset = 55;
  expect_oracle(in, until(evict_row, 55), rules);
}

/// With the rows at which the paper's buffer drops keys, and the F of the whole: pruned attention.
TYPED_TEST(AliveMasks, BesideSelectionArePrunedAttention) {
  using T = TypeParam;
  for (const std::string& name : fixtures_of_kind("prune")) {
    SCOPED_TRACE(name);
    const Fixture& f = fixture(name);
    const Inputs<T> in{tensor<T>(f.array("q")), tensor<T>(f.array("k")), tensor<T>(f.array("v"))};
    const Rows evict_row = tensor<std::int64_t, 2>(f.array("evict_row"));
    const Outputs<T> got = attend(in, until(evict_row, 0, true));
    EXPECT_TRUE(close(got.out, f.array("out")));
  }
}

/// Never is the largest number there is, and to count from a row before position 0 adds to it.
TYPED_TEST(AliveMasks, OfNeverShowWhatAnyRowSeesWithoutThem) {
  using T = TypeParam;
  Rows never(1, 50);
  never.setConstant(std::numeric_limits<std::int64_t>::max());
  for (const Index rows : {20, 50, 120}) {
    SCOPED_TRACE(rows);
    const Inputs<T> in = inputs<T>(Shape{1, 2, 1, rows, 50, 8, 8}, 5);
    const auto with = [&](bool masks) {
      return standard | causal_bottom_right | when(masks, alive(never));
    };
    const Outputs<T> got = attend(in, with(true)), want = attend(in, with(false));
    EXPECT_TRUE(close(got.out, want.out));
    EXPECT_TRUE(close(got.lse, want.lse));
  }
}

/// Nor does the least overflow: a key that was never there.
TYPED_TEST(AliveMasks, OfTheDistantPastHideAll) {
  using T = TypeParam;
  Rows long_ago(1, 50);
  long_ago.setConstant(std::numeric_limits<std::int64_t>::min());
  const Inputs<T> in = inputs<T>(tokens(50, 8), 6);
  const Outputs<T> got = attend(in, until(long_ago));
  EXPECT_TRUE(same_bits(got.out, zeros<T, 4>({1, 1, 50, 8})));
  EXPECT_EQ(got.lse(0, 0, 49), -std::numeric_limits<T>::infinity());
}

TYPED_TEST(AliveMasks, WantOneRowPerKey) {
  Rows three(1, 3);
  three.setConstant(9);
  expect_refusal<ShapeError>(inputs<TypeParam>(tokens(4, 8), 1), until(three), "[1, 3]");
}

/// Key heads that keep different tokens: what each does alone.
TYPED_TEST(AliveMasks, MayDifferFromKeyHeadToKeyHead) {
  using T = TypeParam;
  const Inputs<T> in = inputs<T>(tokens(150, 8, 6, 3, 2), 9);
  Random random(9);
  Tensor<std::int64_t, 3> rows(2, 3, 150);
  for (Index i = 0; i < rows.size(); ++i) rows.data()[i] = i % 150 + random.integer(1, 90);
  const Outputs<T> got = attend(in, standard | causal | alive(rows));
  reference::Rules rules = seeing(reference::causal());
  rules.visible = rules.visible && [&](const reference::Pair& p) {
    return p.position < rows(p.batch, p.head / 2, p.key);
  };
  expect_close(got, oracle(in, rules));
  expect_refusal<ShapeError>(
      in, standard | causal | alive(View<const std::int64_t, 3>(rows.data(), {2, 2, 150})),
      "[2, 2, 150]");
}

}  // namespace
}  // namespace heed::test
