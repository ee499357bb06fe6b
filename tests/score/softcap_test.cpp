// SPDX-License-Identifier: MIT
#include "heed/score/softcap.hpp"

#include "heed/score/bias.hpp"
#include "heed/score/causal.hpp"
#include "heed/score/standard.hpp"
#include "heed/score/when.hpp"
#include "support/calls.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <string>

namespace heed::test {
namespace {

template <class T>
class Softcaps : public testing::Test {
 protected:
  Tensor<T> none;

  /// Capped, then biased if there is a bias, then causal if so wished.
  auto variant(double scale, double cap, bool causal_, const Tensor<T>& values) const {
    return scaled(scale) | softcap(cap) | when(values.size() > 0, bias(values)) |
           when(causal_, causal);
  }
  auto variant(double scale, double cap, bool causal_ = false) const {
    return variant(scale, cap, causal_, none);
  }
};
TYPED_TEST_SUITE(Softcaps, Scalars, ScalarName);

TYPED_TEST(Softcaps, BendScoresTowardsTheCap) {
  using T = TypeParam;
  for (const double cap : {0.5, 1., 5., 30., 50., 1000.})
    for (const double amplitude : {0.3, 1., 4.}) {
      SCOPED_TRACE(std::to_string(cap) + ", amplitude " + std::to_string(amplitude));
      const Inputs<T> in = inputs<T>(tokens(60, 16, 2, 2), 1, amplitude);
      reference::Rules rules = seeing(reference::causal());
      rules.softcap = cap;
      expect_oracle(in, this->variant(0.25, cap, true), rules);
    }
}

TYPED_TEST(Softcaps, HoldScoresOfAnySizeBelowTheCap) {
  const auto in = with_scores<TypeParam>({{1e6, -1e6, 0}});
  const double e = std::exp(2.), sum = e + 1 / e + 1;
  EXPECT_TRUE(shows(attend(in, this->variant(1, 2)), {{e / sum, 1 / e / sum, 1 / sum}}));
}

/// Were the cap to act after the mask, masked keys would come back at −cap.
TYPED_TEST(Softcaps, ActBeforeTheMask) {
  const auto in = with_scores<TypeParam>({{-40, 40, 40}, {-40, -40, 40}, {1, 2, 3}});
  const auto got = attend(in, this->variant(1, 0.1, true));
  EXPECT_EQ(got.out(0, 0, 0, 1), TypeParam(0));
  EXPECT_EQ(got.out(0, 0, 0, 2), TypeParam(0));
  EXPECT_EQ(got.out(0, 0, 1, 2), TypeParam(0));
}

TYPED_TEST(Softcaps, ActBeforeTheBias) {
  using T = TypeParam;
  const Inputs<T> in = inputs<T>(tokens(40, 8, 2, 2), 2, 3);
  Tensor<T> values = normal<T>(9, 1, 2, 40, 40);
  values = values * values.constant(T(10));
  for (Index i = 0; i < 40; ++i)
    values(0, 1, i, (i * 7) % 39) = -std::numeric_limits<T>::infinity();
  reference::Rules rules;
  rules.scale = 0.5;
  rules.softcap = 2;
  rules.bias = array(values);
  expect_oracle(in, this->variant(0.5, 2, false, values), rules);
}

/// So high that none is near it, in float too.
TYPED_TEST(Softcaps, BeyondEveryScoreChangeNothing) {
  using T = TypeParam;
  for (const double amplitude : {1., 5.}) {
    const Inputs<T> in = inputs<T>(tokens(60, 16, 2, 2), 3, amplitude);
    const Outputs<T> got = attend(in, this->variant(0.25, 1e30)),
                     want = attend(in, scaled(0.25) | when(false, causal));
    EXPECT_TRUE(close(got.out, want.out));
    EXPECT_TRUE(close(got.lse, want.lse));
  }
}

/// So low that all scores are alike.
TYPED_TEST(Softcaps, NextToNothingAverageTheValues) {
  using T = TypeParam;
  const Inputs<T> in = inputs<T>(tokens(60, 16), 4);
  reference::Rules rules;
  rules.scale = 0;
  expect_close(attend(in, this->variant(0.25, 1e-30)), oracle(in, rules));
}

TYPED_TEST(Softcaps, ArePositiveAndWithinFloat) {
  const auto in = inputs<TypeParam>(tokens(4, 8), 1);
  for (const double cap : {std::numeric_limits<double>::infinity(), 1e31, 1e-31, -1.})
    expect_refusal<ValueError>(in, this->variant(1, cap), "must be positive, and lie in");
  expect_refusal<ValueError>(in, this->variant(1, 0), "softcap is 0");
  expect_refusal<ValueError>(in, this->variant(1, -3), "softcap is -3");
  expect_refusal<ValueError>(in, this->variant(1, std::numeric_limits<double>::quiet_NaN()),
                             "softcap");
}

}  // namespace
}  // namespace heed::test
