// SPDX-License-Identifier: MIT
#include "heed/score/window.hpp"

#include "heed/score/causal.hpp"
#include "heed/score/standard.hpp"
#include "heed/score/when.hpp"
#include "support/calls.hpp"
#include "support/fixtures.hpp"

#include <gtest/gtest.h>

#include <array>
#include <limits>

namespace heed::test {
namespace {

/// Every call here: a window, beside a causal mask or alone, or no window for comparison.
constexpr Index not_causal = -1000000;
auto windowed(Index left, Index right, Index offset = 0, double scale = 1, bool on = true) {
  return scaled(scale) | when(offset != not_causal, causal_at(offset)) |
         when(on, window(left, right));
}

template <class T>
class Windows : public testing::Test {};
TYPED_TEST_SUITE(Windows, Scalars, ScalarName);

TYPED_TEST(Windows, ShowTheKeysBesideAQuery) {
  const auto in = with_scores<TypeParam>({{0, 0, 0}, {0, 0, 0}, {0, 0, 0}});
  EXPECT_TRUE(shows(attend(in, windowed(1, 0, not_causal)), {{1, 0, 0}, {.5, .5, 0}, {0, .5, .5}}));
  EXPECT_TRUE(shows(attend(in, windowed(0, 1, not_causal)), {{.5, .5, 0}, {0, .5, .5}, {0, 0, 1}}));
  EXPECT_TRUE(shows(attend(in, windowed(1, 1, not_causal)),
                    {{.5, .5, 0}, {1 / 3., 1 / 3., 1 / 3.}, {0, .5, .5}}));
}

TYPED_TEST(Windows, GiveTheGoldenOutput) {
  using T = TypeParam;
  const Fixture& f = fixture("mas_window4");
  const Inputs<T> in{tensor<T>(f.array("q")), tensor<T>(f.array("k")), tensor<T>(f.array("v"))};
  const Outputs<T> got = attend(in, windowed(4, 0, 0, 0.25));
  EXPECT_TRUE(close(got.out, f.array("out")));
  EXPECT_TRUE(close(got.lse, f.array("lse")));
}

TYPED_TEST(Windows, MatchTheOracleAtEveryWidth) {
  using T = TypeParam;
  const Inputs<T> in = inputs<T>(tokens(210, 8, 2, 1), 1);
  const std::array<std::array<Index, 2>, 14> sides{{{0, 0},
                                                    {1, 0},
                                                    {0, 1},
                                                    {11, 0},
                                                    {12, 0},
                                                    {31, 0},
                                                    {32, 0},
                                                    {33, 5},
                                                    {95, 0},
                                                    {96, 96},
                                                    {127, 0},
                                                    {128, 1},
                                                    {209, 209},
                                                    {1000, 1000}}};
  for (const auto& [left, right] : sides) {
    SCOPED_TRACE(testing::Message() << left << ", " << right);
    const reference::Visible near = reference::window(left, right);
    reference::Rules rules = seeing(near);
    rules.scale = 1;
    expect_oracle(in, windowed(left, right, not_causal), rules);
    rules.visible = near && reference::causal();
    expect_oracle(in, windowed(left, right), rules);
  }
}

TYPED_TEST(Windows, MatchTheOracleBesideEveryAlignment) {
  using T = TypeParam;
  const std::array<std::array<Index, 2>, 4> sizes{{{20, 150}, {1, 150}, {150, 20}, {97, 129}}};
  for (const auto& [rows, keys] : sizes)
    for (const Index left : {0, 5, 40}) {
      const Shape s{1, 2, 1, rows, keys, 8, 8};
      SCOPED_TRACE(describe(s));
      const Inputs<T> in = inputs<T>(s, 2);
      reference::Rules rules = seeing(reference::causal() && reference::window(left, 0));
      rules.scale = 1;
      for (const Index offset : {Index(0), keys - rows}) {
        rules.offset = offset;
        expect_oracle(in, windowed(left, 0, offset), rules);
      }
    }
}

TYPED_TEST(Windows, OfNoWidthReturnTheValue) {
  using T = TypeParam;
  const Inputs<T> in = inputs<T>(tokens(140, 8), 3);
  EXPECT_TRUE(close(attend(in, windowed(0, 0)).out, in.v));
}

TYPED_TEST(Windows, AsWideAsTheTextAreNone) {
  using T = TypeParam;
  const Inputs<T> in = inputs<T>(tokens(140, 8), 4);
  const Outputs<T> plain = attend(in, windowed(0, 0, 0, 1, false));
  expect_same_bits(plain, attend(in, windowed(139, 0)));
  expect_same_bits(plain, attend(in, windowed(unbounded, unbounded)));
  expect_same_bits(plain, attend(in, windowed(std::numeric_limits<Index>::max(), 0)));
}

TYPED_TEST(Windows, DoNotReadTheKeysOutside) {
  using T = TypeParam;
  const Inputs<T> in = inputs<T>(tokens(300, 8), 6);
  Inputs<T> bad = in;
  for (Index j = 0; j < 150; ++j) {
    bad.k.chip(j, 2).setConstant(std::numeric_limits<T>::quiet_NaN());
    bad.v.chip(j, 2).setConstant(std::numeric_limits<T>::infinity());
  }
  const Outputs<T> clean = attend(in, windowed(50, 0)), got = attend(bad, windowed(50, 0));
  EXPECT_TRUE(same_bits(slice(clean.out, 200, 300), slice(got.out, 200, 300)));
}

/// N (w + 1) pairs and the rest of their tiles, not N².
TYPED_TEST(Windows, CostWhatTheyShow) {
  using T = TypeParam;
  const Index n = 3000, w = 63;
  const Inputs<T> in = inputs<T>(tokens(n, 8), 7);
  const WorkStats narrow = attend(in, windowed(w, 0)).visited;
  EXPECT_GE(narrow.pairs, n * (w + 1) - w * (w + 1) / 2);
  EXPECT_LT(narrow.pairs, n * (w + 1 + 2 * 128));
}

TEST(Window, OfOneNumberReachesAsFarOnEitherSide) {
  EXPECT_EQ(window(7).left, 7);
  EXPECT_EQ(window(7).right, 7);
}

TYPED_TEST(Windows, AreNotNegative) {
  const auto in = inputs<TypeParam>(tokens(4, 8), 1);
  expect_refusal<ValueError>(in, windowed(-1, 0), "window is (-1, 0)");
  expect_refusal<ValueError>(in, windowed(0, -2), "window is (0, -2)");
}

}  // namespace
}  // namespace heed::test
