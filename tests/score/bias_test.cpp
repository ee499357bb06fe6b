// SPDX-License-Identifier: MIT
#include "heed/score/bias.hpp"

#include "heed/engine/backward.hpp"
#include "heed/score/causal.hpp"
#include "heed/score/score_rule.hpp"
#include "heed/score/standard.hpp"
#include "heed/score/when.hpp"
#include "reference/backward.hpp"
#include "support/calls.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>

namespace heed::test {
namespace {

template <class T>
class Biases : public testing::Test {
 protected:
  static constexpr T inf = std::numeric_limits<T>::infinity();
  static constexpr T lowest = std::numeric_limits<T>::lowest();

  auto variant(const View<const T, 4>& values, double scale, bool causal_ = false) const {
    return scaled(scale) | bias(values) | when(causal_, causal);
  }
};
TYPED_TEST_SUITE(Biases, Scalars, ScalarName);

TYPED_TEST(Biases, AreAddedToScores) {
  using T = TypeParam;
  const auto in = with_scores<T>({{0, 1, 2}, {2, 1, 0}});
  Tensor<T> values(1, 1, 2, 3);
  values.setValues({{{{2, 1, 0}, {T(std::log(4.)) - 2, -1, 0}}}});
  EXPECT_TRUE(shows(attend(in, this->variant(values, 1)),
                    {{1 / 3., 1 / 3., 1 / 3.}, {4 / 6., 1 / 6., 1 / 6.}}));
}

/// All sixteen ways to broadcast, at sizes with a tail.
TYPED_TEST(Biases, BroadcastAlongSizesOfOne) {
  using T = TypeParam;
  const Shape s{2, 3, 1, 21, 45, 8, 8};
  const Inputs<T> in = inputs<T>(s, 1);
  for (const Index b : {Index(1), s.batch})
    for (const Index h : {Index(1), s.heads})
      for (const Index i : {Index(1), s.queries})
        for (const Index j : {Index(1), s.keys}) {
          SCOPED_TRACE(testing::Message() << b << ' ' << h << ' ' << i << ' ' << j);
          const Tensor<T> values = normal<T>(7, b, h, i, j);
          reference::Rules rules;
          rules.scale = 0.35;
          rules.bias = array(values);
          expect_oracle(in, this->variant(values, 0.35), rules);
        }
}

TYPED_TEST(Biases, MayBeStridedEvenAlongKeys) {
  using T = TypeParam;
  const Inputs<T> in = inputs<T>(Shape{1, 2, 1, 13, 37, 8, 8}, 2);
  Tensor<T> across = normal<T>(3, 1, 2, 37, 13);  // keys before queries
  const View<const T, 4> turned(across.data(), {1, 2, 13, 37}, {2 * 37 * 13, 37 * 13, 1, 13});
  const Eigen::array<int, 4> swap{0, 1, 3, 2};
  const Tensor<T> values = across.shuffle(swap);
  expect_same_bits(attend(in, this->variant(turned, 0.35)),
                   attend(in, this->variant(values, 0.35)));
}

TYPED_TEST(Biases, OfMinusInfinityHideAKey) {
  using T = TypeParam;
  const Shape s{1, 2, 2, 30, 150, 8, 8};
  const Inputs<T> in = inputs<T>(s, 3);
  Tensor<T> values = normal<T>(4, 1, 2, 30, 150);
  Random random(5);
  for (Index i = 0; i < values.size(); ++i)
    if (random.uniform() < 0.4) values.data()[i] = -TestFixture::inf;
  for (Index j = 0; j < 128; ++j) values(0, 0, 7, j) = -TestFixture::inf;  // a block and more
  for (Index j = 0; j < 150; ++j) values(0, 1, 9, j) = -TestFixture::inf;  // a whole row
  reference::Rules rules;
  rules.scale = 0.35;
  rules.bias = array(values);
  const Outputs<T> got = attend(in, this->variant(values, 0.35));
  expect_close(got, oracle(in, rules));
  for (Index d = 0; d < 8; ++d) EXPECT_EQ(got.out(0, 1, 9, d), T(0));
  EXPECT_EQ(got.lse(0, 1, 9), -TestFixture::inf);
}

TYPED_TEST(Biases, OfMinusInfinityEverywhereLeaveNothing) {
  using T = TypeParam;
  const Inputs<T> in = inputs<T>(tokens(140, 8, 2, 1), 4);
  Tensor<T> values(1, 1, 1, 1);
  values.setConstant(-TestFixture::inf);
  const Outputs<T> got = attend(in, this->variant(values, 0.35));
  const Tensor<T> nothing = zeros<T, 4>({1, 2, 140, 8});
  EXPECT_TRUE(same_bits(got.out, nothing));
  EXPECT_EQ(got.lse(0, 1, 139), -TestFixture::inf);
}

/// −max is a number: alone it still shares the row, beside an ordinary score it weighs nothing.
TYPED_TEST(Biases, OfTheLowestNumberDoNotHide) {
  using T = TypeParam;
  for (const T low : {TestFixture::lowest, TestFixture::lowest / 2, T(-1e30), T(-1e9)}) {
    SCOPED_TRACE(low);
    const auto in = with_scores<T>({{0, 0, 0, 0}, {0, 0, 0, 0}, {0, 0, 0, 0}});
    Tensor<T> values(1, 1, 3, 4);
    values.setValues({{{{low, low, low, low},
                        {low, 0, low, low},
                        {-TestFixture::inf, low, low, -TestFixture::inf}}}});
    const Outputs<T> got = attend(in, this->variant(values, 1));
    EXPECT_TRUE(shows(got, {{.25, .25, .25, .25}, {0, 1, 0, 0}, {0, .5, .5, 0}}));
    EXPECT_TRUE(finite(got.lse));
    EXPECT_LE(got.lse(0, 0, 0), low / 8);
  }
}

/// However many say so; a key masked by one of them stays masked.
TYPED_TEST(Biases, OfTheLowestNumberDoNotHideTogether) {
  using T = TypeParam;
  const auto in = with_scores<T>({{0, 0, 0}, {0, 0, 0}});
  const T low = TestFixture::lowest;
  Tensor<T> values(1, 1, 2, 3), hiding = zeros<T, 4>({1, 1, 2, 3});
  values.setValues({{{{low, low, low}, {low, low, 0}}}});
  hiding(0, 0, 0, 1) = hiding(0, 0, 1, 2) = -TestFixture::inf;
  const auto all = scaled(1) | bias(values) | bias(hiding) | bias(values) | bias(values) |
                   bias(values) | bias(values);
  const Outputs<T> got = attend(in, all);
  EXPECT_TRUE(shows(got, {{.5, 0, .5}, {.5, .5, 0}}));
  EXPECT_TRUE(finite(got.lse));
}

/// A row of them, over several blocks and a tail.
TYPED_TEST(Biases, OfTheLowestNumberInAllOfALongRowAverage) {
  using T = TypeParam;
  Inputs<T> in = inputs<T>(Shape{1, 1, 1, 3, 300, 4, 4}, 5);
  Tensor<T> values(1, 1, 1, 1);
  values.setConstant(TestFixture::lowest);
  in.v.setConstant(T(1));
  const Outputs<T> got = attend(in, this->variant(values, 0.35));
  for (Index i = 0; i < 3; ++i) EXPECT_NEAR(got.out(0, 0, i, 2), 1, tolerance<T>);
}

/// Rows of a mask written as −∞, in blocks of random 0 and −∞.
TYPED_TEST(Biases, HideWholeBlocksAtOnce) {
  using T = TypeParam;
  const Inputs<T> in = inputs<T>(tokens(300, 8), 6);
  Tensor<T> values = zeros<T, 4>({1, 1, 300, 300});
  Random random(7);
  for (Index i = 0; i < 300; i += 50)
    for (Index j = 0; j < 300; j += 50)
      if (random.uniform() < 0.5)
        for (Index r = 0; r < 50; ++r)
          for (Index c = 0; c < 50; ++c) values(0, 0, i + r, j + c) = -TestFixture::inf;
  reference::Rules rules;
  rules.scale = 0.35;
  rules.bias = array(values);
  expect_oracle(in, this->variant(values, 0.35), rules);
}

/// And cost nothing there.
TYPED_TEST(Biases, SkipBlocksThatAreHiddenWhole) {
  using T = TypeParam;
  const Index rows = 31, keys = 512;
  const Inputs<T> in = inputs<T>(Shape{1, 1, 1, rows, keys, 8, 8}, 26);
  Tensor<T> values = zeros<T, 4>({1, 1, rows, keys});
  EXPECT_EQ(attend(in, this->variant(values, 0.35)).visited.pairs, rows * keys);
  for (Index i = 0; i < rows; ++i)
    for (Index j = 128; j < 384; ++j) values(0, 0, i, j) = -TestFixture::inf;
  EXPECT_EQ(attend(in, this->variant(values, 0.35)).visited.pairs, rows * (keys - 256));
  values(0, 0, 30, 300) = 0;
  EXPECT_GT(attend(in, this->variant(values, 0.35)).visited.pairs, rows * (keys - 256));
}

/// For any bias where the causal mask applies.
TYPED_TEST(Biases, DoNotLeakFromHiddenPairs) {
  using T = TypeParam;
  const Inputs<T> in = inputs<T>(tokens(75, 8, 2, 1), 8);
  Tensor<T> values = normal<T>(9, 1, 2, 75, 75);
  const Outputs<T> clean = attend(in, this->variant(values, 0.35, true));
  for (const T poison : {std::numeric_limits<T>::quiet_NaN(), TestFixture::inf, -TestFixture::inf,
                         std::numeric_limits<T>::max(), TestFixture::lowest}) {
    SCOPED_TRACE(poison);
    for (Index i = 0; i < 75; ++i)
      for (Index j = i + 1; j < 75; ++j) values(0, 0, i, j) = values(0, 1, i, j) = poison;
    const Outputs<T> got = attend(in, this->variant(values, 0.35, true));
    EXPECT_TRUE(close(got.out, clean.out));
    EXPECT_TRUE(close(got.lse, clean.lse));
  }
}

TYPED_TEST(Biases, HideKeysThatHoldNaN) {
  using T = TypeParam;
  Inputs<T> in = inputs<T>(Shape{1, 1, 1, 14, 60, 8, 8}, 11);
  Tensor<T> values = normal<T>(12, 1, 1, 14, 60);
  for (Index i = 0; i < 14; ++i) values(0, 0, i, 33) = -TestFixture::inf;
  const Outputs<T> clean = attend(in, this->variant(values, 0.35));
  in.k.chip(33, 2).setConstant(std::numeric_limits<T>::quiet_NaN());
  in.v.chip(33, 2).setConstant(std::numeric_limits<T>::quiet_NaN());
  const Outputs<T> got = attend(in, this->variant(values, 0.35));
  EXPECT_TRUE(close(got.out, clean.out));
  EXPECT_TRUE(close(got.lse, clean.lse));
}

TYPED_TEST(Biases, BroadcastOrAreRefused) {
  using T = TypeParam;
  const Inputs<T> in = inputs<T>(tokens(4, 8, 2, 1), 1);
  const Tensor<T> wrong = normal<T>(1, 1, 2, 4, 5);
  expect_refusal<ShapeError>(in, this->variant(wrong, 0.35),
                             "bias is [1, 2, 4, 5], must be or broadcast to [1, 2, 4, 4]");
  const Tensor<T> three = normal<T>(1, 1, 3, 4, 4);
  expect_refusal<ShapeError>(in, this->variant(three, 0.35), "bias is [1, 3, 4, 4]");
}

/// A gradient shared by 200 rows of four heads sums 80 000 terms: gathered in float it would lose a
/// digit that one of each pair keeps.
TYPED_TEST(Biases, HaveExactGradientsHoweverManyPairsShareThem) {
  using T = TypeParam;
  const Index n = 200;
  const Inputs<T> in = inputs<T>(tokens(n, 16, 4, 2), 13);
  const Tensor<T> grad_out = normal<T>(14, 1, 4, n, 16);
  for (const bool causal_ : {false, true})
    // Not one number for all: its gradient is 0, as are those of whole rows but for the mask.
    for (const Tensor<T>& values : {normal<T>(16, 1, 4, 1, n), normal<T>(17, 1, 1, n, 1)}) {
      SCOPED_TRACE(testing::Message() << values.dimensions() << ", causal " << causal_);
      reference::Rules rules;
      rules.scale = 0.25;
      rules.bias = array(values);
      if (causal_) rules.visible = reference::causal();
      reference::Cotangents given;
      given.out = array(grad_out);
      const reference::Gradients want =
          attention_backward(array(in.q), array(in.k), array(in.v), rules, given);

      Tensor<T> grad_values = values, grad_q = in.q, grad_k = in.k, grad_v = in.v;
      grad_values.setConstant(std::numeric_limits<T>::quiet_NaN());
      const auto variant = scaled(0.25) | bias(values).grad(grad_values) | when(causal_, causal);
      const Outputs<T> known = attend(in, variant);
      backward(in.q, in.k, in.v, variant, known.out, known.lse, grad_out, grad_q, grad_k, grad_v);
      EXPECT_TRUE(close(grad_values, want.bias));
    }
}

/// Heads and batch entries that add to one number take turns.
TEST(BiasGradients, AreSharedWhereverTheyBroadcast) {
  for (const Index batch : {1, 2})
    for (const Index heads : {1, 3})
      for (const Index b : {Index(1), batch})
        for (const Index h : {Index(1), heads}) {
          Problem p;
          p.batch = batch, p.heads = p.key_heads = heads, p.queries = p.keys = 8;
          p.dim = p.value_dim = 8;
          Tensor<float> v = zeros<float, 4>({b, h, 8, 8}), to = v;
          Arena measure;
          const auto bound = bias(v).grad(to).template bind<float>(p, measure);
          EXPECT_EQ(bound.shares_gradients(), b < batch || h < heads)
              << batch << ' ' << heads << ' ' << b << ' ' << h;
        }
}

/// A masked key stays masked for any later rule on its score; a row of masked keys sees none.
TEST(BiasBesideARule, HidesWhateverComesAfter) {
  const Inputs<float> in = inputs<float>(tokens(40, 8), 10);
  Tensor<float> values = zeros<float, 4>({1, 1, 40, 40});
  for (Index i = 0; i < 40; ++i)
    for (Index j = 0; j < 40; ++j)
      if (j == (3 * i) % 40 || i == 17)
        values(0, 0, i, j) = -std::numeric_limits<float>::infinity();
  Tensor<float> flat(1, 1, 1, 1);
  flat.setConstant(5);
  const auto rule = [](auto s, const auto&) {  // halves, and lifts what is below −10
    using B = decltype(s);
    return max(s * B(0.5f), B(-10.f));
  };
  reference::Rules rules;
  rules.bias = array(values);
  rules.score = [](double s, const reference::Pair&) { return std::max((s + 5) / 2, -10.); };
  expect_oracle(in, standard | bias(values) | bias(flat) | score_rule(rule), rules);
}

}  // namespace
}  // namespace heed::test
