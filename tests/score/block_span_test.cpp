// SPDX-License-Identifier: MIT
#include "heed/score/block_span.hpp"

#include "heed/score/causal.hpp"
#include "heed/score/query_offset.hpp"
#include "heed/score/standard.hpp"
#include "heed/score/starts.hpp"
#include "heed/score/when.hpp"
#include "support/calls.hpp"
#include "support/fixtures.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace heed::test {
namespace {

/// Every call here: a block span, beside a causal mask or alone, or none for comparison.
constexpr Index not_causal = -1000000;
auto spanned(Index size, Index previous = 0, Index offset = 0, double scale = 1, bool on = true) {
  return scaled(scale) | when(offset != not_causal, causal_at(offset)) |
         when(on, block_span(size, previous));
}

template <class T>
class BlockSpans : public testing::Test {};
TYPED_TEST_SUITE(BlockSpans, Scalars, ScalarName);

TYPED_TEST(BlockSpans, ShowAQueryItsOwnBlock) {
  const auto in = with_scores<TypeParam>({{0, 0, 0}, {0, 0, 0}, {0, 0, 0}});
  EXPECT_TRUE(shows(attend(in, spanned(2)), {{1, 0, 0}, {.5, .5, 0}, {0, 0, 1}}));
  EXPECT_TRUE(shows(attend(in, spanned(2, 0, not_causal)), {{.5, .5, 0}, {.5, .5, 0}, {0, 0, 1}}));
}

TYPED_TEST(BlockSpans, GiveTheGoldenOutput) {
  using T = TypeParam;
  for (const char* name : {"mas_block5", "mas_block5_prev1"}) {
    SCOPED_TRACE(name);
    const Fixture& f = fixture(name);
    const Inputs<T> in{tensor<T>(f.array("q")), tensor<T>(f.array("k")), tensor<T>(f.array("v"))};
    const Outputs<T> got =
        attend(in, spanned(Index(f.number("block")), Index(f.number("prev_blocks")), 0, 0.25));
    EXPECT_TRUE(close(got.out, f.array("out")));
    EXPECT_TRUE(close(got.lse, f.array("lse")));
  }
}

/// Blocks larger than any text are one block, whose end is no key's.
TYPED_TEST(BlockSpans, MayBeAsLargeAsNumbersGo) {
  using T = TypeParam;
  const Inputs<T> in = inputs<T>(tokens(140, 8, 2, 1), 1);
  constexpr Index most = std::numeric_limits<Index>::max();
  for (const Index offset : {Index(0), not_causal})
    for (const Index size : {Index(1) << 60, Index(1) << 62, most - 1, most})
      for (const Index previous : {Index(0), Index(1), Index(2), most}) {
        SCOPED_TRACE(testing::Message() << size << ", " << previous);
        expect_same_bits(attend(in, spanned(size, previous, offset, 0.3)),
                         attend(in, spanned(1, 0, offset, 0.3, false)));
      }
  // A block of one, and all before it.
  expect_same_bits(attend(in, spanned(1, most, 0, 0.3)), attend(in, spanned(1, 0, 0, 0.3, false)));
}

TYPED_TEST(BlockSpans, MatchTheOracleAtEverySize) {
  using T = TypeParam;
  const Inputs<T> in = inputs<T>(tokens(210, 8, 2, 1), 1);
  for (const Index size : {1, 2, 5, 12, 31, 32, 33, 64, 96, 100, 128, 209, 210, 1000})
    for (const Index previous : {0, 1, 3}) {
      SCOPED_TRACE(testing::Message() << size << ", " << previous);
      const reference::Visible near = reference::block_span(size, previous);
      reference::Rules rules = seeing(near);
      rules.scale = 1;
      expect_oracle(in, spanned(size, previous, not_causal), rules);
      rules.visible = near && reference::causal();
      expect_oracle(in, spanned(size, previous), rules);
    }
}

TYPED_TEST(BlockSpans, AreCutAlongPositionsNotRows) {
  using T = TypeParam;
  const Inputs<T> in = inputs<T>(Shape{1, 1, 1, 30, 100, 8, 8}, 2);
  reference::Rules rules = seeing(reference::causal() && reference::block_span(16));
  rules.offset = 70;
  rules.scale = 1;
  expect_oracle(in, spanned(16, 0, 70), rules);
}

TYPED_TEST(BlockSpans, AreSeparateShortTexts) {
  using T = TypeParam;
  const Index size = 40;
  const Inputs<T> in = inputs<T>(tokens(130, 8, 2, 1), 3);
  const Outputs<T> whole = attend(in, spanned(size));
  for (Index from = 0; from < 130; from += size) {
    const Index to = std::min<Index>(from + size, 130);
    const Inputs<T> part{slice(in.q, from, to), slice(in.k, from, to), slice(in.v, from, to)};
    EXPECT_TRUE(close(attend(part, spanned(size)).out, slice(whole.out, from, to))) << from;
  }
}

TYPED_TEST(BlockSpans, OfOneReturnTheValueAndOfAllAreNone) {
  using T = TypeParam;
  const Inputs<T> in = inputs<T>(tokens(140, 8), 4);
  EXPECT_TRUE(close(attend(in, spanned(1)).out, in.v));
  const Outputs<T> plain = attend(in, spanned(1, 0, 0, 1, false));
  expect_same_bits(plain, attend(in, spanned(140)));
  expect_same_bits(plain, attend(in, spanned(7, std::numeric_limits<Index>::max())));
}

/// Rows of padding belong to no block, not to the first. Nothing else masks them here: queries and
/// keys need not be the same tokens.
TYPED_TEST(BlockSpans, ShowNothingToRowsBeforeTheFirstToken) {
  using T = TypeParam;
  const Inputs<T> in = inputs<T>(tokens(12, 8), 7);
  const std::int64_t start = 5;
  for (const Index previous : {0, 1}) {
    const Outputs<T> got = attend(
        in, scaled(1) | block_span(4, previous) | starts(View<const std::int64_t, 1>(&start, {1})));
    for (Index i = 0; i < 5; ++i) {
      EXPECT_EQ(got.lse(0, 0, i), -std::numeric_limits<T>::infinity()) << i;
      for (Index d = 0; d < 8; ++d) EXPECT_EQ(got.out(0, 0, i, d), T(0)) << i;
    }
    EXPECT_TRUE(std::isfinite(got.lse(0, 0, 5)));
  }
}

TYPED_TEST(BlockSpans, CostWhatTheyShow) {
  const Index n = 3000, size = 60;
  const WorkStats v = attend(inputs<TypeParam>(tokens(n, 8), 5), spanned(size)).visited;
  EXPECT_GE(v.pairs, n / size * (size * (size + 1) / 2));
  EXPECT_LT(v.pairs, n * (size + 2 * 128));
}

TYPED_TEST(BlockSpans, RefuseSizesBelowOne) {
  const auto in = inputs<TypeParam>(tokens(4, 8), 1);
  expect_refusal<ValueError>(in, spanned(0), "block_span size is 0");
  expect_refusal<ValueError>(in, spanned(4, -1), "block_span previous is -1");
}

}  // namespace
}  // namespace heed::test
