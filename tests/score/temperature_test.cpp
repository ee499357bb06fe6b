// SPDX-License-Identifier: MIT
#include "reference/temperature.hpp"

#include "heed/engine/backward.hpp"
#include "heed/score/causal.hpp"
#include "heed/score/query_offset.hpp"
#include "heed/score/softcap.hpp"
#include "heed/score/standard.hpp"
#include "heed/score/temperatures.hpp"
#include "heed/score/when.hpp"
#include "support/calls.hpp"
#include "support/fixtures.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <optional>
#include <string>

namespace heed::test {
namespace {

/// What a call may have; an empty tensor is none. One variant serves them all.
template <class T>
struct Scaling {
  Tensor<T, 3> q, k, v;
  std::optional<Gain> position;
  Index offset = 0;
  double scale = 0.25, cap = 0;
  bool causal_ = true;

  auto variant() const {
    return query_offset(offset) |
           when(position.has_value(), position_temperature(position.value_or(Gain()))) |
           when(q.size() > 0, query_temperature(q)) | when(k.size() > 0, key_temperature(k)) |
           when(v.size() > 0, value_temperature(v)) | scaled(scale) | when(cap > 0, softcap(cap)) |
           when(causal_, causal);
  }
  /// The same for the oracle, the position-aware part apart.
  reference::Rules rules() const {
    reference::Rules r;
    if (q.size() > 0) r.tau_q = array(q);
    if (k.size() > 0) r.tau_k = array(k);
    if (v.size() > 0) r.tau_v = array(v);
    if (cap > 0) r.softcap = cap;
    if (causal_) r.visible = reference::causal();
    r.offset = offset;
    r.scale = scale;
    return r;
  }
};

template <class T>
class Temperatures : public testing::Test {
 protected:
  static Scaling<T> by_position(Gain gain, Index offset = 0) {
    Scaling<T> s;
    s.position = gain;
    s.offset = offset;
    return s;
  }
  static Scaling<T> of(const Tensor<T, 3>& q, const Tensor<T, 3>& k, const Tensor<T, 3>& v,
                       bool causal_ = true) {
    Scaling<T> s;
    s.q = q, s.k = k, s.v = v, s.causal_ = causal_;
    return s;
  }
};
TYPED_TEST_SUITE(Temperatures, Scalars, ScalarName);

template <class T>
Inputs<T> inputs_of(const Fixture& f) {
  return {tensor<T>(f.array("q")), tensor<T>(f.array("k")), tensor<T>(f.array("v"))};
}

TYPED_TEST(Temperatures, ByPositionGiveTheGoldenOutput) {
  using T = TypeParam;
  for (const char* name : {"ssa_pos_gompertz", "ssa_pos_sigmoid"}) {
    SCOPED_TRACE(name);
    const Fixture& f = fixture(name);
    const Gain gain{f.text("gain") == "sigmoid" ? Gain::sigmoid : Gain::gompertz, f.number("beta")};
    const Outputs<T> got = attend(inputs_of<T>(f), this->by_position(gain).variant());
    EXPECT_TRUE(close(got.out, f.array("out")));
    EXPECT_TRUE(close(got.lse, f.array("lse")));
  }
}

TYPED_TEST(Temperatures, OfTokensOnAllThreeGiveTheGoldenOutput) {
  using T = TypeParam;
  for (const char* name : {"ssa_full_causal", "ssa_full_noncausal"}) {
    SCOPED_TRACE(name);
    const Fixture& f = fixture(name);
    const auto tau = [&](const std::string& of) {
      Tensor<T, 3> result(f.array("f_" + of).dim(0), f.array("f_" + of).dim(1), 15);
      temperatures(tensor<T, 3>(f.array("f_" + of)),
                   {.position = Gain{Gain::sigmoid, f.number("alpha_" + of)}, .offset = 0}, result);
      EXPECT_TRUE(close(result, f.array("tau_" + of)));
      return result;
    };
    const Outputs<T> got = attend(
        inputs_of<T>(f), this->of(tau("q"), tau("k"), tau("v"), f.number("causal") != 0).variant());
    EXPECT_TRUE(close(got.out, f.array("out")));
    EXPECT_TRUE(close(got.lse, f.array("lse")));
  }
}

TYPED_TEST(Temperatures, MatchTheOracleOneAtATimeAndTogether) {
  using T = TypeParam;
  const Shape s{2, 4, 2, 45, 140, 16, 20};
  const Inputs<T> in = inputs<T>(s, 1);
  for (const bool shared : {false, true}) {
    const Tensor<T, 3> tq = normal<T>(2, s.batch, shared ? 1 : s.heads, s.queries),
                       tk = normal<T>(3, s.batch, shared ? 1 : s.key_heads, s.keys),
                       tv = normal<T>(4, s.batch, shared ? 1 : s.key_heads, s.keys);
    for (const Scaling<T>& scaling : {this->of(tq, {}, {}, false), this->of({}, tk, {}, false),
                                      this->of({}, {}, tv, false), this->of(tq, tk, tv, false)})
      expect_oracle(in, scaling.variant(), scaling.rules());
  }
}

TYPED_TEST(Temperatures, OfOneChangeNoBit) {
  using T = TypeParam;
  const Inputs<T> in = inputs<T>(tokens(70, 16, 2, 1), 5);
  Tensor<T, 3> ones(1, 1, 70);
  ones.setConstant(T(1));
  expect_same_bits(attend(in, this->of({}, {}, {}).variant()),
                   attend(in, this->of(ones, ones, ones).variant()));
}

TYPED_TEST(Temperatures, ThatAreConstantMultiplyTheScaleAndTheOutput) {
  using T = TypeParam;
  const Inputs<T> in = inputs<T>(tokens(70, 16, 2, 1), 6);
  Tensor<T, 3> half(1, 1, 70), three(1, 1, 70);
  half.setConstant(T(0.5));
  three.setConstant(T(3));
  const Outputs<T> got = attend(in, this->of(half, three, three).variant());
  Scaling<T> plain;
  plain.scale *= 1.5;
  const Outputs<T> want = attend(in, plain.variant());
  const Tensor<T> larger = want.out * want.out.constant(T(3));
  EXPECT_TRUE(close(got.out, larger));
  EXPECT_TRUE(close(got.lse, want.lse));
}

TYPED_TEST(Temperatures, OfZeroOnQueriesAverageTheValues) {
  using T = TypeParam;
  const Inputs<T> in = inputs<T>(tokens(40, 8), 7);
  Tensor<T, 3> zero(1, 1, 40);
  zero.setZero();
  reference::Rules rules = seeing(reference::causal());
  rules.scale = 0;
  expect_oracle(in, this->of(zero, {}, {}).variant(), rules);
}

TYPED_TEST(Temperatures, OfAnInverseFactorUndoIt) {
  using T = TypeParam;
  const Inputs<T> in = inputs<T>(tokens(50, 16), 8);
  Inputs<T> sharper = in;
  sharper.q = in.q * in.q.constant(T(8));
  Tensor<T, 3> eighth(1, 1, 50);
  eighth.setConstant(T(0.125));
  const Outputs<T> a = attend(in, this->of({}, {}, {}).variant()),
                   b = attend(sharper, this->of(eighth, {}, {}).variant());
  EXPECT_TRUE(close(a.out, b.out));
  EXPECT_TRUE(close(a.lse, b.lse));
}

TYPED_TEST(Temperatures, LeaveTheFirstRowItsValueTimesItsTemperature) {
  using T = TypeParam;
  const Inputs<T> in = inputs<T>(tokens(30, 8), 9);
  const Tensor<T, 3> tau = normal<T>(10, 1, 1, 30);
  const Outputs<T> got = attend(in, this->of(tau, {}, tau).variant());
  for (Index d = 0; d < 8; ++d)
    EXPECT_NEAR(got.out(0, 0, 0, d), tau(0, 0, 0) * in.v(0, 0, 0, d), tolerance<T>);
}

TYPED_TEST(Temperatures, ActBeforeTheCap) {
  using T = TypeParam;
  Scaling<T> scaling = this->of(normal<T>(12, 1, 1, 50), {}, {});
  scaling.cap = 3;
  expect_oracle(inputs<T>(tokens(50, 16), 11, 2), scaling.variant(), scaling.rules());
}

// ---- by position

TYPED_TEST(Temperatures, ByPositionCountFromTheStartOfTheTextInDecodeToo) {
  using T = TypeParam;
  const Inputs<T> in = inputs<T>(tokens(50, 16), 13);
  const Gain gain{Gain::sigmoid, 0.7};
  const Outputs<T> whole = attend(in, this->by_position(gain).variant());
  for (const Index from : {0, 1, 20, 49}) {
    const Inputs<T> rest{slice(in.q, from, 50), in.k, in.v};
    const Outputs<T> got = attend(rest, this->by_position(gain, from).variant());
    EXPECT_TRUE(close(got.out, slice(whole.out, from, 50))) << from;
  }
}

TYPED_TEST(Temperatures, ByPositionMatchTheOracleForEveryGain) {
  using T = TypeParam;
  const Inputs<T> in = inputs<T>(tokens(60, 16, 2, 1), 14);
  const auto check = [&](Gain gain, reference::Gain same) {
    reference::Rules rules = seeing(reference::causal());
    rules.tau_q = reference::position_temperatures(60, same, gain.alpha);
    expect_oracle(in, this->by_position(gain).variant(), rules);
  };
  check({Gain::sigmoid, -2}, reference::Gain::sigmoid);
  check({Gain::gompertz, 1.5}, reference::Gain::gompertz);
  check({Gain::linear, 0.25}, reference::Gain::linear);
}

/// Rows before position 0, where log n is none, see nothing and count for nothing: gradients are
/// those of the other rows alone.
TYPED_TEST(Temperatures, ByPositionHaveGradientsBeforeTheFirstTokenToo) {
  using T = TypeParam;
  const Index before = 12, keys = 8, rows = before + keys;
  const Inputs<T> in = inputs<T>(Shape{1, 2, 1, rows, keys, 8, 8}, 11);
  const Inputs<T> rest{slice(in.q, before, rows), in.k, in.v};
  const Tensor<T, 3> tau = uniform<T>(12, 1, 2, rows), rest_of_tau = slice(tau, before, rows);
  const Tensor<T> grad_out = normal<T>(13, 1, 2, rows, 8);
  const auto back = [](const Inputs<T>& x, const Tensor<T, 3>& own, const Tensor<T>& grad,
                       double& grad_alpha, Tensor<T, 3>& grad_tau, Inputs<T>& to) {
    const auto variant = position_temperature({Gain::linear, 0.3}).grad(&grad_alpha) |
                         query_temperature(own).grad(grad_tau) | standard | causal_bottom_right;
    const Outputs<T> known = attend(x, variant);
    grad_tau = own, to = x;
    grad_tau.setConstant(std::numeric_limits<T>::quiet_NaN());
    backward(x.q, x.k, x.v, variant, known.out, known.lse, grad, to.q, to.k, to.v);
  };
  double grad_alpha = 0, want_alpha = 0;
  Tensor<T, 3> grad_tau(1, 2, rows), want_tau(1, 2, keys);
  Inputs<T> grads, want;
  back(in, tau, grad_out, grad_alpha, grad_tau, grads);
  back(rest, rest_of_tau, slice(grad_out, before, rows), want_alpha, want_tau, want);
  EXPECT_NEAR(grad_alpha, want_alpha, 10 * tolerance<T>);
  EXPECT_TRUE(close(slice(grad_tau, before, rows), want_tau));
  EXPECT_TRUE(same_bits(slice(grad_tau, 0, before), zeros<T, 3>({1, 2, before})));
  EXPECT_TRUE(close(slice(grads.q, before, rows), want.q));
  EXPECT_TRUE(same_bits(slice(grads.q, 0, before), zeros<T, 4>({1, 2, before, 8})));
  EXPECT_TRUE(close(grads.k, want.k));
  EXPECT_TRUE(close(grads.v, want.v));
}

// ---- the functions that make them

TYPED_TEST(Temperatures, AreMadeFromFeaturesAndPositions) {
  using T = TypeParam;
  const Tensor<T, 3> f = normal<T>(15, 2, 3, 40);
  Tensor<T, 3> tau(2, 3, 40);
  temperatures(f, {.position = Gain{Gain::sigmoid, 0.3}, .offset = 17}, tau);
  EXPECT_TRUE(close(tau, reference::temperatures(array(f), reference::Gain::sigmoid, 0.3, 17)));
  temperatures(f, {}, tau);
  EXPECT_TRUE(close(tau, reference::temperatures(array(f), reference::Gain::none, 0)));
  Tensor<T, 3> itself = f;
  temperatures(itself, {}, itself);
  EXPECT_TRUE(same_bits(itself, tau));
}

TYPED_TEST(Temperatures, AreMadeFromPositionsAlone) {
  using T = TypeParam;
  Tensor<T, 3> tau(1, 1, 40);
  temperatures<T>({}, {.position = Gain{Gain::gompertz, 0.3}, .offset = 5}, tau);
  EXPECT_TRUE(close(tau, reference::position_temperatures(40, reference::Gain::gompertz, 0.3, 5)));
}

/// Documents in one row of tokens: positions are given, and begin again with each.
TYPED_TEST(Temperatures, AreMadeFromPositionsThatAreGiven) {
  using T = TypeParam;
  const Gain gain{Gain::sigmoid, 0.3};
  const Tensor<T, 3> f = normal<T>(16, 2, 3, 40), grad_tau = normal<T>(17, 2, 3, 40);
  Tensor<std::int64_t, 2> positions(2, 40);
  for (Index b = 0; b < 2; ++b)
    for (Index i = 0; i < 40; ++i) positions(b, i) = i % (13 + b);
  Tensor<T, 3> tau(2, 3, 40), grad_f(2, 3, 40);
  temperatures(f, {.position = gain, .positions = positions}, tau);
  const double alpha =
      temperatures_backward(f, {.position = gain, .positions = positions}, grad_tau, grad_f);
  double want = 0;
  for (Index b = 0; b < 2; ++b)
    for (Index h = 0; h < 3; ++h)
      for (Index i = 0; i < 40; ++i) {
        const double place = std::log(double(i % (13 + b) + 1));
        EXPECT_NEAR(tau(b, h, i), std::tanh(double(f(b, h, i))) + 1 + gain.value() * place,
                    tolerance<T>);
        want += double(grad_tau(b, h, i)) * gain.slope() * place;
      }
  EXPECT_NEAR(alpha, want, 100 * tolerance<T>);
  positions(1, 3) = -2;
  EXPECT_NE(message_of<ValueError>([&] {
              temperatures(f, {.positions = positions}, tau);
            }).find("position -2"),
            std::string::npos);
}

TYPED_TEST(Temperatures, OfPositionOneAreOne) {
  using T = TypeParam;
  Tensor<T, 3> tau(1, 1, 3);
  temperatures<T>({}, {.position = Gain{Gain::linear, 2}, .offset = 0}, tau);
  EXPECT_EQ(tau(0, 0, 0), T(1));
  EXPECT_NEAR(tau(0, 0, 1), 1 + 2 * std::log(2.), tolerance<T>);
}

TYPED_TEST(Temperatures, GrowFromAWeightPerHeadOrOneForAll) {
  using T = TypeParam;
  const Tensor<T> x = normal<T>(16, 2, 3, 20, 8);
  const Tensor<T, 2> each = normal<T>(17, 3, 8), shared = normal<T>(18, 1, 8);
  Tensor<T, 3> f(2, 3, 20);
  token_feature(x, each, f);
  EXPECT_TRUE(close(f, reference::token_feature(array(x), array(each))));
  token_feature(x, shared, f);
  Tensor<T, 2> repeated(3, 8);
  for (Index h = 0; h < 3; ++h) repeated.chip(h, 0) = shared.chip(0, 0);
  EXPECT_TRUE(close(f, reference::token_feature(array(x), array(repeated))));
}

// ---- errors

TYPED_TEST(Temperatures, AreOnePerTokenOfEachHeadOrOfAll) {
  using T = TypeParam;
  const Inputs<T> in = inputs<T>(Shape{1, 4, 2, 5, 7, 8, 8}, 1);
  const Tensor<T, 3> two = normal<T>(1, 1, 2, 5), short_q = normal<T>(1, 1, 4, 4),
                     four = normal<T>(1, 1, 4, 7), three = normal<T>(1, 1, 3, 7);
  expect_refusal<ShapeError>(in, this->of(two, {}, {}, false).variant(),
                             "query_temperature is [1, 2, 5]");
  expect_refusal<ShapeError>(in, this->of(short_q, {}, {}, false).variant(),
                             "query_temperature is [1, 4, 4]");
  expect_refusal<ShapeError>(in, this->of({}, four, {}, false).variant(),
                             "key_temperature is [1, 4, 7]");
  expect_refusal<ShapeError>(in, this->of({}, {}, three, false).variant(),
                             "value_temperature is [1, 3, 7]");
}

TYPED_TEST(Temperatures, AndFeaturesFitTheirTensors) {
  using T = TypeParam;
  const Tensor<T> x = normal<T>(1, 2, 3, 20, 8);
  const Tensor<T, 2> wrong = normal<T>(1, 2, 8), right = normal<T>(1, 3, 8);
  Tensor<T, 3> f(2, 3, 20), short_f(2, 3, 19);
  EXPECT_THROW(token_feature(x, wrong, f), ShapeError);
  EXPECT_THROW(token_feature(x, right, short_f), ShapeError);
  EXPECT_THROW(temperatures(f, {}, short_f), ShapeError);
  EXPECT_THROW(temperatures(f, {.position = {}, .offset = -1}, f), ValueError);
}

}  // namespace
}  // namespace heed::test
