// SPDX-License-Identifier: MIT
// The caller's floating point, and subnormal numbers.
#include "heed/engine/forward.hpp"
#include "heed/score/causal.hpp"
#include "heed/score/standard.hpp"
#include "support/calls.hpp"

#include <gtest/gtest.h>

#include <cfenv>
#include <cmath>
#include <limits>

namespace heed::test {
namespace {

/// The library may flush subnormal numbers to zero within a call; the caller's own must not be.
TEST(FloatingPoint, LeavesSubnormalNumbersToTheCaller) {
  const Inputs<float> in = inputs<float>(tokens(20, 8), 51);
  attend(in, causally);
  volatile float tiny = std::numeric_limits<float>::min();
  volatile float half = tiny / 2;
  EXPECT_GT(half, 0.f);
}

TEST(FloatingPoint, SurvivesSubnormalInputs) {
  Inputs<float> in = inputs<float>(tokens(20, 8), 52);
  in.k = in.k * in.k.constant(1e-39f);
  in.v = in.v * in.v.constant(1e-39f);
  const Outputs<float> got = attend(in, causally);
  EXPECT_TRUE(finite(got.out));
  EXPECT_NEAR(got.lse(0, 0, 19), std::log(20.), 1e-5);
}

/// Sums of subnormal products are slow. Here every row's keys are far below its own, which is the
/// last it meets; all are of one tile, so that no maximum is raised, which may flush what was
/// before.
TEST(FloatingPoint, MeetsNoSubnormalNumbersWhereScoresLieFarApart) {
  Inputs<float> in = inputs<float>(tokens(8, 16), 53);
  in.q = in.k = in.k * in.k.constant(20.f);
  in.v = in.v.abs() + in.v.constant(0.01f);
  std::feclearexcept(FE_ALL_EXCEPT);
  attend(in, causally);
  EXPECT_EQ(std::fetestexcept(FE_UNDERFLOW), 0);
}

}  // namespace
}  // namespace heed::test
