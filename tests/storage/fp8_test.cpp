// SPDX-License-Identifier: MIT
// E4M3 by its definition (OCP OFP8): all 256 codes, the nearest of every number in between, and
// keys and values stored so.

#include "heed/simd/codec/fp8.hpp"

#include "support/quantized.hpp"

#include <cmath>
#include <limits>
#include <vector>

namespace heed::test::fp8 {
namespace {

constexpr double nan = std::numeric_limits<double>::quiet_NaN();

/// Sign, exponent, fraction.
double value_of(unsigned bits) {
  const double sign = bits & 0x80 ? -1 : 1;
  const int exponent = int(bits >> 3 & 15), fraction = int(bits & 7);
  if (exponent == 15 && fraction == 7) return nan;
  return exponent == 0 ? sign * fraction / 8. * std::pow(2, -6)
                       : sign * (1 + fraction / 8.) * std::pow(2, exponent - 7);
}
double number_of(const Fp8E4M3* units, Index d) {
  return value_of(units[d].bits);
}

TEST(Fp8, CodesStandForTheirValues) {
  std::vector<Fp8E4M3> codes;
  for (unsigned bits = 0; bits < 256; ++bits) codes.push_back({std::uint8_t(bits)});
  const float scale = 3;
  const double wide_scale = 3;
  for (const Index count : {1, 15, 16, 17, 250, 256}) {  // whole registers, and what is left
    std::vector<float> wide(std::size_t(count) + 1, -1.F);
    std::vector<double> wider(std::size_t(count) + 1, -1.);
    simd::widen(codes.data(), count, &scale, wide.data());
    simd::widen(codes.data(), count, &wide_scale, wider.data());
    for (Index i = 0; i < count; ++i) {
      const double want = value_of(unsigned(i));
      if (std::isnan(want)) {
        EXPECT_TRUE(std::isnan(wide[std::size_t(i)]) && std::isnan(wider[std::size_t(i)])) << i;
        EXPECT_TRUE(std::isnan(codes[std::size_t(i)].value()));
      } else {
        EXPECT_EQ(wide[std::size_t(i)], float(3 * want)) << i;
        EXPECT_EQ(wider[std::size_t(i)], 3 * want) << i;
        EXPECT_EQ(codes[std::size_t(i)].value(), float(want)) << i;
        EXPECT_EQ(std::signbit(codes[std::size_t(i)].value()), i >= 128) << i;
      }
    }
    EXPECT_EQ(wide.back(), -1.F);
    EXPECT_EQ(wider.back(), -1.);
  }
}

/// Between two codes: halfway the even one, else the nearer.
template <class T>
void expect_nearest() {
  constexpr T infinity = std::numeric_limits<T>::infinity();
  for (unsigned bits = 0; bits < 0x7e; ++bits)
    for (const unsigned sign : {0u, 0x80u}) {
      const T low = T(value_of(bits | sign)), high = T(value_of((bits + 1) | sign)),
              half = (low + high) / 2;
      const auto code = [](T x) { return unsigned(Fp8E4M3::nearest(x).bits); };
      EXPECT_EQ(code(low), bits | sign);
      EXPECT_EQ(code(high), (bits + 1) | sign);
      EXPECT_EQ(code(half), (bits % 2 == 0 ? bits : bits + 1) | sign) << double(half);
      EXPECT_EQ(code(std::nextafter(half, low)), bits | sign) << double(half);
      EXPECT_EQ(code(std::nextafter(half, high)), (bits + 1) | sign) << double(half);
    }
  for (const T x : {T(448), T(449), T(464), T(500), std::numeric_limits<T>::max(), infinity}) {
    EXPECT_EQ(Fp8E4M3::nearest(x).bits, 0x7e) << double(x);
    EXPECT_EQ(Fp8E4M3::nearest(-x).bits, 0xfe) << double(x);
  }
  EXPECT_EQ(Fp8E4M3::nearest(std::numeric_limits<T>::denorm_min()).bits, 0);
  EXPECT_EQ(Fp8E4M3::nearest(-std::numeric_limits<T>::min()).bits, 0x80);
  for (const T x : {T(nan), -T(nan), std::numeric_limits<T>::signaling_NaN()})
    EXPECT_EQ(Fp8E4M3::nearest(x).bits & 0x7f, 0x7f);
}
TEST(Fp8, NumbersBecomeTheNearestCode) {
  expect_nearest<float>();
  expect_nearest<double>();
}

/// The largest number is met exactly, others to a sixteenth of themselves.
TEST(Fp8, TokensAreScaledToTheRange) {
  const Tensor<float> x = normal<float>(5, 1, 2, 30, 40);
  StoredTensor<float, Fp8E4M3> stored(x);
  const reference::Array read = stored.read(number_of, 40);
  for (Index token = 0; token < 60; ++token) {
    float most = 0;
    for (Index d = 0; d < 40; ++d) most = std::max(most, std::abs(x.data()[token * 40 + d]));
    EXPECT_FLOAT_EQ(*stored.scales(token), most / 448);
    for (Index d = 0; d < 40; ++d) {
      const double want = double(x.data()[token * 40 + d]),
                   got = read.values[std::size_t(token * 40 + d)];
      EXPECT_LE(std::abs(got - want),
                std::max(std::abs(want) / 15.9, double(*stored.scales(token)) / 1000));
    }
  }
}

TEST(Fp8, TokensOfZerosAreZeroAndOthersNaN) {
  constexpr float infinity = std::numeric_limits<float>::infinity();
  Tensor<float> x(1, 1, 4, 40);
  x.setZero();
  x(0, 0, 1, 5) = 1e-44F;  // its scale would have no digits
  x(0, 0, 2, 39) = float(nan);
  x(0, 0, 3, 0) = -infinity;
  StoredTensor<float, Fp8E4M3> stored(x);
  const reference::Array read = stored.read(number_of, 40);
  for (Index token = 0; token < 4; ++token) {
    EXPECT_EQ(simd::Codec<Fp8E4M3>::finite(&stored.unit(token, 0), 40, stored.scales(token)),
              token < 2);
    for (Index d = 0; d < 40; ++d) {
      const double got = read.values[std::size_t(token * 40 + d)];
      EXPECT_TRUE(token < 2 ? got == 0 : std::isnan(got)) << token << ' ' << d;
    }
  }
}

TEST(Fp8, KeysAndValuesAreReadByForward) {
  expect_forward<Fp8E4M3, float>(number_of, 1000);
  expect_forward<Fp8E4M3, double>(number_of, 1000);
}

TEST(Fp8, KeysAndValuesAreKeptByABuffer) {
  expect_buffer<Fp8E4M3, float>(number_of, 1000);
}

/// A scale that all tokens share, as some engines have it.
TEST(Fp8, OneScaleServesATensor) {
  const Inputs<float> in = inputs<float>({1, 2, 1, 3, 50, 33, 17}, 4);
  StoredTensor<float, Fp8E4M3> k(in.k), v(in.v);
  const float scale = .0125F;
  k.scale.setConstant(scale), v.scale.setConstant(scale);
  const auto shared = [&](const StoredTensor<float, Fp8E4M3>& x) {
    return Quantized{x.numbers, View<const float, 3>(&scale, {1, 1, 50}, {0, 0, 0})};
  };
  Tensor<float> out(1, 2, 3, 17);
  forward(in.q, shared(k), shared(v), standard, out);
  EXPECT_TRUE(close(
      out,
      reference::attention(array(in.q), k.read(number_of, 1000), v.read(number_of, 1000), {}).out));
}

TEST(Fp8, NaNStaysWithTheRowsThatSeeIt) {
  const auto no_code = [](auto& k, auto& v, Index token) {
    k.unit(token, 7) = Fp8E4M3{0x7f}, v.unit(token, 7) = Fp8E4M3{0xff};
  };
  expect_no_leak<Fp8E4M3>(7, no_code);
  const auto no_scale = [](auto& k, auto& v, Index token) {
    *k.scales(token) = *v.scales(token) = float(nan);
  };
  expect_no_leak<Fp8E4M3>(39, no_scale);
}

}  // namespace
}  // namespace heed::test::fp8
