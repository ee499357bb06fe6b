// SPDX-License-Identifier: MIT
#include "heed/simd/batch.hpp"

#include "support/calls.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <vector>

namespace heed::test {
namespace {

template <class T>
class Registers : public testing::Test {
 protected:
  static constexpr Index width = simd::width<T>;
  static constexpr T infinity = std::numeric_limits<T>::infinity();
  static constexpr T nan = std::numeric_limits<T>::quiet_NaN();

  static std::vector<T> lanes(const simd::Batch<T>& x) {
    std::vector<T> values(std::size_t(width), T(0));
    x.store_unaligned(values.data());
    return values;
  }
  static std::vector<bool> lanes_set(const simd::Mask<T>& m) {
    const std::vector<T> values =
        lanes(simd::select(m, simd::Batch<T>(T(1)), simd::Batch<T>(T(0))));
    return {values.begin(), values.end()};
  }
  /// x in one lane, `rest` in the others.
  static simd::Batch<T> with_lane(Index lane, T x, T rest) {
    std::vector<T> values(std::size_t(width), rest);
    values[std::size_t(lane)] = x;
    return simd::load(values.data());
  }
};
TYPED_TEST_SUITE(Registers, Scalars, ScalarName);

TYPED_TEST(Registers, CountTheirLanes) {
  using T = TypeParam;
  for (Index i = 0; i < this->width; ++i)
    EXPECT_EQ(this->lanes(simd::iota<T>())[std::size_t(i)], T(i));
}

TYPED_TEST(Registers, AreUnzippedAndZipped) {
  using T = TypeParam;
  std::vector<T> x(std::size_t(2 * this->width));
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = T(i);
  const simd::BatchPair<T> apart =
      simd::unzip(simd::BatchPair<T>{simd::load(x.data()), simd::load(x.data() + this->width)});
  const simd::BatchPair<T> together = simd::zip(apart);
  for (Index i = 0; i < this->width; ++i) {
    EXPECT_EQ(this->lanes(apart.first)[std::size_t(i)], T(2 * i));
    EXPECT_EQ(this->lanes(apart.second)[std::size_t(i)], T(2 * i + 1));
    EXPECT_EQ(this->lanes(together.first)[std::size_t(i)], T(i));
    EXPECT_EQ(this->lanes(together.second)[std::size_t(i)], T(this->width + i));
  }
}

TYPED_TEST(Registers, SumTheLanesOfAsManyRegisters) {
  using T = TypeParam;
  std::vector<simd::Batch<T>> rows;
  std::vector<T> numbers(std::size_t(this->width), T(0));
  for (Index i = 0; i < this->width; ++i) {
    for (Index lane = 0; lane < this->width; ++lane)
      numbers[std::size_t(lane)] = T((i * 31 + lane * 17) % 23);
    rows.push_back(simd::load(numbers.data()));
  }
  const std::vector<T> sums = this->lanes(simd::sums_of(rows.data()));
  for (Index i = 0; i < this->width; ++i) {
    T sum = 0;
    for (Index lane = 0; lane < this->width; ++lane) sum += T((i * 31 + lane * 17) % 23);
    EXPECT_EQ(sums[std::size_t(i)], sum) << i;
  }
}

/// The array ends with the last number read, so that a sanitizer sees any more.
TYPED_TEST(Registers, LoadTheFirstFewAndReadNothingBehindThem) {
  using T = TypeParam;
  for (Index count = 0; count <= this->width + 1; ++count) {
    const std::unique_ptr<T[]> numbers(new T[std::size_t(count)]);
    for (Index i = 0; i < count; ++i) numbers[std::size_t(i)] = T(10 + i);
    const std::vector<T> got = this->lanes(simd::load_first(numbers.get(), count, T(-1)));
    for (Index i = 0; i < this->width; ++i)
      EXPECT_EQ(got[std::size_t(i)], i < count ? T(10 + i) : T(-1)) << count << ' ' << i;
  }
}

TYPED_TEST(Registers, MarkTheLanesBetweenAnyTwoIntegers) {
  using T = TypeParam;
  const Index far = std::numeric_limits<Index>::max() / 2;
  std::vector<Index> ends{-far, -1000, far, 1000};
  for (Index i = -3; i <= this->width + 3; ++i) ends.push_back(i);
  for (const Index first : ends)
    for (const Index last : ends) {
      const std::vector<bool> got = this->lanes_set(simd::lanes_between<T>(first, last));
      for (Index i = 0; i < this->width; ++i)
        ASSERT_EQ(got[std::size_t(i)], first <= i && i < last) << first << ' ' << last << ' ' << i;
    }
}

/// Of all numbers −∞ alone, and not by comparing: neither the lowest, nor NaN, nor the other one.
TYPED_TEST(Registers, FindMinusInfinity) {
  using T = TypeParam;
  using Limits = std::numeric_limits<T>;
  for (const T x : {-this->infinity, this->infinity, this->nan, -this->nan, Limits::lowest(),
                    Limits::max(), T(0), T(-0.), T(1), -Limits::denorm_min()})
    for (Index lane = 0; lane < this->width; ++lane) {
      const std::vector<T> got = this->lanes(simd::where_minus_infinity(
          this->with_lane(lane, x, T(2)), T(5), this->with_lane(lane, T(7), T(8))));
      for (Index i = 0; i < this->width; ++i)
        ASSERT_EQ(got[std::size_t(i)], i != lane              ? T(8)
                                       : x == -this->infinity ? T(5)
                                                              : T(7))
            << x << " in lane " << lane << ", lane " << i;
    }
}

/// A masked number may be −∞, and one that is not masked may be NaN.
TYPED_TEST(Registers, PutAnythingWhereMinusInfinityWas) {
  using T = TypeParam;
  const simd::Batch<T> x = this->with_lane(0, -this->infinity, T(1));
  EXPECT_EQ(this->lanes(simd::where_minus_infinity(x, -this->infinity, x))[0], -this->infinity);
  const simd::Batch<T> mostly_nan = this->with_lane(0, T(3), this->nan);
  const std::vector<T> got = this->lanes(simd::where_minus_infinity(x, T(4), mostly_nan));
  EXPECT_EQ(got[0], T(4));
  for (Index i = 1; i < this->width; ++i) EXPECT_TRUE(std::isnan(got[std::size_t(i)]));
}

TYPED_TEST(Registers, SumTheirLanes) {
  using T = TypeParam;
  EXPECT_EQ(simd::reduce_add(simd::iota<T>()), T(this->width * (this->width - 1) / 2));
  for (Index lane = 0; lane < this->width; ++lane)
    EXPECT_EQ(simd::reduce_add(this->with_lane(lane, T(100), T(1))), T(100 + this->width - 1));
}

TYPED_TEST(Registers, FindTheirLargestLane) {
  using T = TypeParam;
  for (Index lane = 0; lane < this->width; ++lane) {
    EXPECT_EQ(simd::reduce_max(this->with_lane(lane, T(3), T(-7))), T(3));
    EXPECT_EQ(simd::reduce_max(this->with_lane(lane, T(-7), -this->infinity)), T(-7));
    EXPECT_EQ(simd::reduce_max(this->with_lane(lane, this->infinity, T(-7))), this->infinity);
  }
  EXPECT_EQ(simd::reduce_max(simd::Batch<T>(-this->infinity)), -this->infinity);
}

/// The arithmetic kernels rely on, lane by lane.
TYPED_TEST(Registers, ComputeLaneByLane) {
  using T = TypeParam;
  const std::size_t n = std::size_t(this->width);
  const Tensor<T, 1> x = normal<T>(1, this->width), y = normal<T>(2, this->width),
                     z = normal<T>(3, this->width);
  const simd::Batch<T> a = simd::load(x.data()), b = simd::load(y.data()), c = simd::load(z.data());
  const std::vector<T> fused = this->lanes(simd::fma(a, b, c)),
                       largest = this->lanes(simd::max(a, b)), least = this->lanes(simd::min(a, b)),
                       tanh = this->lanes(simd::tanh(a)), log = this->lanes(simd::log2(a * a));
  const std::vector<bool> less = this->lanes_set(a < b), at_most = this->lanes_set(a <= a);
  for (std::size_t i = 0; i < n; ++i) {
    const double p = double(x.data()[i]), q = double(y.data()[i]), r = double(z.data()[i]);
    EXPECT_NEAR(fused[i], p * q + r, tolerance<T>);
    EXPECT_EQ(largest[i], T(std::max(p, q)));
    EXPECT_EQ(least[i], T(std::min(p, q)));
    EXPECT_NEAR(tanh[i], std::tanh(p), tolerance<T>);
    EXPECT_NEAR(log[i], std::log2(p * p), tolerance<T> * 10);
    EXPECT_EQ(less[i], p < q);
    EXPECT_TRUE(at_most[i]);
  }
  EXPECT_TRUE(simd::any(simd::lanes_between<T>(this->width - 1, this->width)));
  EXPECT_FALSE(simd::any(simd::lanes_between<T>(0, 0)));
}

}  // namespace
}  // namespace heed::test
