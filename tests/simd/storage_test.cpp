// SPDX-License-Identifier: MIT
// Numbers of 16 and 8 bits: what they are widened to, every one of them.

#include "heed/simd/storage.hpp"

#include "support/calls.hpp"

#include <Eigen/Core>
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>
#include <vector>

namespace heed::test {
namespace {

template <class S>
class SixteenBits : public testing::Test {
 public:
  static std::vector<S> all() {
    std::vector<S> x;
    for (unsigned bits = 0; bits < 65536; ++bits)
      x.push_back(std::bit_cast<S>(std::uint16_t(bits)));
    return x;
  }
};
using Formats = testing::Types<Eigen::half, Eigen::bfloat16>;
TYPED_TEST_SUITE(SixteenBits, Formats);

/// By the definition: sign, exponent, fraction.
double value_of(std::uint16_t bits, int exponent_bits) {
  const int fraction_bits = 15 - exponent_bits, bias = (1 << (exponent_bits - 1)) - 1;
  const int exponent = bits >> fraction_bits & ((1 << exponent_bits) - 1);
  const double fraction = std::ldexp(bits & ((1 << fraction_bits) - 1), -fraction_bits);
  const double sign = bits >> 15 ? -1 : 1;
  if (exponent == (1 << exponent_bits) - 1)
    return fraction == 0 ? sign * std::numeric_limits<double>::infinity()
                         : std::numeric_limits<double>::quiet_NaN();
  return exponent == 0 ? sign * std::ldexp(fraction, 1 - bias)
                       : sign * std::ldexp(1 + fraction, exponent - bias);
}

TYPED_TEST(SixteenBits, AreWidenedExactly) {
  const std::vector<TypeParam> x = TestFixture::all();
  std::vector<float> wide(x.size());
  simd::widen(x.data(), Index(x.size()), wide.data());
  for (unsigned bits = 0; bits < 65536; ++bits) {
    const double want =
        value_of(std::uint16_t(bits), std::is_same_v<TypeParam, Eigen::half> ? 5 : 8);
    if (std::isnan(want))
      EXPECT_TRUE(std::isnan(wide[bits])) << bits;
    else
      EXPECT_EQ(double(wide[bits]), want) << bits;
  }
}

/// Whatever the place in a register, and not beyond the last.
TYPED_TEST(SixteenBits, AreWidenedToTheLast) {
  const std::vector<TypeParam> x = TestFixture::all();
  for (const Index count : {0, 1, 3, 4, 7, 8, 15, 16, 17, 31, 40}) {
    std::vector<float> wide(std::size_t(count) + 1, -1.F);
    simd::widen(x.data() + 15000, count, wide.data());
    for (Index i = 0; i < count; ++i)
      EXPECT_EQ(wide[std::size_t(i)], float(x[std::size_t(15000 + i)]));
    EXPECT_EQ(wide.back(), -1.F);
  }
}

TYPED_TEST(SixteenBits, AreFiniteOrNotWhereverTheyStand) {
  const std::vector<TypeParam> x = TestFixture::all();
  for (const TypeParam& number : x)
    ASSERT_EQ(simd::all_finite(&number, 0, 1, 1), std::isfinite(float(number)));
  for (const Index dim : {1, 5, 32, 33, 70})
    for (Index at = 0; at < dim; ++at) {
      std::vector<TypeParam> row(std::size_t(dim), TypeParam(1.F));
      EXPECT_TRUE(simd::all_finite(row.data(), 0, 1, dim));
      row[std::size_t(at)] = TypeParam(-std::numeric_limits<float>::infinity());
      EXPECT_FALSE(simd::all_finite(row.data(), 0, 1, dim)) << at << " of " << dim;
    }
}

TEST(EightBits, AreMultiplesOfTheirScale) {
  std::vector<std::int8_t> x(256);
  for (int i = 0; i < 256; ++i) x[std::size_t(i)] = std::int8_t(i - 128);
  for (const Index count : {0, 1, 15, 16, 100, 256}) {
    std::vector<float> wide(std::size_t(count) + 1, -1.F);
    const float scale = .375F;
    simd::widen(x.data(), count, &scale, wide.data());
    for (Index i = 0; i < count; ++i) EXPECT_EQ(wide[std::size_t(i)], .375F * float(i - 128));
    EXPECT_EQ(wide.back(), -1.F);
  }
}

/// A panel of rows with a scale each, both sides of a register.
TEST(EightBits, InPanelsHaveTheScaleOfTheirRow) {
  for (const Index rows : {1, 4, 8, 16, 24, 33}) {
    const Index dim = 5;
    std::vector<std::int8_t> x(std::size_t(rows * dim));
    std::vector<float> scale(static_cast<std::size_t>(rows)), wide(x.size());
    for (std::size_t i = 0; i < x.size(); ++i) x[i] = std::int8_t(37 * i);
    for (std::size_t r = 0; r < scale.size(); ++r) scale[r] = .25F + float(r);
    simd::widen_panel(x.data(), dim, rows, scale.data(), wide.data());
    for (std::size_t i = 0; i < x.size(); ++i)
      EXPECT_EQ(wide[i], scale[i % scale.size()] * float(x[i]));
  }
}

/// The largest number is met exactly, others to half a step.
TEST(EightBits, AreTheNearestMultiples) {
  const std::vector<float> x{0.F, 1.F, -3.F, 2.99F, .011F, -.012F, .0118F};
  std::vector<std::int8_t> narrow(x.size());
  float scale = 0;
  simd::Codec<std::int8_t>::encode(x.data(), Index(x.size()), narrow.data(), 1, &scale, 1);
  EXPECT_FLOAT_EQ(scale, 3.F / 127);
  EXPECT_EQ(narrow, (std::vector<std::int8_t>{0, 42, -127, 127, 0, -1, 0}));
}

}  // namespace
}  // namespace heed::test
