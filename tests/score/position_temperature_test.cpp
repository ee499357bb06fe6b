// SPDX-License-Identifier: MIT
#include "heed/score/position_temperature.hpp"

#include "heed/engine/backward.hpp"
#include "heed/score/documents.hpp"
#include "heed/score/query_offset.hpp"
#include "heed/score/temperatures.hpp"
#include "reference/backward.hpp"
#include "support/calls.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>

namespace heed::test {
namespace {

template <class T>
class TemperaturesByPosition : public testing::Test {};
TYPED_TEST_SUITE(TemperaturesByPosition, Scalars, ScalarName);

/// A causal mask and τ(head, position) on the queries.
reference::Rules with_temperature(Index heads, Index rows, Index offset,
                                  const std::function<double(Index, Index)>& tau) {
  reference::Rules rules = seeing(reference::causal());
  rules.offset = offset;
  rules.tau_q = reference::Array({1, heads, rows});
  for (Index h = 0; h < heads; ++h)
    for (Index i = 0; i < rows; ++i) rules.tau_q(0, h, i) = tau(h, offset + i);
  return rules;
}

/// Both sides of every step.
TYPED_TEST(TemperaturesByPosition, RiseInSteps) {
  using T = TypeParam;
  for (const Index step : {1, 7, 16, 1000})
    for (const Index offset : {0, 9}) {
      SCOPED_TRACE(testing::Message() << "steps of " << step << ", offset " << offset);
      const Inputs<T> in = inputs<T>({1, 2, 1, 40, 40 + offset, 16, 16}, 1);
      expect_oracle(in, query_offset(offset) | staircase_temperature(0.1, step) | standard | causal,
                    with_temperature(2, 40, offset, [=](Index, Index p) {
                      return 1 + 0.1 * std::log(1 + std::floor(double(p) / double(step)));
                    }));
    }
  const auto in = inputs<T>(tokens(4, 8), 1);
  expect_refusal<ValueError>(in, staircase_temperature(0.1, 0) | standard, "step is 0");
  expect_refusal<ValueError>(
      in, staircase_temperature(std::numeric_limits<double>::quiet_NaN(), 1) | standard, "beta");
}

TYPED_TEST(TemperaturesByPosition, SharpenAsASequenceGrows) {
  using T = TypeParam;
  Tensor<T, 1> scale(2), gradient(2);
  scale(0) = T(0.4), scale(1) = T(-0.9);
  const Inputs<T> in = inputs<T>(tokens(70, 16, 2, 1), 2);
  const auto variant = scalable_softmax(scale).grad(gradient) | standard | causal;
  const reference::Rules rules = with_temperature(
      2, 70, 0, [&](Index h, Index p) { return double(scale(h)) * std::log(double(p + 1)); });
  const Outputs<T> known = attend(in, variant);
  expect_close(known, oracle(in, rules));

  Tensor<T> grad_q = in.q, grad_k = in.k, grad_v = in.v;
  backward(in.q, in.k, in.v, variant, known.out, known.lse, in.q, grad_q, grad_k, grad_v);
  reference::Cotangents given;
  given.out = array(in.q);
  const auto want = attention_backward(array(in.q), array(in.k), array(in.v), rules, given);
  EXPECT_TRUE(close(grad_q, want.q));
  for (Index h = 0; h < 2; ++h) {
    double sum = 0;
    for (Index i = 0; i < 70; ++i) sum += want.tau_q(0, h, i) * std::log(double(i + 1));
    EXPECT_NEAR(gradient(h), sum, 20 * tolerance<T> * (1 + std::abs(sum)));
  }
  expect_refusal<ShapeError>(
      in, scalable_softmax(View<const T, 1>(scale.data(), {1})) | standard | causal, "[1]");
  for (const T bad :
       {std::numeric_limits<T>::quiet_NaN(), std::numeric_limits<T>::infinity(), T(1e31)}) {
    Tensor<T, 1> scales = scale;
    scales(1) = bad;
    expect_refusal<ValueError>(in, scalable_softmax(scales) | standard | causal,
                               "a number of scalable_softmax is");
  }
}

/// Positions begin again with every document.
TYPED_TEST(TemperaturesByPosition, CountFromTheStartOfTheSequence) {
  using T = TypeParam;
  const Inputs<T> in = inputs<T>(tokens(50, 16), 3);
  Tensor<std::int64_t, 2> ids(1, 50);
  for (Index j = 0; j < 50; ++j) ids(0, j) = j / 20;
  const auto all = staircase_temperature(0.3, 4) | position_temperature({Gain::sigmoid, 0.5});
  const Outputs<T> pack = attend(in, all | standard | causal | documents(ids));
  for (const Index first : {0, 20, 40}) {
    const Index last = std::min<Index>(first + 20, 50);
    const auto own = [&](const Tensor<T>& x) { return slice(x, first, last); };
    const Outputs<T> alone =
        attend(Inputs<T>{own(in.q), own(in.k), own(in.v)}, all | standard | causal);
    EXPECT_TRUE(close(own(pack.out), alone.out)) << first;
  }
}

/// w · GELU(x), there and back, against the formula and differences.
TYPED_TEST(TemperaturesByPosition, AreJoinedByAFeatureThroughGelu) {
  using T = TypeParam;
  const Tensor<T> x = normal<T>(4, 2, 3, 5, 7);
  const Tensor<T, 2> w = normal<T>(5, 3, 7);
  const Tensor<T, 3> grad_f = normal<T>(6, 2, 3, 5);
  Tensor<T, 3> f(2, 3, 5);
  token_feature(x, w, f, Feature::gelu);
  const auto gelu = [](double z) { return z / 2 * (1 + std::erf(z / std::sqrt(2.))); };
  Tensor<T> grad_x(2, 3, 5, 7);
  grad_x.setConstant(T(1));  // what is there already stays
  Tensor<T, 2> grad_w(3, 7);
  token_feature_backward(x, w, grad_f, grad_x, grad_w, Feature::gelu);
  for (Index h = 0; h < 3; ++h)
    for (Index d = 0; d < 7; ++d) {
      double want_w = 0;
      for (Index b = 0; b < 2; ++b)
        for (Index i = 0; i < 5; ++i) {
          const double z = double(x(b, h, i, d)), step = 1e-5,
                       slope = (gelu(z + step) - gelu(z - step)) / (2 * step);
          want_w += double(grad_f(b, h, i)) * gelu(z);
          EXPECT_NEAR(grad_x(b, h, i, d), 1 + double(grad_f(b, h, i)) * double(w(h, d)) * slope,
                      1e-5);
        }
      EXPECT_NEAR(grad_w(h, d), want_w, 10 * tolerance<T>);
    }
  for (Index b = 0; b < 2; ++b)
    for (Index h = 0; h < 3; ++h)
      for (Index i = 0; i < 5; ++i) {
        double want = 0;
        for (Index d = 0; d < 7; ++d) want += double(w(h, d)) * gelu(double(x(b, h, i, d)));
        EXPECT_NEAR(f(b, h, i), want, 10 * tolerance<T>);
      }
}

}  // namespace
}  // namespace heed::test
