// SPDX-License-Identifier: MIT
#include "heed/score/causal.hpp"

#include "heed/score/query_offset.hpp"
#include "heed/score/standard.hpp"
#include "support/calls.hpp"

#include <gtest/gtest.h>

#include <limits>

namespace heed::test {
namespace {

TEST(Causal, ShowsEachRowTheKeysUpToItself) {
  const auto in = with_scores<float>({{0, 0, 0}, {0, 0, 0}, {0, 0, 0}});
  EXPECT_TRUE(
      shows(attend(in, scaled(1) | causal), {{1, 0, 0}, {.5, .5, 0}, {1 / 3., 1 / 3., 1 / 3.}}));
}

/// One query against a cache: top-left sees the first key alone, bottom-right sees them all.
TEST(Causal, IsAlignedAsItsNameSays) {
  const auto in = with_scores<float>({{0, 0, 0, 0, 0}});
  EXPECT_TRUE(shows(attend(in, scaled(1) | causal_top_left), {{1, 0, 0, 0, 0}}));
  EXPECT_TRUE(shows(attend(in, scaled(1) | causal_bottom_right), {{.2, .2, .2, .2, .2}}));
  EXPECT_TRUE(shows(attend(in, scaled(1) | causal_at(1)), {{.5, .5, 0, 0, 0}}));
  EXPECT_TRUE(shows(attend(in, query_offset(1) | scaled(1) | causal), {{.5, .5, 0, 0, 0}}));
}

/// Bottom-right with more rows than keys: the first rows look at keys before the first.
TEST(Causal, LeavesRowsBeforeTheFirstKeyZero) {
  const auto in = with_scores<float>({{0, 0}, {0, 0}, {0, 0}, {0, 0}});
  const auto got = attend(in, scaled(1) | causal_bottom_right);
  EXPECT_TRUE(shows(got, {{0, 0}, {0, 0}, {1, 0}, {.5, .5}}));
  EXPECT_EQ(got.lse(0, 0, 0), -std::numeric_limits<float>::infinity());
  EXPECT_EQ(got.lse(0, 0, 2), 0.f);
}

TEST(Causal, WantsToKnowWhereRowsSitIfThereAreMoreOrFewerThanKeys) {
  const auto fewer = inputs<float>(Shape{1, 1, 1, 1, 9, 8, 8}, 1);
  expect_refusal<ShapeError>(fewer, standard | causal, "causal: q has 1 rows, k has 9");
  expect_refusal<ShapeError>(inputs<float>(Shape{1, 1, 1, 9, 8, 8, 8}, 1), standard | causal,
                             "causal: q has 9 rows, k has 8");
}

TEST(Causal, RefusesTwoOpinionsOfWhereRowsSit) {
  expect_refusal<ValueError>(inputs<float>(Shape{1, 1, 1, 1, 9, 8, 8}, 1),
                             query_offset(3) | standard | causal_bottom_right,
                             "one stage puts row 0 at position 3, another at 8");
}

template <class T>
class CausalAtAnyOffset : public testing::Test {};
TYPED_TEST_SUITE(CausalAtAnyOffset, Scalars, ScalarName);

TYPED_TEST(CausalAtAnyOffset, MatchesTheOracle) {
  using T = TypeParam;
  const Inputs<T> in = inputs<T>(Shape{1, 2, 1, 50, 140, 8, 8}, 1);
  for (const Index offset :
       {-200, -60, -50, -49, -13, -1, 0, 1, 11, 31, 32, 90, 127, 128, 139, 500}) {
    SCOPED_TRACE(offset);
    reference::Rules rules = seeing(reference::causal());
    rules.offset = offset;
    expect_oracle(in, standard | causal_at(offset), rules);
  }
}

/// A chunk of rows is the same rows of the whole.
TYPED_TEST(CausalAtAnyOffset, GivesTheSameInChunksOrTokenByToken) {
  using T = TypeParam;
  const Inputs<T> in = inputs<T>(tokens(130, 16, 2, 1), 4);
  const Outputs<T> whole = attend(in, standard | causal_at(0));
  for (const Index chunk : {1, 7, 12, 64, 96})
    for (Index from = 0; from < 130; from += chunk) {
      const Index to = std::min<Index>(from + chunk, 130);
      const Inputs<T> part{slice(in.q, from, to), slice(in.k, 0, to), slice(in.v, 0, to)};
      const Outputs<T> got = attend(part, standard | causal_at(from));
      ASSERT_TRUE(close(got.out, slice(whole.out, from, to))) << chunk << " from " << from;
      ASSERT_TRUE(close(got.lse, slice(whole.lse, from, to))) << chunk << " from " << from;
    }
}

}  // namespace
}  // namespace heed::test
