// SPDX-License-Identifier: MIT
#include "heed/score/boolean_mask.hpp"

#include "heed/score/causal.hpp"
#include "heed/score/standard.hpp"
#include "heed/score/when.hpp"
#include "support/calls.hpp"

#include <gtest/gtest.h>

#include <cstdint>
#include <limits>

namespace heed::test {
namespace {

/// 1 with the given probability, in squares of `side`.
Tensor<bool> random_mask(std::uint64_t seed, double density, Index side, Index b, Index h, Index i,
                         Index j) {
  const Tensor<double> draws = uniform<double>(seed, b, h, i / side + 1, j / side + 1);
  Tensor<bool> mask(b, h, i, j);
  for (Index w = 0; w < b; ++w)
    for (Index x = 0; x < h; ++x)
      for (Index y = 0; y < i; ++y)
        for (Index z = 0; z < j; ++z) mask(w, x, y, z) = draws(w, x, y / side, z / side) < density;
  return mask;
}

/// Every call here but one, so that one variant is compiled.
auto marked(const Tensor<bool>& mask, bool causal_ = false, double scale = 1) {
  return scaled(scale) | when(causal_, causal) | boolean_mask(mask);
}

template <class T>
class BooleanMasks : public testing::Test {};
TYPED_TEST_SUITE(BooleanMasks, Scalars, ScalarName);

TYPED_TEST(BooleanMasks, ShowWhereTheyAreTrue) {
  Tensor<bool> mask(1, 1, 3, 3);
  mask.setValues({{{{true, false, true}, {false, false, false}, {false, true, false}}}});
  const auto in = with_scores<TypeParam>({{0, 5, 0}, {0, 0, 0}, {7, 0, 7}});
  const auto got = attend(in, marked(mask));
  EXPECT_TRUE(shows(got, {{.5, 0, .5}, {0, 0, 0}, {0, 1, 0}}));
  EXPECT_EQ(got.lse(0, 0, 1), -std::numeric_limits<TypeParam>::infinity());
}

/// All sixteen ways, in both number types.
TYPED_TEST(BooleanMasks, BroadcastAlongSizesOfOne) {
  using T = TypeParam;
  const Shape s{2, 3, 1, 21, 45, 8, 8};
  const Inputs<T> in = inputs<T>(s, 1);
  for (const Index b : {Index(1), s.batch})
    for (const Index h : {Index(1), s.heads})
      for (const Index i : {Index(1), s.queries})
        for (const Index j : {Index(1), s.keys}) {
          SCOPED_TRACE(testing::Message() << b << ' ' << h << ' ' << i << ' ' << j);
          const auto mask = random_mask(7, 0.5, 1, b, h, i, j);
          reference::Rules rules = seeing(reference::boolean_mask(array(mask)));
          rules.scale = 0.3;
          expect_oracle(in, marked(mask, false, 0.3), rules);
        }
}

TYPED_TEST(BooleanMasks, MatchTheOracleWhetherThinThickOrInBlocks) {
  using T = TypeParam;
  const Inputs<T> in = inputs<T>(tokens(210, 8, 2, 1), 2);
  for (const double density : {0., 0.01, 0.3, 0.97, 1.})
    for (const Index side : {1, 50}) {
      SCOPED_TRACE(testing::Message() << density << ", squares of " << side);
      const auto mask = random_mask(3, density, side, 1, 2, 210, 210);
      const reference::Visible shown = reference::boolean_mask(array(mask));
      reference::Rules rules = seeing(shown);
      rules.scale = 0.3;
      expect_oracle(in, marked(mask, false, 0.3), rules);
      rules.visible = shown && reference::causal();
      expect_oracle(in, marked(mask, true, 0.3), rules);
    }
}

TEST(ByteMask, TakesAnyNonzeroByteForTrue) {
  Tensor<std::uint8_t> mask(1, 1, 1, 4);
  mask.setValues({{{{0, 1, 2, 255}}}});
  EXPECT_TRUE(shows(attend(with_scores<float>({{0, 0, 0, 0}}), scaled(1) | boolean_mask(mask)),
                    {{0, 1 / 3., 1 / 3., 1 / 3.}}));
}

TYPED_TEST(BooleanMasks, KeepNaNAndInfinityBehindThem) {
  using T = TypeParam;
  const Inputs<T> in = inputs<T>(tokens(140, 8), 4);
  auto mask = random_mask(5, 0.5, 1, 1, 1, 140, 140);
  for (const Index j : {0, 17, 64, 139})
    for (Index i = 0; i < 140; ++i) mask(0, 0, i, j) = false;
  const Outputs<T> clean = attend(in, marked(mask, false, 0.3));
  for (const T poison : {std::numeric_limits<T>::quiet_NaN(), std::numeric_limits<T>::infinity(),
                         -std::numeric_limits<T>::infinity()}) {
    Inputs<T> bad = in;
    for (const Index j : {0, 17, 64, 139}) {
      bad.k.chip(j, 2).setConstant(poison);
      bad.v.chip(j, 2).setConstant(poison);
    }
    expect_same_bits(clean, attend(bad, marked(mask, false, 0.3)));
  }
}

/// Of one pair only, in a row whose other keys are read: k is poisoned for that row alone.
TYPED_TEST(BooleanMasks, KeepAnOverflowingScoreBehindThem) {
  using T = TypeParam;
  Inputs<T> in = inputs<T>(Shape{1, 1, 1, 20, 60, 8, 8}, 6);
  Tensor<bool> mask(1, 1, 20, 60);
  mask.setConstant(true);
  mask(0, 0, 3, 40) = false;
  const Outputs<T> clean = attend(in, marked(mask, false, 0.3));
  for (Index d = 0; d < 8; ++d) {
    in.k(0, 0, 40, d) = std::numeric_limits<T>::max();
  }
  const Outputs<T> got = attend(in, marked(mask, false, 0.3));
  EXPECT_TRUE(same_bits(slice(clean.out, 3, 4), slice(got.out, 3, 4)));
}

TYPED_TEST(BooleanMasks, SkipWhatTheyHideWhole) {
  const Index n = 1024;
  Tensor<bool> mask(1, 1, n, n);
  mask.setConstant(false);
  for (Index i = 0; i < n; ++i)
    for (Index j = i / 128 * 128; j < i / 128 * 128 + 128; ++j) mask(0, 0, i, j) = true;
  const auto in = inputs<TypeParam>(tokens(n, 8), 7);
  const WorkStats some = attend(in, marked(mask, false, 0.3)).visited;
  EXPECT_LT(some.pairs, n * n / 2);
}

TYPED_TEST(BooleanMasks, BroadcastOrAreRefused) {
  const auto in = inputs<TypeParam>(tokens(4, 8, 2, 1), 1);
  const auto wrong = random_mask(1, 0.5, 1, 1, 2, 3, 4);
  expect_refusal<ShapeError>(in, marked(wrong),
                             "mask is [1, 2, 3, 4], must be or broadcast to [1, 2, 4, 4]");
}

}  // namespace
}  // namespace heed::test
