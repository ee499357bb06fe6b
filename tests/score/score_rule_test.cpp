// SPDX-License-Identifier: MIT
#include "heed/score/score_rule.hpp"

#include "heed/score/causal.hpp"
#include "heed/score/query_offset.hpp"
#include "heed/score/standard.hpp"
#include "heed/score/when.hpp"
#include "support/calls.hpp"

#include <gtest/gtest.h>

namespace heed::test {
namespace {

/// One rule of many coefficients, so that one variant is compiled:
///
///     s ← s + square · s² + near · (key − position) + (row, in head 1 of batch entry 1 alone) · s
template <class T>
struct Coefficients {
  double square = 0, near = 0, row = 0;

  template <class B, class Lanes>
  B operator()(const B& s, const Lanes& at) const {
    const auto number = [](double x) { return B(T(x)); };
    const double grows = at.batch == 1 && at.head == 1 ? row * double(at.row) : 0;
    return s + number(square) * s * s + number(near) * at.distance() + number(grows) * s;
  }
};

template <class T>
double by_hand(const Coefficients<T>& c, double s, const reference::Pair& p) {
  const double grows = p.batch == 1 && p.head == 1 ? c.row * double(p.row) : 0;
  return s + c.square * s * s + c.near * double(p.key - p.position) + grows * s;
}

template <class T>
auto ruled(const Coefficients<T>& c, Index offset = 0, bool twice = false) {
  return query_offset(offset) | standard | score_rule(c) | when(twice, score_rule(c)) | causal;
}

template <class T>
class ScoreRules : public testing::Test {
 protected:
  static void expect_rule(const Inputs<T>& in, const Coefficients<T>& c, Index offset = 0) {
    reference::Rules rules = seeing(reference::causal());
    rules.offset = offset;
    rules.score = [c](double s, const reference::Pair& p) { return by_hand(c, s, p); };
    expect_oracle(in, ruled(c, offset), rules);
  }
};
TYPED_TEST_SUITE(ScoreRules, Scalars, ScalarName);

/// A parabola bends elsewhere in other units.
TYPED_TEST(ScoreRules, SpeakInNaturalUnits) {
  this->expect_rule(inputs<TypeParam>(tokens(60, 16, 2, 1), 1, 2),
                    {.square = -0.125, .near = 0, .row = 0});
}

TYPED_TEST(ScoreRules, KnowTheDistanceToTheQuery) {
  this->expect_rule(inputs<TypeParam>(Shape{1, 2, 1, 30, 100, 8, 8}, 2),
                    {.square = 0, .near = 0.25, .row = 0}, 64);
}

TYPED_TEST(ScoreRules, KnowBatchHeadAndRow) {
  this->expect_rule(inputs<TypeParam>(tokens(50, 8, 2, 1, 2), 3),
                    {.square = 0, .near = 0, .row = 0.01});
}

TYPED_TEST(ScoreRules, FollowOneAnother) {
  using T = TypeParam;
  const Inputs<T> in = inputs<T>(tokens(40, 8), 4);
  const Coefficients<T> c{.square = 0.2, .near = 0.1, .row = 0};
  reference::Rules rules = seeing(reference::causal());
  rules.score = [c](double s, const reference::Pair& p) { return by_hand(c, by_hand(c, s, p), p); };
  expect_oracle(in, ruled(c, 0, true), rules);
}

/// A number of the caller's, caught by the lambda: what most rules need.
TEST(ScoreRule, MayBeALambdaThatCatchesWhatItNeeds) {
  const Inputs<float> in = inputs<float>(tokens(40, 8), 5);
  const float slope = 0.25f;
  const auto near = [slope](auto s, const auto& at) {
    return s + decltype(s)(slope) * at.distance();
  };
  reference::Rules rules = seeing(reference::causal());
  rules.slopes = reference::Array({1}, 0.25);
  expect_oracle(in, standard | score_rule(near) | causal, rules);
}

}  // namespace
}  // namespace heed::test
