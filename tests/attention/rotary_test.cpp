// SPDX-License-Identifier: MIT
#include "heed/attention/rotary.hpp"

#include "heed/core/eigen_tensor.hpp"
#include "reference/rotary.hpp"
#include "support/compare.hpp"
#include "support/random.hpp"
#include "support/tensors.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
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

TYPED_TEST(Rotary, ScalesThePositionsItIsGiven) {
  using T = TypeParam;
  const Tensor<T> x = normal<T>(2, 2, 2, 5, 8);
  Tensor<std::int64_t, 2> positions(2, 5);
  positions.setValues({{0, 3, 4, 90, 91}, {7, 7, 0, -1, 12}});
  reference::Array scaled = array(positions);
  for (double& p : scaled.values) p *= 0.25;
  Tensor<T> turned = x;
  RotaryOptions options;
  options.positions = positions;
  options.scale = 0.25;
  rotary(turned, options);
  EXPECT_TRUE(close(turned, reference::rotary(array(x), scaled)));
}

/// Whatever part of it lies in whole registers.
TYPED_TEST(Rotary, TurnsAnyNumberOfPairs) {
  using T = TypeParam;
  for (Index dims = 2; dims <= 80; dims += 2)
    for (const bool interleaved : {false, true}) {
      const Tensor<T> x = normal<T>(std::uint64_t(dims), 1, 2, 3, dims + 3);
      Tensor<T> turned = x;
      RotaryOptions options;
      options.pairs = interleaved ? RotaryOptions::interleaved : RotaryOptions::half_split;
      options.dims = dims;
      options.offset = -1;
      rotary(turned, options);
      EXPECT_TRUE(close(
          turned, reference::rotary(array(x), in_order(1, 3, -1), {10000, dims, interleaved})))
          << dims << ' ' << interleaved;
    }
}

TYPED_TEST(Rotary, CountsEachSequenceFromItsOwnOffset) {
  using T = TypeParam;
  const Tensor<T> x = normal<T>(9, 3, 2, 40, 8);
  Tensor<std::int64_t, 1> offsets(3);
  offsets.setValues({0, -7, 4095});
  reference::Array positions({3, 40});
  for (Index b = 0; b < 3; ++b)
    for (Index n = 0; n < 40; ++n) positions(b, n) = double(offsets(b) + n);
  Tensor<T> turned = x;
  RotaryOptions options;
  options.offsets = offsets;
  rotary(turned, options);
  EXPECT_TRUE(close(turned, reference::rotary(array(x), positions)));
}

/// A key that is turned when it comes is the key that is turned with its text.
TYPED_TEST(Rotary, DependsOnThePositionAlone) {
  using T = TypeParam;
  const Index n = 200;
  const Tensor<T> x = normal<T>(10, 1, 2, n, 24);
  for (const Index start : {0, 1, 8191, -100}) {
    Tensor<T> whole = x;
    RotaryOptions options;
    options.offset = start;
    rotary(whole, options);
    for (const Index part : {1, 7, 64}) {
      Tensor<T> parts = x;
      for (Index first = 0; first < n; first += part) {
        options.offset = start + first;
        rotary(View<T, 4>(&parts(0, 0, first, 0), {1, 2, std::min(part, n - first), 24},
                          {2 * n * 24, n * 24, 24, 1}),
               options);
      }
      EXPECT_TRUE(same_bits(parts, whole)) << start << ' ' << part;
    }
  }
}

TYPED_TEST(Rotary, TurnsTensorsOfAnyLayout) {
  using T = TypeParam;
  // Queries in the middle of [B, N, 3, H, D], and tokens from the last to the first.
  const Index batch = 2, heads = 3, tokens = 5, dim = 8;
  std::vector<T> packed(std::size_t(batch * tokens * 3 * heads * dim), T(7));
  const View<T, 4> view(packed.data() + heads * dim + (tokens - 1) * 3 * heads * dim,
                        {batch, heads, tokens, dim},
                        {tokens * 3 * heads * dim, dim, -3 * heads * dim, 1});
  const Tensor<T> x = normal<T>(11, batch, heads, tokens, dim);
  const auto each = [&](auto&& visit) {
    for (Index b = 0; b < batch; ++b)
      for (Index h = 0; h < heads; ++h)
        for (Index n = 0; n < tokens; ++n)
          for (Index d = 0; d < dim; ++d) visit(b, h, n, d);
  };
  each([&](Index b, Index h, Index n, Index d) { view(b, h, n, d) = x(b, h, n, d); });
  rotary(view);
  Tensor<T> turned = x;
  rotary(turned);
  each([&](Index b, Index h, Index n, Index d) {
    EXPECT_EQ(view(b, h, n, d), turned(b, h, n, d));
    view(b, h, n, d) = 7;
  });
  for (const T number : packed) EXPECT_EQ(number, T(7));
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
  options.dims = -2;
  EXPECT_THROW(rotary(x, options), ValueError);
  EXPECT_THROW(rotary(odd), ValueError);
  Tensor<std::int64_t, 2> positions(1, 4);
  positions.setZero();
  options.dims = 0;
  options.positions = positions;
  EXPECT_THROW(rotary(x, options), ShapeError);
  EXPECT_TRUE(same_bits(x, before));
}

