// SPDX-License-Identifier: MIT
#include "heed/score/alibi.hpp"

#include "heed/score/causal.hpp"
#include "heed/score/standard.hpp"
#include "heed/score/when.hpp"
#include "support/calls.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

namespace heed::test {
namespace {

template <class T>
class Alibis : public testing::Test {
 protected:
  auto variant(const Tensor<T, 1>& slopes, double scale, bool causal_) const {
    return scaled(scale) | alibi(slopes) | when(causal_, causal);
  }
};
TYPED_TEST_SUITE(Alibis, Scalars, ScalarName);

TYPED_TEST(Alibis, LowerAScoreByItsDistance) {
  using T = TypeParam;
  Tensor<T, 1> slopes(1);
  slopes(0) = T(std::log(2.));
  const auto in = with_scores<T>({{0, 0, 0}, {0, 0, 0}, {0, 0, 0}});
  EXPECT_TRUE(shows(attend(in, this->variant(slopes, 1, true)),
                    {{1, 0, 0}, {1 / 3., 2 / 3., 0}, {1 / 7., 2 / 7., 4 / 7.}}));
}

TYPED_TEST(Alibis, TakeSlopesOfAnySign) {
  using T = TypeParam;
  const Inputs<T> in = inputs<T>(tokens(150, 16, 4, 2, 2), 1);
  const Tensor<T, 1> slopes = normal<T>(2, 4);
  reference::Rules rules = seeing(reference::causal());
  rules.slopes = array(slopes);
  for (double& slope : rules.slopes.values) slope = double(T(slope * 0.1));
  const Tensor<T, 1> gentle = tensor<T, 1>(rules.slopes);
  expect_oracle(in, this->variant(gentle, 0.25, true), rules);
  rules.visible = nullptr;  // keys after the row are raised where those before it are lowered
  expect_oracle(in, this->variant(gentle, 0.25, false), rules);
}

/// The list printed in the paper's code for 8 heads, and its construction for 12.
TEST(AlibiSlopes, AreThePapers) {
  for (Index h = 0; h < 8; ++h) EXPECT_DOUBLE_EQ(alibi_slope(h, 8), std::pow(2., -double(h + 1)));
  for (Index h = 0; h < 16; ++h)
    EXPECT_DOUBLE_EQ(alibi_slope(h, 16), std::pow(2., -0.5 * double(h + 1)));
  const std::vector<double> twelve{-1, -2, -3, -4, -5, -6, -7, -8, -.5, -1.5, -2.5, -3.5};
  for (Index h = 0; h < 12; ++h)
    EXPECT_DOUBLE_EQ(alibi_slope(h, 12), std::pow(2., twelve[std::size_t(h)])) << h;
  EXPECT_DOUBLE_EQ(alibi_slope(0, 1), 1 / 256.);
  EXPECT_DOUBLE_EQ(alibi_slope(2, 3), 0.25);
}

TEST(AlibiSlopes, AreThePapersUnlessToldOtherwise) {
  using T = float;
  for (const Index heads : {1, 2, 3, 8, 12}) {
    SCOPED_TRACE(heads);
    const Inputs<T> in = inputs<T>(tokens(70, 8, heads, 1), 3);
    reference::Rules rules = seeing(reference::causal());
    rules.slopes = reference::Array({heads});
    for (Index h = 0; h < heads; ++h) rules.slopes(h) = alibi_slope(h, heads);
    expect_oracle(in, standard | alibi() | causal, rules);
  }
}

TYPED_TEST(Alibis, WantOneSlopePerHead) {
  using T = TypeParam;
  const Tensor<T, 1> three = normal<T>(1, 3);
  expect_refusal<ShapeError>(inputs<T>(tokens(4, 8, 2, 1), 1), this->variant(three, 1, false),
                             "[3]");
}

}  // namespace
}  // namespace heed::test
