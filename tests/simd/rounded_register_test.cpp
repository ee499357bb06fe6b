// SPDX-License-Identifier: MIT
// A register of float rounded to 16 bits: to the nearest, at every number and between any two.

#include "heed/simd/rounded_register.hpp"

#include <Eigen/Core>
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <type_traits>
#include <vector>

namespace heed::test {
namespace {

template <class S>
class RoundedRegister : public testing::Test {};
using RoundedFormats = testing::Types<Eigen::half, Eigen::bfloat16>;
TYPED_TEST_SUITE(RoundedRegister, RoundedFormats);

template <class S>
std::uint16_t bits_of(const S& x) {
  return std::bit_cast<std::uint16_t>(x);
}

/// Every number of S, the middle between it and the next, and floats on both sides of either.
template <class S>
std::vector<float> floats_about_every_number() {
  std::vector<float> x;
  for (unsigned bits = 0; bits < 0x8000; ++bits) {
    const float number = float(std::bit_cast<S>(std::uint16_t(bits)));
    const float next = float(std::bit_cast<S>(std::uint16_t(bits + 1)));
    for (const float at : {number, float((double(number) + double(next)) / 2)})
      for (const float sign : {1.F, -1.F})
        for (const std::uint32_t step : {0U, 1U, ~0U})
          x.push_back(sign * std::bit_cast<float>(std::bit_cast<std::uint32_t>(at) + step));
  }
  while (x.size() % 64 != 0) x.push_back(0);
  return x;
}

/// The nearest by definition: neither neighbour is nearer, nor as near and even.
template <class S>
bool is_nearest(float x, std::uint16_t got) {
  if (std::isnan(x)) return std::isnan(float(std::bit_cast<S>(got)));
  if (std::signbit(x) != bool(got >> 15)) return false;
  const std::uint16_t infinite = bits_of(S(std::numeric_limits<float>::infinity()));
  const auto value = [&](unsigned bits) {
    // Infinity stands for the number that would follow.
    if (bits != infinite) return double(float(std::bit_cast<S>(std::uint16_t(bits))));
    return 2 * double(float(std::bit_cast<S>(std::uint16_t(bits - 1)))) -
           double(float(std::bit_cast<S>(std::uint16_t(bits - 2))));
  };
  const unsigned magnitude = got & 0x7fff;
  if (std::isinf(x)) return magnitude == infinite;
  const double exact = std::abs(double(x)), error = std::abs(value(magnitude) - exact);
  for (const unsigned other : {magnitude - 1, magnitude + 1}) {
    if (other > infinite || (magnitude == infinite && exact > value(magnitude))) continue;
    const double theirs = std::abs(value(other) - exact);
    if (theirs < error || (theirs == error && magnitude % 2 == 1)) return false;
  }
  return true;
}

TYPED_TEST(RoundedRegister, HoldsTheNearest) {
  using S = TypeParam;
  const std::vector<float> x = floats_about_every_number<S>();
  constexpr Index width = simd::width<float>;
  std::vector<S> out(x.size());
  for (std::size_t i = 0; i < x.size(); i += std::size_t(width))
    simd::store_rounded(simd::load(x.data() + i), out.data() + i);
  for (std::size_t i = 0; i < x.size(); ++i)
    ASSERT_TRUE(is_nearest<S>(x[i], bits_of(out[i]))) << x[i] << " is not " << float(out[i]);
}

TYPED_TEST(RoundedRegister, HoldsTheNearestInPairs) {
  using S = TypeParam;
  const std::vector<float> x = floats_about_every_number<S>();
  constexpr Index width = simd::width<float>;
  std::vector<S> out(x.size()), again(x.size());
  for (std::size_t i = 0; i < x.size(); i += std::size_t(2 * width)) {
    const simd::BatchPair<float> pair{simd::load(x.data() + i), simd::load(x.data() + i + width)};
    simd::store_zipped(simd::unzip(pair), out.data() + i);
    simd::store_zipped(simd::load_unzipped<float>(out.data() + i), again.data() + i);
  }
  for (std::size_t i = 0; i < x.size(); ++i) {
    ASSERT_TRUE(is_nearest<S>(x[i], bits_of(out[i]))) << x[i] << " is not " << float(out[i]);
    ASSERT_TRUE(bits_of(again[i]) == bits_of(out[i]) || std::isnan(float(out[i]))) << float(out[i]);
  }
}

}  // namespace
}  // namespace heed::test
