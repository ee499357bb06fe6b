// SPDX-License-Identifier: MIT
// Four bits, two numbers a byte, a scale for every 32: packed and read by the definition, and keys
// and values stored so.

#include "heed/simd/codec/int4.hpp"

#include "support/quantized.hpp"

#include <cmath>
#include <limits>
#include <vector>

namespace heed::test::int4 {
namespace {

constexpr double nan = std::numeric_limits<double>::quiet_NaN();
constexpr Index group = 32;

/// Two's complement of four bits, the first number of a byte in its lower half.
double number_of(const Int4Pair* units, Index d) {
  const int four = units[d / 2].bits / (d % 2 == 0 ? 1 : 16) % 16;
  return four < 8 ? four : four - 16;
}

TEST(Int4, CodesStandForTheirValues) {
  std::vector<Int4Pair> pairs;
  for (unsigned bits = 0; bits < 256; ++bits) pairs.push_back({std::uint8_t(bits)});
  std::vector<float> scale;
  for (int g = 0; g < 16; ++g) scale.push_back(.25F + float(g));
  const std::vector<double> wide_scale(scale.begin(), scale.end());
  for (const Index count : {1, 2, 15, 16, 17, 31, 32, 33, 100, 511, 512}) {
    std::vector<float> wide(std::size_t(count) + 1, -1.F);
    std::vector<double> wider(std::size_t(count) + 1, -1.);
    simd::widen(pairs.data(), count, scale.data(), wide.data());
    simd::widen(pairs.data(), count, wide_scale.data(), wider.data());
    for (Index i = 0; i < count; ++i) {
      const double want = number_of(pairs.data(), i) * wide_scale[std::size_t(i / group)];
      EXPECT_EQ(wide[std::size_t(i)], float(want)) << i << " of " << count;
      EXPECT_EQ(wider[std::size_t(i)], want) << i << " of " << count;
    }
    EXPECT_EQ(wide.back(), -1.F);
    EXPECT_EQ(wider.back(), -1.);
  }
}

/// Rows of a panel side by side, with a scale for each of their groups.
TEST(Int4, PanelsAreReadRowByRow) {
  for (const Index rows : {1, 8, 16, 24, 33})
    for (const Index dim : {1, 2, 31, 32, 33, 64, 100}) {
      const Index units = (dim + 1) / 2, groups = (dim + group - 1) / group;
      std::vector<Int4Pair> x(std::size_t(units * rows));
      std::vector<float> scale(std::size_t(groups * rows)), wide(std::size_t(dim * rows) + 1, -1.F);
      for (std::size_t i = 0; i < x.size(); ++i) x[i].bits = std::uint8_t(37 * i + 11);
      for (std::size_t i = 0; i < scale.size(); ++i) scale[i] = .25F + float(i);
      simd::widen_panel(x.data(), dim, rows, scale.data(), wide.data());
      for (Index d = 0; d < dim; ++d)
        for (Index r = 0; r < rows; ++r)
          EXPECT_EQ(double(wide[std::size_t(d * rows + r)]),
                    number_of(&x[std::size_t(d / 2 * rows + r)], d % 2) *
                        double(scale[std::size_t(d / group * rows + r)]))
              << d << " of " << dim << ", " << r << " of " << rows;
      EXPECT_EQ(wide.back(), -1.F);
    }
}

/// Half a scale at most, whatever the width; the largest of a group is met exactly.
TEST(Int4, GroupsAreTheNearestMultiples) {
  for (const Index dim : stored_dims) {
    const Tensor<float> x = normal<float>(5, 1, 2, 10, dim);
    StoredTensor<float, Int4Pair> stored(x);
    const reference::Array read = stored.read(number_of, group);
    for (Index i = 0; i < x.size(); ++i) {
      const Index token = i / dim, first = i % dim / group * group,
                  last = std::min(first + group, dim);
      float most = 0;
      for (Index d = first; d < last; ++d)
        most = std::max(most, std::abs(x.data()[token * dim + d]));
      const double scale = double(stored.scales(token)[first / group]);
      EXPECT_FLOAT_EQ(float(scale), most / 7);
      EXPECT_LE(std::abs(read.values[std::size_t(i)] - double(x.data()[i])), .5001 * scale);
    }
  }
}

/// A group that is not finite is NaN, and leaves its neighbours as they are; one of zeros, or of
/// numbers so small that its scale would have no digits, is zero.
TEST(Int4, GroupsOfZerosAreZeroAndOthersNaN) {
  Tensor<float> x(1, 1, 3, 100);
  x.setConstant(1);
  x(0, 0, 0, 40) = float(nan);
  x(0, 0, 1, 99) = std::numeric_limits<float>::infinity();
  for (Index d = 0; d < 32; ++d) x(0, 0, 2, d) = d == 3 ? 1e-44F : 0.F;
  StoredTensor<float, Int4Pair> stored(x);
  const reference::Array read = stored.read(number_of, group);
  for (Index token = 0; token < 3; ++token) {
    EXPECT_EQ(simd::Codec<Int4Pair>::finite(&stored.unit(token, 0), 100, stored.scales(token)),
              token == 2);
    for (Index d = 0; d < 100; ++d) {
      const double got = read.values[std::size_t(token * 100 + d)];
      if (token < 2 && d / group == (token == 0 ? 1 : 3))
        EXPECT_TRUE(std::isnan(got)) << token << ' ' << d;
      else
        EXPECT_NEAR(got, token == 2 && d < 32 ? 0 : 1, 1e-6) << token << ' ' << d;
    }
  }
}

TEST(Int4, KeysAndValuesAreReadByForward) {
  expect_forward<Int4Pair, float>(number_of, group);
  expect_forward<Int4Pair, double>(number_of, group);
}

TEST(Int4, KeysAndValuesAreKeptByABuffer) {
  expect_buffer<Int4Pair, float>(number_of, group);
}

/// Behind an odd D there is half a byte of anything.
TEST(Int4, HalfAByteBehindTheLastNumberIsNotRead) {
  for (const Index queries : {1, 20}) {
    const Inputs<float> in = inputs<float>({1, 1, 1, queries, 40, 33, 33}, 4);
    StoredTensor<float, Int4Pair> k(in.k), v(in.v);
    Tensor<float> want(1, 1, queries, 33), got(1, 1, queries, 33);
    forward(in.q, k.argument(), v.argument(), standard, want);
    for (Index token = 0; token < 40; ++token)
      k.unit(token, 16).bits |= 0x70, v.unit(token, 16).bits |= 0xf0;
    forward(in.q, k.argument(), v.argument(), standard, got);
    EXPECT_TRUE(same_bits(got, want));
  }
}

TEST(Int4, NaNStaysWithTheRowsThatSeeIt) {
  expect_no_leak<Int4Pair>(39, [](auto& k, auto& v, Index token) {
    k.scales(token)[1] = v.scales(token)[1] = float(nan);
  });
}

TEST(Int4, OtherShapesAreRefused) {
  const Inputs<float> in = inputs<float>({1, 1, 1, 2, 5, 33, 33}, 4);
  StoredTensor<float, Int4Pair> k(in.k), v(in.v);
  Tensor<float> out(1, 1, 2, 33);
  const auto message = [&](const Quantized<float, Int4Pair>& keys) {
    return message_of<ShapeError>([&] { forward(in.q, keys, v.argument(), standard, out); });
  };
  // Seventeen bytes are 34 numbers, unless D is said.
  EXPECT_EQ(message({k.numbers, k.scale}), "k is [1, 1, 5, 34], q is [1, 1, 2, 33]");
  Tensor<Int4Pair> bytes(1, 1, 5, 16);
  EXPECT_EQ(message({bytes, k.scale, 33}),
            "the numbers of k are [1, 1, 5, 16], should be [1, 1, 5, 17]: 33 numbers per token");
  Tensor<float> scale(1, 1, 5, 1);
  EXPECT_EQ(message({k.numbers, scale, 33}),
            "the scale of k is [1, 1, 5, 1], should be [1, 1, 5, 2]: one scale per group of a "
            "token's numbers");
  EXPECT_EQ(
      message({k.numbers, View<const float, 4>(k.scale.data(), {1, 1, 5, 2}, {10, 10, 1, 5}), 33}),
      "the scale of k has stride 5 along its last dimension, which must be contiguous");
  EXPECT_EQ(message_of<ShapeError>([&] { quantize(in.k, bytes, k.scale); }),
            "numbers is [1, 1, 5, 16], should be [1, 1, 5, 17]: those of x, a row in units");
  EXPECT_EQ(message_of<ShapeError>([&] { quantize(in.k, k.numbers, scale); }),
            "scale is [1, 1, 5, 1], should be [1, 1, 5, 2]: one per group of a token's numbers");
}

}  // namespace
}  // namespace heed::test::int4
