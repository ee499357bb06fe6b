// SPDX-License-Identifier: MIT
/// @file
/// For programs built for other registers than the tests are: everything there is compiles,
/// and gives what the oracle gives.
#pragma once

#include "heed/engine/backward.hpp"
#include "heed/engine/merge.hpp"
#include "heed/engine/weights.hpp"
#include "heed/kv/kv_buffer.hpp"
#include "heed/score/bias.hpp"
#include "heed/score/causal.hpp"
#include "heed/score/dropout.hpp"
#include "heed/score/score_rule.hpp"
#include "heed/score/selective.hpp"
#include "heed/score/softcap.hpp"
#include "heed/score/standard.hpp"
#include "reference/backward.hpp"
#include "support/calls.hpp"
#include "support/selection.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace heed::test {
namespace {

template <class T>
struct Gradients {
  Tensor<T> q, k, v;
};

template <class T, class Variant>
Gradients<T> gradients(const Inputs<T>& in, const Variant& variant, const Tensor<T>& grad_out) {
  const Outputs<T> known = attend(in, variant);
  Gradients<T> to{in.q, in.k, in.v};
  backward(in.q, in.k, in.v, variant, known.out, known.lse, grad_out, to.q, to.k, to.v);
  return to;
}

/// s + s² / 8, and its slope.
const auto curve = [](auto s, const auto&) {
  using B = decltype(s);
  return s + s * s * B(0.125f);
};
const auto slope = [](auto grad, auto s, const auto&) {
  using B = decltype(s);
  return grad + grad * s * B(0.25f);
};

reference::Rules curved_rules() {
  reference::Rules rules = causal_rules();
  rules.softcap = 2;
  rules.score = [](double s, const reference::Pair&) { return s + s * s / 8; };
  return rules;
}

template <class T>
class WholeLibrary : public testing::Test {};
TYPED_TEST_SUITE(WholeLibrary, Scalars, ScalarName);

TYPED_TEST(WholeLibrary, ForwardMatchesTheOracle) {
  using T = TypeParam;
  for (const Index n : {1, 5, 12, 97, 150}) {
    SCOPED_TRACE(n);
    const Inputs<T> in = inputs<T>(tokens(n, 12, 4, 2, 2), 1);
    expect_oracle(in, standard, {});
    expect_oracle(in, standard | causal, causal_rules());
  }
}

TYPED_TEST(WholeLibrary, EveryStageOfARegisterMatchesTheOracle) {
  using T = TypeParam;
  const Inputs<T> in = inputs<T>(tokens(110, 12, 4, 2, 2), 2);
  const Selected<T> got =
      select_all(in, standard | softcap(2) | score_rule(curve, slope) | causal, selective);
  const auto want = selective_oracle(in, curved_rules());
  expect_close<T>(got, want);
  EXPECT_TRUE(close(got.carry, want.carry_out));

  const Tensor<T> grad_out = normal<T>(3, 2, 4, 110, 12);
  const Gradients<T> back = gradients(
      in, standard | softcap(2) | score_rule(curve, slope) | causal | selective, grad_out);
  reference::Cotangents given;
  given.out = array(grad_out);
  given.score_slope = [](double s, const reference::Pair&) { return 1 + s / 4; };
  const reference::Gradients expected = reference::selective_backward(
      array(in.q), array(in.k), array(in.v), curved_rules(), {}, given);
  EXPECT_TRUE(close(back.q, expected.q));
  EXPECT_TRUE(close(back.k, expected.k));
  EXPECT_TRUE(close(back.v, expected.v));
}

/// Linear in the values: ∂L/∂v · v is the loss itself. Of the rest the sums that are known.
TYPED_TEST(WholeLibrary, DropoutGoesThereAndBack) {
  using T = TypeParam;
  const Inputs<T> in = inputs<T>(tokens(60, 8, 2, 1), 4);
  const Tensor<T> grad_out = normal<T>(5, 1, 2, 60, 8);
  const auto variant = standard | causal | dropout(0.4, 7);
  const Outputs<T> known = attend(in, variant);
  const Gradients<T> back = gradients(in, variant, grad_out);
  double loss = 0, from_values = 0, from_queries = 0, from_keys = 0;
  for (Index i = 0; i < grad_out.size(); ++i)
    loss += double(grad_out.data()[i]) * double(known.out.data()[i]);
  for (Index i = 0; i < in.v.size(); ++i) {
    from_values += double(back.v.data()[i]) * double(in.v.data()[i]);
    from_keys += double(back.k.data()[i]) * double(in.k.data()[i]);
  }
  for (Index i = 0; i < in.q.size(); ++i)
    from_queries += double(back.q.data()[i]) * double(in.q.data()[i]);
  EXPECT_NEAR(from_values, loss, 100 * tolerance<T>);
  EXPECT_NEAR(from_queries, from_keys, 100 * tolerance<T>);  // scores know only their product
}

TYPED_TEST(WholeLibrary, HiddenKeysAreInert) {
  using T = TypeParam;
  const T nan = std::numeric_limits<T>::quiet_NaN();
  Inputs<T> in = inputs<T>(tokens(40, 8), 6);
  const Outputs<T> clean = attend(in, standard | causal);
  in.k.chip(39, 2).setConstant(nan), in.v.chip(39, 2).setConstant(nan);
  const Outputs<T> got = attend(in, standard | causal);
  EXPECT_TRUE(same_bits(slice(got.out, 0, 39), slice(clean.out, 0, 39)));
  EXPECT_TRUE(std::isnan(got.lse(0, 0, 39)));
}

TYPED_TEST(WholeLibrary, ABufferThatKeepsAllGivesWhatForwardDoes) {
  using T = TypeParam;
  const Inputs<T> in = inputs<T>(tokens(50, 12, 4, 2, 2), 7);
  const Outputs<T> want = attend(in, standard | causal | selective);
  KvBuffer<T> buffer({.batch = 2, .heads = 4, .key_heads = 2, .dim = 12, .value_dim = 12},
                     {.budget = 50});
  Tensor<T> out(2, 4, 50, 12);
  Tensor<T, 3> lse(2, 4, 50);
  buffer.step(in.q, in.k, in.v, standard, out, {.lse = lse});
  EXPECT_TRUE(close(out, want.out));
  EXPECT_TRUE(close(lse, want.lse));
}

/// And with a budget: whether token by token or all at once.
TYPED_TEST(WholeLibrary, ABufferDecodesAsItReadsAPrompt) {
  using T = TypeParam;
  const Inputs<T> in = inputs<T>(tokens(50, 12, 4, 2), 8);
  const KvShape shape{.batch = 1, .heads = 4, .key_heads = 2, .dim = 12, .value_dim = 12};
  KvBuffer<T> at_once(shape, {.budget = 20, .chunk = 1}), by_token(shape, {.budget = 20}),
      in_blocks(shape, {.budget = 20});
  Tensor<T> out(1, 4, 50, 12), of_blocks(1, 4, 50, 12);
  at_once.step(in.q, in.k, in.v, standard, out);
  in_blocks.step(in.q, in.k, in.v, standard, of_blocks);
  EXPECT_TRUE(close(of_blocks, array(out)));
  for (Index i = 0; i < 50; ++i) {
    Tensor<T> one(1, 4, 1, 12);
    by_token.step(slice(in.q, i, i + 1), slice(in.k, i, i + 1), slice(in.v, i, i + 1), standard,
                  one);
    EXPECT_TRUE(same_bits(one, slice(out, i, i + 1))) << i;
  }
  for (const KvBuffer<T>* const other : {&by_token, &in_blocks}) {
    const auto want = at_once.sequence(0).held(), got = other->sequence(0).held();
    ASSERT_EQ(got.size(), want.size());
    for (std::size_t n = 0; n < want.size(); ++n) EXPECT_EQ(got[n].position, want[n].position) << n;
  }
}

TYPED_TEST(WholeLibrary, WeightsAndMergesMatchTheOracle) {
  using T = TypeParam;
  const Inputs<T> in = inputs<T>(tokens(40, 8), 9);
  const Outputs<T> whole = attend(in, standard);
  const reference::Attention want = oracle(in);
  Tensor<T, 2> shown(40, 40);
  weights(in.q, in.k, standard, whole.lse, {.rows = 40}, shown);
  reference::Array flat({40, 40});
  flat.values = want.weights.values;
  EXPECT_TRUE(close(shown, flat));

  const Inputs<T> left{in.q, slice(in.k, 0, 13), slice(in.v, 0, 13)},
      right{in.q, slice(in.k, 13, 40), slice(in.v, 13, 40)};
  const Outputs<T> a = attend(left, standard), b = attend(right, standard);
  Outputs<T> both = a;
  merge(a.out, a.lse, b.out, b.lse, both.out, both.lse);
  expect_close(both, want);
}

}  // namespace
}  // namespace heed::test
