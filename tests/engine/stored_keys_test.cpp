// SPDX-License-Identifier: MIT
// Keys and values that a caller stores in 16 or 8 bits: the same as if they had been widened
// beforehand, bit for bit; but few rows multiply by a token's scale after the product, not before.

#include "heed/engine/quantize.hpp"
#include "heed/engine/weights.hpp"
#include "heed/score/selective.hpp"
#include "support/calls.hpp"

#include <Eigen/Core>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace heed::test {
namespace {

/// A tensor stored as S, token by token with all heads of a token together, and what it holds.
template <class T, class S>
struct Stored {
  Tensor<S> numbers;   // [B, N, G, D]
  Tensor<T, 3> scale;  // [B, N, G]
  Tensor<T> wide;      // [B, G, N, D]

  explicit Stored(const Tensor<T>& x)
      : numbers(x.dimension(0), x.dimension(2), x.dimension(1), x.dimension(3)),
        scale(x.dimension(0), x.dimension(2), x.dimension(1)),
        wide(x) {
    if constexpr (std::is_same_v<S, std::int8_t>) quantize(x, view(), scales());
    for (Index b = 0; b < x.dimension(0); ++b)
      for (Index g = 0; g < x.dimension(1); ++g)
        for (Index j = 0; j < x.dimension(2); ++j)
          for (Index d = 0; d < x.dimension(3); ++d) {
            if constexpr (std::is_same_v<S, std::int8_t>) {
              wide(b, g, j, d) = scale(b, j, g) * T(numbers(b, j, g, d));
            } else {
              numbers(b, j, g, d) = S(x(b, g, j, d));
              wide(b, g, j, d) = T(numbers(b, j, g, d));
            }
          }
  }
  View<S, 4> view() {
    return bnhd(numbers.data(), numbers.dimension(0), numbers.dimension(1), numbers.dimension(2),
                numbers.dimension(3));
  }
  View<T, 3> scales() {
    const Index tokens = scale.dimension(1), heads = scale.dimension(2);
    return {scale.data(), {scale.dimension(0), heads, tokens}, {tokens * heads, 1, heads}};
  }
  auto argument() {
    if constexpr (std::is_same_v<S, std::int8_t>)
      return Quantized{view(), scales()};
    else
      return view();
  }
};

template <class S>
class StoredKeys : public testing::Test {};
using Kinds = testing::Types<Eigen::half, Eigen::bfloat16, std::int8_t>;
TYPED_TEST_SUITE(StoredKeys, Kinds);

template <class S, class T, class Variant>
void expect_as_if_wide(const Shape& shape, const Variant& variant, double amplitude = 1) {
  SCOPED_TRACE(describe(shape));
  Inputs<T> in = inputs<T>(shape, 3, amplitude);
  Stored<T, S> k(in.k), v(in.v);
  Outputs<T> got{in.q, Tensor<T, 3>(shape.batch, shape.heads, shape.queries), {}};
  got.out = Tensor<T>(shape.batch, shape.heads, shape.queries, shape.value_dim);
  got.visited = forward(in.q, k.argument(), v.argument(), variant, got.out, got.lse);
  in.k = k.wide, in.v = v.wide;
  const Outputs<T> want = attend(in, variant);
  if (std::is_same_v<S, std::int8_t> && shape.queries * shape.heads / shape.key_heads <= 12) {
    EXPECT_TRUE(close(got.out, array(want.out)));
    EXPECT_TRUE(close(got.lse, array(want.lse)));
  } else {
    expect_same_bits(got, want);
  }
  EXPECT_EQ(got.visited.pairs, want.visited.pairs);
}

/// Both sides of a register, of a panel and of a key block; one query, a strip, more.
TYPED_TEST(StoredKeys, AreWidenedAndNothingElse) {
  for (const Index queries : {1, 3, 6, 7, 96, 130})
    for (const Index dim : {1, 16, 17, 64}) {
      const Shape s{2, 4, 2, queries, 130, dim, dim + 15};
      expect_as_if_wide<TypeParam, float>(s, causally);
    }
  expect_as_if_wide<TypeParam, double>({1, 2, 1, 40, 70, 20, 8}, causally);
}

/// Rows are read again where masked keys are pruned.
TYPED_TEST(StoredKeys, AreDroppedAsOthersAre) {
  expect_as_if_wide<TypeParam, float>(tokens(700, 16, 4, 2), standard | causal | selective, 3);
}

/// Keys in one form and values in another.
TEST(StoredTokens, MayDiffer) {
  Inputs<float> in = inputs<float>({1, 2, 1, 5, 40, 24, 16}, 4);
  Stored<float, Eigen::bfloat16> k(in.k);
  Stored<float, std::int8_t> v(in.v);
  Tensor<float> out(1, 2, 5, 16);
  forward(in.q, k.argument(), v.argument(), standard, out);
  in.k = k.wide, in.v = v.wide;
  EXPECT_TRUE(close(out, array(attend(in, standard).out)));
}

/// A token, or its scale, may be NaN: rows that do not see it do not notice, though they share its
/// block with rows that do.
TYPED_TEST(StoredKeys, LeakNoNaN) {
  using S = TypeParam;
  constexpr Index dim = 40;
  for (const Index queries : {2, 4, 9, 40}) {
    SCOPED_TRACE(std::to_string(queries) + " queries");
    const Inputs<float> in = inputs<float>({1, 1, 1, queries, 60, dim, dim}, 8);
    Stored<float, S> k(in.k), v(in.v);
    Tensor<float> want(1, 1, queries, dim), got(1, 1, queries, dim);
    forward(in.q, k.argument(), v.argument(), causally, want);
    const Index j = queries / 2;
    for (Index d = 0; d < dim; ++d) {
      if constexpr (std::is_same_v<S, std::int8_t>)
        k.scale(0, j, 0) = v.scale(0, j, 0) = std::numeric_limits<float>::quiet_NaN();
      else
        k.numbers(0, j, 0, d) = v.numbers(0, j, 0, d) = S(std::numeric_limits<float>::quiet_NaN());
    }
    forward(in.q, k.argument(), v.argument(), causally, got);
    for (Index i = 0; i < queries; ++i)
      for (Index d = 0; d < dim; ++d)
        if (i < j)
          EXPECT_NEAR(got(0, 0, i, d), want(0, 0, i, d), 1e-6) << "row " << i;
        else
          EXPECT_TRUE(std::isnan(got(0, 0, i, d))) << "row " << i;
  }
}

/// The weights that forward() used are those it would use again.
TYPED_TEST(StoredKeys, CanBeLookedAt) {
  Inputs<float> in = inputs<float>({1, 2, 1, 20, 30, 16, 16}, 9);
  Stored<float, TypeParam> k(in.k);
  in.k = k.wide;
  const Outputs<float> known = attend(in, causally);
  Tensor<float, 2> got(5, 30), want(5, 30);
  weights(in.q, k.argument(), causally, known.lse, {.head = 1, .row = 10, .rows = 5}, got);
  weights(in.q, in.k, causally, known.lse, {.head = 1, .row = 10, .rows = 5}, want);
  EXPECT_TRUE(same_bits(got, want));
}

/// Half a scale at most.
TEST(Quantize, IsOffByHalfAStep) {
  const Tensor<float> x = normal<float>(5, 1, 2, 30, 40);
  const Stored<float, std::int8_t> stored(x);
  for (Index i = 0; i < x.size(); ++i)
    EXPECT_LE(std::abs(stored.wide.data()[i] - x.data()[i]),
              stored.scale(0, i / 40 % 30, i / 1200) * 0.5001F);
}

TEST(Quantize, RefusesOtherShapes) {
  const Tensor<float> x(1, 2, 3, 4);
  Tensor<std::int8_t> numbers(1, 2, 3, 4), wrong(1, 2, 3, 5);
  Tensor<float, 3> scale(1, 2, 3), few(1, 2, 2);
  EXPECT_EQ(message_of<ShapeError>([&] { quantize(x, wrong, scale); }),
            "numbers is [1, 2, 3, 5], should be [1, 2, 3, 4]: the dimensions of x");
  EXPECT_EQ(message_of<ShapeError>([&] { quantize(x, numbers, few); }),
            "scale is [1, 2, 2], should be [1, 2, 3]: one per token");
  quantize(x, numbers, scale);
  const Tensor<float> q(1, 2, 3, 4);
  Tensor<float> out(1, 2, 3, 4);
  EXPECT_EQ(message_of<ShapeError>([&] {
              forward(q, Quantized<float>{numbers, few}, q, standard, out);
            }),
            "the scale of k is [1, 2, 2], should be [1, 2, 3]: one scale per token");
  EXPECT_EQ(message_of<ShapeError>([&] {
              forward(q, Quantized<float>{numbers, {}}, q, standard, out);
            }),
            "the scale of k is [0, 0, 0], should be [1, 2, 3]: one scale per token");
}

}  // namespace
}  // namespace heed::test
