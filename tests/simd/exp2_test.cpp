// SPDX-License-Identifier: MIT
#include "heed/simd/exp2.hpp"

#include "support/calls.hpp"
#include "support/sanitizers.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

namespace heed::test {
namespace {

template <class T>
class Exp2 : public testing::Test {
 protected:
  using Limits = std::numeric_limits<T>;
  static constexpr Index width = simd::width<T>;
  static constexpr double lowest = simd::least_exponent<T>;
  static constexpr double highest = Limits::max_exponent - 1;
  static constexpr double allowed = std::is_same_v<T, float> ? 2e-7 : 4e-16;
  static constexpr double allowed_ulp = std::is_same_v<T, float> ? 2.5 : 1.5;

  static T in_lane(Index lane, T x, T rest = 0) {
    std::vector<T> lanes(std::size_t(width), rest);
    lanes[std::size_t(lane)] = x;
    simd::exp2(simd::load(lanes.data())).store_unaligned(lanes.data());
    return lanes[std::size_t(lane)];
  }
  static T of(T x) { return in_lane(0, x); }

  struct Error {
    double relative = 0, ulp = 0;
    T where = 0;
  };
  /// The largest error over a register of arguments at a time.
  static void widen(Error& worst, const T* x) {
    T y[std::size_t(width)];
    simd::exp2(simd::load(x)).store_unaligned(y);
    for (Index i = 0; i < width; ++i) {
      const long double want = std::exp2(static_cast<long double>(x[i]));
      const double error = double(std::abs(static_cast<long double>(y[i]) - want) / want);
      const T nearest = static_cast<T>(want);
      const double ulp = double(std::abs(static_cast<long double>(y[i]) - want) /
                                (std::nextafter(nearest, Limits::infinity()) - nearest));
      if (error > worst.relative) worst.relative = error, worst.where = x[i];
      worst.ulp = std::max(worst.ulp, ulp);
    }
  }
};
TYPED_TEST_SUITE(Exp2, Scalars, ScalarName);

/// Everywhere from the least power to the largest: evenly, and at random.
TYPED_TEST(Exp2, IsWithinItsBoundOverTheWholeRange) {
  using T = TypeParam;
  const Index steps = sanitized ? 10000 : 100000;
  typename TestFixture::Error worst;
  Random random(1);
  T x[std::size_t(TestFixture::width)];
  for (Index step = 0; step < steps; ++step) {
    const double even = double(step) / double(steps);
    for (Index i = 0; i < this->width; ++i) {
      const double at = i % 2 == 0 ? even : random.uniform();
      x[i] = T(this->lowest + at * (this->highest - this->lowest));
    }
    this->widen(worst, x);
  }
  EXPECT_LT(worst.relative, this->allowed) << "at " << worst.where;
  EXPECT_LT(worst.ulp, this->allowed_ulp) << "at " << worst.where;
}

/// Where the polynomial is used: near zero, and on both sides of its limits.
TYPED_TEST(Exp2, IsWithinItsBoundWherePolynomialsMeet) {
  using T = TypeParam;
  const Index steps = sanitized ? 10000 : 100000;
  typename TestFixture::Error worst;
  T x[std::size_t(TestFixture::width)];
  for (const double centre : {0., 0.5, -0.5, 1.5, -1.5, -10.5, -90.5})
    for (Index step = 0; step < steps / 8; step += this->width) {
      for (Index i = 0; i < this->width; ++i)
        x[i] = T(centre + 0.51 * (double(step + i) / double(steps / 8) - 0.5));
      this->widen(worst, x);
    }
  EXPECT_LT(worst.relative, this->allowed) << "at " << worst.where;
  EXPECT_LT(worst.ulp, this->allowed_ulp) << "at " << worst.where;
}

TYPED_TEST(Exp2, OfIntegersIsExact) {
  using T = TypeParam;
  for (Index n = Index(this->lowest); n <= Index(this->highest); ++n)
    ASSERT_EQ(this->of(T(n)), std::ldexp(T(1), int(n))) << n;
  EXPECT_EQ(this->of(T(-0.)), T(1));
}

/// What a lane gives depends neither on which it is nor on the others.
TYPED_TEST(Exp2, IsTheSameInEveryLane) {
  using T = TypeParam;
  Random random(2);
  for (int trial = 0; trial < 200; ++trial) {
    const T x = T(20 * random.normal()), rest = T(20 * random.normal());
    const T first = this->in_lane(0, x);
    for (Index lane = 0; lane < this->width; ++lane) ASSERT_EQ(this->in_lane(lane, x, rest), first);
  }
}

/// Below the least exponent the result is clamped: it is never zero, and its product with a small
/// number is a normal number.
TYPED_TEST(Exp2, IsClampedFromBelow) {
  using T = TypeParam;
  const T least = T(this->lowest), power = std::ldexp(T(1), simd::least_exponent<T>);
  EXPECT_TRUE(std::isnormal(power * std::numeric_limits<T>::epsilon()));
  EXPECT_EQ(this->of(least), power);
  for (const T x :
       {std::nextafter(least, -TestFixture::Limits::infinity()), least - 1, T(2) * least, T(-1e30),
        TestFixture::Limits::lowest(), -TestFixture::Limits::infinity()})
    EXPECT_EQ(this->of(x), power) << x;
  EXPECT_GE(this->of(std::nextafter(least, T(0))), power);
}

TYPED_TEST(Exp2, ReachesTheLargestPower) {
  using T = TypeParam;
  EXPECT_EQ(this->of(T(this->highest)), std::ldexp(T(1), TestFixture::Limits::max_exponent - 1));
  EXPECT_LE(this->of(std::nextafter(T(this->highest), T(0))), this->of(T(this->highest)));
}

TYPED_TEST(Exp2, DoesNotFallByMoreThanRounding) {
  using T = TypeParam;
  T before = this->of(T(-20));
  for (double x = -20; x < 5; x += 1. / 512) {
    const T now = this->of(T(x));
    ASSERT_GE(now, before) << x;
    before = now;
  }
}

TYPED_TEST(Exp2, OfOneNumberAgreesWithThatOfMany) {
  using T = TypeParam;
  for (const double x : {-1e30, -2000., -90., -40.3, -1., 0., 0.7, 3., 100.2})
    EXPECT_NEAR(double(simd::exp2(T(x))) / double(this->of(T(x))), 1., 2 * this->allowed) << x;
}

TYPED_TEST(Exp2, ConstantsAreTheLogarithms) {
  using T = TypeParam;
  EXPECT_EQ(simd::log2e<T>, static_cast<T>(1 / std::log(2.0L)));
  EXPECT_EQ(simd::ln2<T>, static_cast<T>(std::log(2.0L)));
}

}  // namespace
}  // namespace heed::test
