// SPDX-License-Identifier: MIT
#include "heed/score/sinks.hpp"

#include "heed/score/causal.hpp"
#include "heed/score/selective.hpp"
#include "heed/score/standard.hpp"
#include "heed/score/when.hpp"
#include "reference/selective.hpp"
#include "support/calls.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace heed::test {
namespace {

/// Every call here, so that one variant is compiled.
template <class T>
auto with_sinks(const Tensor<T, 1>& logits, Index offset = 0, bool selects = false) {
  return standard | causal_at(offset) | when(logits.size() > 0, sinks(logits)) |
         when(selects, selective);
}

template <class T>
class SinkLogits : public testing::Test {};
TYPED_TEST_SUITE(SinkLogits, Scalars, ScalarName);

TYPED_TEST(SinkLogits, TakeWeightAndGiveNothing) {
  using T = TypeParam;
  Tensor<T, 1> logit(1);
  logit(0) = T(std::log(2.));
  const Outputs<T> got = attend(with_scores<T>({{0, 0}}), with_sinks(logit, 1));
  EXPECT_TRUE(shows(got, {{.25, .25}}));
  EXPECT_NEAR(got.lse(0, 0, 0), std::log(4.), tolerance<T>);
}

TYPED_TEST(SinkLogits, MatchTheOraclePerHead) {
  using T = TypeParam;
  const Inputs<T> in = inputs<T>(tokens(140, 8, 4, 2, 2), 1);
  for (const double size : {1., 20., 200.}) {
    SCOPED_TRACE(size);
    Tensor<T, 1> logits = normal<T>(2, 4);
    logits = logits * logits.constant(T(size));
    reference::Rules rules = seeing(reference::causal());
    rules.sinks = array(logits);
    expect_oracle(in, with_sinks(logits), rules);
  }
}

TYPED_TEST(SinkLogits, OfMinusInfinityAreNone) {
  using T = TypeParam;
  const Inputs<T> in = inputs<T>(tokens(60, 8, 2, 1), 3);
  Tensor<T, 1> nothing(2);
  nothing.setConstant(-std::numeric_limits<T>::infinity());
  const Outputs<T> got = attend(in, with_sinks(nothing)), plain = attend(in, with_sinks<T>({}));
  EXPECT_TRUE(close(got.out, plain.out));
  EXPECT_TRUE(close(got.lse, plain.lse));
}

/// Rows before the first key see nothing but the sink.
TYPED_TEST(SinkLogits, AreAllThatADeadRowHas) {
  using T = TypeParam;
  const Inputs<T> in = inputs<T>(tokens(40, 8, 2, 1), 4);
  Tensor<T, 1> logits(2);
  logits.setValues({T(1.5), T(-3)});
  const Outputs<T> got = attend(in, with_sinks(logits, -30));
  for (Index h = 0; h < 2; ++h)
    for (Index i = 0; i < 30; ++i) {
      EXPECT_NEAR(got.lse(0, h, i), logits(h), 3 * tolerance<T>);
      for (Index d = 0; d < 8; ++d) EXPECT_EQ(got.out(0, h, i, d), T(0));
    }
}

TYPED_TEST(SinkLogits, StandBesideSelection) {
  using T = TypeParam;
  const Inputs<T> in = inputs<T>(tokens(70, 16, 2, 1), 5);
  const Tensor<T, 1> logits = normal<T>(6, 2);
  reference::Rules rules = seeing(reference::causal());
  rules.sinks = array(logits);
  expect_close(attend(in, with_sinks(logits, 0, true)),
               selective_attention(array(in.q), array(in.k), array(in.v), rules));
}

TYPED_TEST(SinkLogits, WantOnePerHead) {
  using T = TypeParam;
  const Tensor<T, 1> three = normal<T>(1, 3);
  expect_refusal<ShapeError>(inputs<T>(tokens(4, 8, 2, 1), 1), with_sinks(three), "sinks is [3]");
}

}  // namespace
}  // namespace heed::test
