// SPDX-License-Identifier: MIT
// Keys and values that a caller stores in 16 or 8 bits: the same as if they had been widened
// beforehand, bit for bit; but few rows multiply by a token's scale after the product, not before.

#include "heed/engine/quantize.hpp"
#include "heed/score/causal.hpp"
#include "heed/score/selective.hpp"
#include "support/calls.hpp"

#include <Eigen/Core>
#include <gtest/gtest.h>

namespace heed::test {
namespace {

/// A tensor stored as S, and what it holds.
template <class T, class S>
struct Stored {
  Tensor<S> numbers;
  Tensor<T, 3> scale;
  Tensor<T> wide;

  explicit Stored(const Tensor<T>& x)
      : numbers(x.dimensions()), scale(x.dimension(0), x.dimension(1), x.dimension(2)), wide(x) {
    const Index dim = x.dimension(3);
    if constexpr (std::is_same_v<S, std::int8_t>) quantize(x, numbers, scale);
    for (Index i = 0; i < x.size(); ++i) {
      if constexpr (std::is_same_v<S, std::int8_t>) {
        wide.data()[i] = scale.data()[i / dim] * T(numbers.data()[i]);
      } else {
        numbers.data()[i] = S(x.data()[i]);
        wide.data()[i] = T(numbers.data()[i]);
      }
    }
  }
  auto argument() const {
    if constexpr (std::is_same_v<S, std::int8_t>)
      return Quantized<T>{numbers, scale};
    else
      return View<const S, 4>(numbers);
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
  const Stored<T, S> k(in.k), v(in.v);
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

/// Rows are read again where dead keys are left out.
TYPED_TEST(StoredKeys, AreDroppedAsOthersAre) {
  expect_as_if_wide<TypeParam, float>(tokens(700, 16, 4, 2), standard | causal | selective, 3);
}

/// Keys in one form and values in another.
TEST(StoredTokens, MayDiffer) {
  Inputs<float> in = inputs<float>({1, 2, 1, 5, 40, 24, 16}, 4);
  const Stored<float, Eigen::bfloat16> k(in.k);
  const Stored<float, std::int8_t> v(in.v);
  Tensor<float> out(1, 2, 5, 16);
  forward(in.q, k.argument(), v.argument(), standard, out);
  in.k = k.wide, in.v = v.wide;
  EXPECT_TRUE(close(out, array(attend(in, standard).out)));
}

/// Half a scale at most.
TEST(Quantize, IsOffByHalfAStep) {
  const Tensor<float> x = normal<float>(5, 1, 2, 30, 40);
  const Stored<float, std::int8_t> stored(x);
  for (Index i = 0; i < x.size(); ++i)
    EXPECT_LE(std::abs(stored.wide.data()[i] - x.data()[i]), stored.scale.data()[i / 40] * 0.5001F);
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
}

}  // namespace
}  // namespace heed::test
