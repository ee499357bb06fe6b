// SPDX-License-Identifier: MIT
#include "heed/score/standard.hpp"

#include "support/calls.hpp"

#include <gtest/gtest.h>

#include <cmath>

namespace heed::test {
namespace {

template <class T>
class Scales : public testing::Test {};
TYPED_TEST_SUITE(Scales, Scalars, ScalarName);

// standard and scaled(1/√D) are one variant by the time the engine sees them.
TYPED_TEST(Scales, OneOverTheRootOfTheHeadDimensionIsTheStandard) {
  const auto in = with_scores<TypeParam>({{2 * std::log(3.), 0, 0, 0}});  // D = 4
  EXPECT_TRUE(shows(attend(in, standard), {{.5, 1 / 6., 1 / 6., 1 / 6.}}));
}

TYPED_TEST(Scales, AreAsGiven) {
  using T = TypeParam;
  const Inputs<T> in = inputs<T>(tokens(70, 24, 2, 1), 1);
  for (const double scale : {1e-6, 0.03, 0.2041241452319315, 1., -0.3}) {
    SCOPED_TRACE(scale);
    reference::Rules rules;
    rules.scale = scale;
    expect_oracle(in, scaled(scale), rules);
  }
}

TYPED_TEST(Scales, OfZeroAverageTheValues) {
  using T = TypeParam;
  const Inputs<T> in = inputs<T>(tokens(40, 8), 2);
  reference::Rules rules;
  rules.scale = 0;
  expect_oracle(in, scaled(0), rules);
}

}  // namespace
}  // namespace heed::test
