// SPDX-License-Identifier: MIT
#include "heed/simd/pack.hpp"

#include "support/calls.hpp"

#include <gtest/gtest.h>

#include <limits>
#include <vector>

namespace heed::test {
namespace {

template <class T>
class Packing : public testing::Test {
 protected:
  static constexpr T untouched = T(-777);

  static std::vector<T> numbers(std::uint64_t seed, Index count) {
    Random random(seed);
    std::vector<T> x;
    for (Index i = 0; i < count; ++i) x.push_back(T(random.normal()));
    return x;
  }
  static T factor(Index row) { return T(1) + T(row) / T(4); }
};
TYPED_TEST_SUITE(Packing, Scalars, ScalarName);

/// Any number of rows and columns, the rows anywhere.
TYPED_TEST(Packing, LaysRowsSideBySide) {
  using T = TypeParam;
  for (const Index width : {1, 4, 6, 12, 16, 32})
    for (const Index dim : {1, 2, 7, 15, 16, 17, 33, 64, 100})
      for (Index rows = 0; rows <= width; ++rows) {
        const Index stride = dim + 3;
        const std::vector<T> x = this->numbers(1, 2 * width * stride);
        std::vector<T> out(std::size_t(dim * width) + 1, this->untouched);
        simd::pack_panel([&](Index r) { return x.data() + (2 * r + 1) * stride; }, rows, dim, width,
                         this->factor, out.data());
        for (Index d = 0; d < dim; ++d)
          for (Index r = 0; r < width; ++r)
            ASSERT_EQ(out[std::size_t(d * width + r)],
                      r < rows ? this->factor(r) * x[std::size_t((2 * r + 1) * stride + d)] : T(0))
                << rows << " rows of " << dim << " in " << width << ": " << r << ' ' << d;
        ASSERT_EQ(out.back(), this->untouched);
      }
}

TYPED_TEST(Packing, PadsRows) {
  using T = TypeParam;
  for (const Index dim : {0, 1, 5, 16, 17})
    for (const Index rows : {0, 1, 4})
      for (const Index padding : {0, 1, 15}) {
        const Index stride = dim + 2, out_stride = dim + padding;
        const std::vector<T> x = this->numbers(2, rows * stride + 1);
        std::vector<T> out(std::size_t(rows * out_stride) + 1, this->untouched);
        simd::pack_rows(x.data(), stride, rows, dim, this->factor, out.data(), out_stride);
        for (Index r = 0; r < rows; ++r)
          for (Index d = 0; d < out_stride; ++d)
            ASSERT_EQ(out[std::size_t(r * out_stride + d)],
                      d < dim ? this->factor(r) * x[std::size_t(r * stride + d)] : T(0));
        ASSERT_EQ(out.back(), this->untouched);
      }
}

// ---- is it finite?

TYPED_TEST(Packing, FindsWhatIsNotFiniteWhereverItStands) {
  using T = TypeParam;
  using Limits = std::numeric_limits<T>;
  const Index stride = 23;
  for (const Index dim : {1, 2, 15, 16, 17, 20}) {
    const Index rows = 5;
    std::vector<T> x = this->numbers(3, rows * stride);
    EXPECT_TRUE(simd::all_finite(x.data(), stride, rows, dim));
    for (Index at = 0; at < rows * stride; ++at)
      for (const T bad : {Limits::quiet_NaN(), -Limits::quiet_NaN(), Limits::signaling_NaN(),
                          Limits::infinity(), -Limits::infinity()}) {
        const T before = x[std::size_t(at)];
        x[std::size_t(at)] = bad;
        // Between the rows it is not looked at.
        ASSERT_EQ(simd::all_finite(x.data(), stride, rows, dim), at % stride >= dim)
            << bad << " at " << at << " of rows of " << dim;
        x[std::size_t(at)] = before;
      }
  }
}

TYPED_TEST(Packing, TakesTheLargestAndTheSmallestForFinite) {
  using T = TypeParam;
  using Limits = std::numeric_limits<T>;
  std::vector<T> x(33, T(0));
  for (Index at = 0; at < 33; ++at)
    for (const T fine : {Limits::max(), Limits::lowest(), Limits::min(), Limits::denorm_min(),
                         -Limits::denorm_min(), T(-0.)}) {
      x[std::size_t(at)] = fine;
      EXPECT_TRUE(simd::all_finite(x.data(), 33, 1, 33)) << fine << " at " << at;
      x[std::size_t(at)] = 0;
    }
}

TYPED_TEST(Packing, TakesNothingForFinite) {
  const TypeParam nan = std::numeric_limits<TypeParam>::quiet_NaN();
  EXPECT_TRUE(simd::all_finite(&nan, 1, 0, 1));
  EXPECT_TRUE(simd::all_finite(&nan, 1, 1, 0));
}

}  // namespace
}  // namespace heed::test