TYPED_TEST(Rotary, RefusesNumbersOutOfTheirDomain) {
  using T = TypeParam;
  Tensor<T> x = normal<T>(12, 2, 1, 4, 6);
  const Tensor<T> before = x;
  const double nan = std::numeric_limits<double>::quiet_NaN(),
               infinity = std::numeric_limits<double>::infinity();
  const auto refuses = [&](auto&& change) {
    RotaryOptions options;
    change(options);
    EXPECT_THROW(rotary(x, options), ValueError);
  };
  for (const double wrong : {0., -1., nan, infinity, -infinity})
    refuses([&](RotaryOptions& o) { o.base = wrong; });
  for (const double wrong : {nan, infinity, -infinity})
    refuses([&](RotaryOptions& o) { o.scale = wrong; });
  constexpr Index most = std::numeric_limits<Index>::max(), furthest = Index(1) << 53;
  for (const Index wrong : {most, most - 3, most - 4, furthest - 2, -furthest - 1, -most - 1})
    refuses([&](RotaryOptions& o) { o.offset = wrong; });
  Tensor<std::int64_t, 1> offsets(2), other(3);
  other.setZero();
  for (const Index wrong : {most, furthest, -furthest - 1}) {
    offsets.setValues({0, wrong});
    refuses([&](RotaryOptions& o) { o.offsets = offsets; });
  }
  offsets.setZero();
  EXPECT_THROW(rotary(x, {.offsets = other}), ShapeError);
  Tensor<std::int64_t, 2> positions(2, 4);
  for (const Index wrong : {furthest + 1, most, -furthest - 1}) {
    positions.setZero();
    positions(1, 3) = wrong;
    refuses([&](RotaryOptions& o) { o.positions = positions; });
  }
  positions.setZero();
  // One says where tokens stand.
  refuses([&](RotaryOptions& o) { o.positions = positions, o.offsets = offsets; });
  refuses([&](RotaryOptions& o) { o.positions = positions, o.offset = 1; });
  refuses([&](RotaryOptions& o) { o.offsets = offsets, o.offset = 1; });
  refuses([&](RotaryOptions& o) { o.positions = View<const std::int64_t, 2>(nullptr, {2, 4}); });
  refuses([&](RotaryOptions& o) { o.scaling = LinearRotary{0}; });
  refuses([&](RotaryOptions& o) { o.scaling = GivenRotary{{}, -1}; });
  EXPECT_TRUE(same_bits(x, before));
  Tensor<T> last = x;
  EXPECT_NO_THROW(rotary(last, {.offset = furthest - 3}));
  EXPECT_TRUE(finite(last));
}

TYPED_TEST(Rotary, RefusesTensorsThatCannotBeChangedInPlace) {
  using T = TypeParam;
  std::vector<T> numbers(64, T(3));
  T* const p = numbers.data();
  const auto shape = [&](const View<T, 4>& x) { EXPECT_THROW(rotary(x), ShapeError); };
  shape({p, {1, 1, 2, 4}, {8, 8, 1, 2}});    // rows with gaps
  shape({p, {2, 1, 2, 4}, {0, 8, 4, 1}});    // a broadcast sequence
  shape({p, {1, 2, 2, 4}, {16, 0, 4, 1}});   // a broadcast head
  shape({p, {1, 1, 3, 4}, {16, 16, 2, 1}});  // rows that overlap
  shape({p, {1, 2, 3, 4}, {16, 8, 4, 1}});   // heads that overlap
  shape({p, {1, 2, 3, 4}, {16, 3, 8, 1}});   // heads within one row
  shape({p, {1, -1, 3, 4}});                 // a negative size
  constexpr Index most = std::numeric_limits<Index>::max();
  shape({p, {1, 2, 3, 4}, {16, most / 2, 4, 1}});
  shape({p, {most, most, 3, 4}, {most, most, 4, 1}});
  shape({nullptr, {most, most, 0, 2}});  // sizes that no memory holds, as in any other call
  EXPECT_THROW(rotary(View<T, 4>(nullptr, {1, 1, 1, 2})), ValueError);
  for (const T number : numbers) EXPECT_EQ(number, T(3));
  // Nothing to do is no fault.
  EXPECT_NO_THROW(rotary(View<T, 4>(nullptr, {1, 1, 0, 2})));
  EXPECT_NO_THROW(rotary(View<T, 4>(nullptr, {0, 1, 4, 2})));
}

TEST(RotaryPositionsInX, AreRefused) {
  // What is read while x is written.
  double memory[16] = {};
  const View<double, 4> x(memory, {1, 1, 4, 4});
  const View<const std::int64_t, 2> positions(
      static_cast<const std::int64_t*>(static_cast<const void*>(memory)), {1, 4});
  EXPECT_THROW(rotary(x, {.positions = positions}), ShapeError);
}

}  // namespace
}  // namespace heed::test
