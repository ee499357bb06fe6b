// SPDX-License-Identifier: MIT
#include "heed/attention/rotary.hpp"

#include "heed/core/eigen_tensor.hpp"
#include "reference/rotary.hpp"
#include "support/compare.hpp"
#include "support/random.hpp"
#include "support/tensors.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <vector>

namespace heed::test {
namespace {

/// 0, 1, 2, … from `offset`, times `scale`, for every batch entry.
reference::Array in_order(Index batch, Index tokens, double offset = 0, double scale = 1) {
  reference::Array p({batch, tokens});
  for (Index b = 0; b < batch; ++b)
    for (Index n = 0; n < tokens; ++n) p(b, n) = scale * (offset + double(n));
  return p;
}

template <class T>
double dot(const Tensor<T>& a, Index i, const Tensor<T>& b, Index j) {
  double sum = 0;
  for (Index d = 0; d < a.dimension(3); ++d) sum += double(a(0, 0, i, d)) * double(b(0, 0, j, d));
  return sum;
}

template <class T>
class Rotary : public testing::Test {};
using Scalars = testing::Types<float, double>;
TYPED_TEST_SUITE(Rotary, Scalars);

TYPED_TEST(Rotary, TurnsAPairByItsPosition) {
  using T = TypeParam;
  Tensor<T> x(1, 1, 3, 2);
  x.setValues({{{{1, 0}, {1, 0}, {0, 1}}}});
  rotary(x);
  EXPECT_NEAR(x(0, 0, 0, 0), 1, tolerance<T>);
  EXPECT_NEAR(x(0, 0, 0, 1), 0, tolerance<T>);
  EXPECT_NEAR(x(0, 0, 1, 0), std::cos(1.), tolerance<T>);
  EXPECT_NEAR(x(0, 0, 1, 1), std::sin(1.), tolerance<T>);
  EXPECT_NEAR(x(0, 0, 2, 0), -std::sin(2.), tolerance<T>);
  EXPECT_NEAR(x(0, 0, 2, 1), std::cos(2.), tolerance<T>);
}

TYPED_TEST(Rotary, MatchesTheOracleForEitherPairing) {
  using T = TypeParam;
  const Tensor<T> x = normal<T>(1, 2, 3, 40, 16);
  for (const bool interleaved : {false, true})
    for (const Index dims : {0, 2, 8, 16})
      for (const double base : {100., 10000., 500000.}) {
        Tensor<T> turned = x;
        rotary(turned,
               {.pairs = interleaved ? RotaryOptions::interleaved : RotaryOptions::half_split,
                .base = base,
                .dims = dims,
                .offset = 0,
                .scale = 1,
                .inverse = false,
                .positions = {}});
        EXPECT_TRUE(
            close(turned, reference::rotary(array(x), in_order(2, 40), {base, dims, interleaved})))
            << interleaved << ' ' << dims << ' ' << base;
      }
}

TYPED_TEST(Rotary, CountsFromAnOffsetInAnyScale) {
  using T = TypeParam;
  const Tensor<T> x = normal<T>(2, 1, 2, 20, 8);
  Tensor<T> turned = x;
  RotaryOptions options;
  options.offset = 1000;
  options.scale = 0.25;
  rotary(turned, options);
  EXPECT_TRUE(close(turned, reference::rotary(array(x), in_order(1, 20, 1000, 0.25))));
}

/// As a pruned cache needs them: any position for any token.
TYPED_TEST(Rotary, TakesThePositionOfEachToken) {
  using T = TypeParam;
  const Tensor<T> x = normal<T>(3, 2, 2, 5, 8);
  Tensor<std::int64_t, 2> positions(2, 5);
  positions.setValues({{0, 3, 4, 90, 91}, {7, 7, 0, 1, 123456}});
  Tensor<T> turned = x;
  RotaryOptions options;
  options.positions = positions;
  rotary(turned, options);
  EXPECT_TRUE(close(turned, reference::rotary(array(x), array(positions))));
}

TYPED_TEST(Rotary, LeavesProductsToTheDistanceAlone) {
  using T = TypeParam;
  const Index n = 30;
  const Tensor<T> one_q = normal<T>(4, 1, 1, 1, 16), one_k = normal<T>(5, 1, 1, 1, 16);
  const Eigen::array<Index, 4> repeat{1, 1, n, 1};
  Tensor<T> q = one_q.broadcast(repeat), k = one_k.broadcast(repeat);
  rotary(q);
  rotary(k);
  for (Index i = 5; i < n; ++i)
    EXPECT_NEAR(dot(q, i, k, i - 5), dot(q, 5, k, 0), 16 * tolerance<T>) << i;
  EXPECT_GT(std::abs(dot(q, 5, k, 0) - dot(q, 9, k, 0)), 1e-3);  // or nothing turned
}

TYPED_TEST(Rotary, TurnsBack) {
  using T = TypeParam;
  const Tensor<T> x = normal<T>(6, 1, 2, 20, 12);
  Tensor<T> y = x;
  RotaryOptions options;
  options.offset = 77;
  rotary(y, options);
  EXPECT_FALSE(close(y, x, 1e-3));
  options.inverse = true;
  rotary(y, options);
  EXPECT_TRUE(close(y, x));
}

TYPED_TEST(Rotary, LeavesNumbersBehindThoseThatTurnAlone) {
  using T = TypeParam;
  const Tensor<T> x = normal<T>(7, 1, 1, 9, 10);
  Tensor<T> y = x;
  RotaryOptions options;
  options.dims = 6;
  rotary(y, options);
  for (Index n = 0; n < 9; ++n)
    for (Index d = 6; d < 10; ++d) EXPECT_EQ(y(0, 0, n, d), x(0, 0, n, d));
}

TYPED_TEST(Rotary, RefusesOddOrMissingNumbersAndOtherPositions) {
  using T = TypeParam;
  Tensor<T> x = normal<T>(8, 2, 1, 4, 6), odd = normal<T>(8, 1, 1, 4, 5);
  const Tensor<T> before = x;
  RotaryOptions options;
  options.dims = 3;
  EXPECT_THROW(rotary(x, options), ValueError);
  options.dims = 8;
  EXPECT_THROW(rotary(x, options), ValueError);
  EXPECT_THROW(rotary(odd), ValueError);
  Tensor<std::int64_t, 2> positions(1, 4);
  positions.setZero();
  options.dims = 0;
  options.positions = positions;
  EXPECT_THROW(rotary(x, options), ShapeError);
  EXPECT_TRUE(same_bits(x, before));
}

}  // namespace
}  // namespace heed::test
