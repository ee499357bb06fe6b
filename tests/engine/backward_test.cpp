// SPDX-License-Identifier: MIT
// Gradients against the golden ones, and against the oracle's at every size.

#include "heed/engine/backward.hpp"

#include "support/fixtures.hpp"
#include "support/gradients.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>

namespace heed::test {
namespace {

template <class T>
class Backward : public testing::Test {
 protected:
  static Mixture<T> causally(bool selects = false) {
    Mixture<T> m;
    m.causal = true;
    m.selects = selects;
    return m;
  }
};
TYPED_TEST_SUITE(Backward, Scalars, ScalarName);

// ---- the golden cases

template <class T>
Inputs<T> inputs_of(const Fixture& f, const std::string& layer = "") {
  return {tensor<T>(f.array("q" + layer)), tensor<T>(f.array("k" + layer)),
          tensor<T>(f.array("v" + layer))};
}

template <class T>
Mixture<T> mixture_of(const Fixture& f) {
  Mixture<T> m;
  m.causal = !f.has_parameter("causal") || f.number("causal") != 0;
  if (f.has("lengths")) m.length = tensor<std::int64_t, 1>(f.array("lengths"));
  if (f.has("mask")) {
    const reference::Array& mask = f.array("mask");
    m.mask = Tensor<bool>(1, 1, mask.dim(0), mask.dim(1));
    std::transform(mask.values.begin(), mask.values.end(), m.mask.data(),
                   [](double x) { return x != 0; });
  }
  m.selects = f.text("kind").starts_with("selective");
  if (f.has_parameter("head"))
    m.select = {.head = Index(f.number("head")),
                .relu = f.number("relu") != 0,
                .protect_first = f.number("protect_first") != 0,
                .forbid_self = f.number("forbid_self") != 0,
                .accumulate = f.number("accumulate") != 0,
                .shift = f.number("shift") != 0};
  if (f.has_parameter("q_offset")) m.offset = Index(f.number("q_offset"));
  if (f.has("carry_in")) m.carry_in = tensor<T, 2>(f.array("carry_in"));
  if (f.has("sel_q")) {
    m.sel_q = tensor<T, 3>(f.array("sel_q"));
    m.sel_k = tensor<T, 3>(f.array("sel_k"));
  }
  return m;
}

template <class T>
void expect_golden(const Fixture& f, const Gradients<T>& got) {
  const auto expect = [&](const auto& x, const char* name) {
    EXPECT_TRUE(close(x, f.array(name))) << name;
  };
  expect(got.q, "dq"), expect(got.k, "dk"), expect(got.v, "dv");
  if (f.has("dcarry_in")) expect(got.carry_in, "dcarry_in");
  if (f.has("dsel_q")) expect(got.sel_q, "dsel_q"), expect(got.sel_k, "dsel_k");
}

TYPED_TEST(Backward, GivesTheGoldenGradients) {
  using T = TypeParam;
  int cases = 0;
  for (const char* kind : {"standard", "selective", "selective_chunk"})
    for (const std::string& name : fixtures_of_kind(kind)) {
      SCOPED_TRACE(name);
      const Fixture& f = fixture(name);
      const Inputs<T> in = inputs_of<T>(f);
      const Mixture<T> m = mixture_of<T>(f);
      const Tensor<T> grad_out = tensor<T>(f.array("dout"));
      const Mixed<T> known = attend(in, m);
      expect_golden(f, m.backward(in, known, grad_out));
      expect_golden(f, m.backward(in, known, grad_out, {}, true));
      ++cases;
    }
  EXPECT_EQ(cases, 25);
}

/// The same problem through a window, which skips blocks, instead of a mask.
TYPED_TEST(Backward, UnderAWindowGivesTheGoldenGradients) {
  using T = TypeParam;
  for (const char* name : {"sel_window", "mas_window4"}) {
    const Fixture& f = fixture(name);
    Mixture<T> m = mixture_of<T>(f);
    m.mask = {};
    m.left = m.selects ? 6 : 4;
    expect_golden(f, gradients(inputs_of<T>(f), m, tensor<T>(f.array("dout"))));
  }
}

/// The magnitude of what is added up to ∂α, which may cancel: Σ |∂τ| log n |g′(α)|, at least one.
double terms(const reference::Array& grad_tau, const Gain& gain) {
  const Index tokens = grad_tau.dims.back();
  double sum = 0;
  for (Index at = 0; at < grad_tau.size(); ++at)
    sum += std::abs(grad_tau.values[std::size_t(at)]) * std::log(double(at % tokens + 1));
  return std::max(1., sum * std::abs(gain.slope()));
}

TYPED_TEST(Backward, GivesTheGoldenGradientsOfTemperatures) {
  using T = TypeParam;
  for (const char* name : {"ssa_full_causal", "ssa_full_noncausal"}) {
    SCOPED_TRACE(name);
    const Fixture& f = fixture(name);
    const auto rule = [&](const std::string& of) {
      return TemperatureRule{Gain{Gain::sigmoid, f.number("alpha_" + of)}, 0};
    };
    const auto tau = [&](const std::string& of) {
      Tensor<T, 3> x = tensor<T, 3>(f.array("f_" + of));
      temperatures(x, rule(of), x);
      return x;
    };
    Mixture<T> m = mixture_of<T>(f);
    m.tau_q = tau("q"), m.tau_k = tau("k"), m.tau_v = tau("v");
    const Gradients<T> got = gradients(inputs_of<T>(f), m, tensor<T>(f.array("dout")));
    expect_golden(f, got);
    const auto expect = [&](const Tensor<T, 3>& grad_tau, const std::string& of) {
      EXPECT_TRUE(close(grad_tau, f.array("dtau_" + of))) << of;
      Tensor<T, 3> grad_f(grad_tau.dimensions());
      const double grad_alpha =
          temperatures_backward(tensor<T, 3>(f.array("f_" + of)), rule(of), grad_tau, grad_f);
      EXPECT_TRUE(close(grad_f, f.array("df_" + of))) << of;
      EXPECT_NEAR(grad_alpha, f.array("dalpha_" + of)(0),
                  tolerance<T> * terms(f.array("dtau_" + of), rule(of).position.value()))
          << of;
    };
    expect(got.tau_q, "q"), expect(got.tau_k, "k"), expect(got.tau_v, "v");
  }
}

TYPED_TEST(Backward, GivesTheGoldenGradientsOfPositionTemperatures) {
  using T = TypeParam;
  for (const char* name : {"ssa_pos_gompertz", "ssa_pos_sigmoid"}) {
    SCOPED_TRACE(name);
    const Fixture& f = fixture(name);
    const Gain gain{f.text("gain") == "sigmoid" ? Gain::sigmoid : Gain::gompertz, f.number("beta")};
    const double want = f.array("dbeta")(0),
                 allowed = tolerance<T> * terms(f.array("dtau_q"), gain);
    Mixture<T> on_the_fly = mixture_of<T>(f);
    on_the_fly.position = gain;
    const Gradients<T> got = gradients(inputs_of<T>(f), on_the_fly, tensor<T>(f.array("dout")));
    expect_golden(f, got);
    EXPECT_NEAR(got.alpha, want, allowed);

    Mixture<T> as_tensor = mixture_of<T>(f);
    as_tensor.tau_q = Tensor<T, 3>(1, 1, 27);
    temperatures<T>({}, {gain, 0}, as_tensor.tau_q);
    const Gradients<T> same = gradients(inputs_of<T>(f), as_tensor, tensor<T>(f.array("dout")));
    expect_golden(f, same);
    reference::Array grad_tau = f.array("dtau_q");
    grad_tau.dims = {1, 1, 27};
    EXPECT_TRUE(close(same.tau_q, grad_tau));
    const View<T, 3> none;
    EXPECT_NEAR(temperatures_backward(none, TemperatureRule{gain, 0}, same.tau_q, none), want,
                allowed);
  }
}

// ---- sizes: neither of them a multiple of a row group, a panel, a row block or a key block

TYPED_TEST(Backward, MatchesTheOracleAtEveryNumberOfTokens) {
  using T = TypeParam;
  for (const Index n : {1, 2, 3, 4, 5, 11, 13, 37, 95, 96, 97, 130, 200})
    for (const bool selects : {false, true}) {
      SCOPED_TRACE(testing::Message() << n << (selects ? " tokens, selective" : " tokens"));
      expect_oracle_gradients(inputs<T>(tokens(n, 12, 2, 1), std::uint64_t(n)),
                              this->causally(selects), 99);
    }
}

TYPED_TEST(Backward, MatchesTheOracleWithMoreKeysThanQueriesAndMoreQueriesThanKeys) {
  using T = TypeParam;
  for (const Shape& s : {Shape{1, 2, 1, 1, 130, 16, 16}, Shape{1, 2, 1, 5, 97, 16, 16},
                         Shape{2, 2, 2, 37, 200, 9, 5}, Shape{1, 1, 1, 130, 37, 8, 24},
                         Shape{1, 3, 1, 97, 1, 8, 8}}) {
    SCOPED_TRACE(describe(s));
    const Inputs<T> in = inputs<T>(s, 7);
    expect_oracle_gradients(in, Mixture<T>(), 8);
    if (s.keys < s.queries) continue;
    for (const bool selects : {false, true}) {
      Mixture<T> m = this->causally(selects);
      m.offset = s.keys - s.queries;
      expect_oracle_gradients(in, m, 9);
    }
  }
}

TYPED_TEST(Backward, MatchesTheOracleForEveryGrouping) {
  using T = TypeParam;
  const std::array<std::array<Index, 2>, 6> heads{{{1, 1}, {3, 3}, {4, 2}, {6, 2}, {8, 1}, {5, 5}}};
  for (const auto& [H, G] : heads)
    for (const bool selects : {false, true}) {
      const Shape s = tokens(40, 10, H, G, 2);
      SCOPED_TRACE(describe(s));
      expect_oracle_gradients(inputs<T>(s, std::uint64_t(H)), this->causally(selects), 11);
    }
}

TYPED_TEST(Backward, MatchesTheOracleAtEveryHeadDimension) {
  using T = TypeParam;
  const std::array<std::array<Index, 2>, 12> dims{{{1, 1},
                                                   {2, 3},
                                                   {3, 1},
                                                   {7, 8},
                                                   {15, 17},
                                                   {16, 16},
                                                   {33, 31},
                                                   {40, 24},
                                                   {64, 65},
                                                   {80, 7},
                                                   {128, 128},
                                                   {129, 256}}};
  for (const auto& [D, Dv] : dims)
    for (const bool selects : {false, true}) {
      const Shape s{.batch = 1,
                    .heads = 2,
                    .key_heads = 1,
                    .queries = 29,
                    .keys = 29,
                    .dim = D,
                    .value_dim = Dv};
      SCOPED_TRACE(describe(s));
      expect_oracle_gradients(inputs<T>(s, std::uint64_t(D)), this->causally(selects), 12);
    }
}

/// F of some hundreds, which weights must forget and gradients too.
TYPED_TEST(Backward, MatchesTheOracleWhereScoresAreLarge) {
  using T = TypeParam;
  for (const bool selects : {false, true})
    expect_oracle_gradients(inputs<T>(tokens(130, 16, 2, 2), 13, 2), this->causally(selects), 14);
}

TYPED_TEST(Backward, LeavesEmptyTensorsEmpty) {
  using T = TypeParam;
  for (const Shape& s :
       {Shape{0, 2, 1, 5, 5, 8, 8}, Shape{1, 0, 0, 5, 5, 8, 8}, Shape{1, 2, 1, 0, 0, 8, 8},
        Shape{2, 2, 1, 0, 7, 8, 8}, Shape{2, 2, 1, 7, 0, 8, 8}, Shape{1, 2, 1, 5, 5, 8, 0}})
    for (const bool selects : {false, true}) {
      if (selects && s.heads == 0) continue;
      SCOPED_TRACE(describe(s));
      Mixture<T> m = this->causally(selects);
      m.causal = s.queries == s.keys;
      const Inputs<T> in = inputs<T>(s, 15);
      const Gradients<T> got = gradients(in, m, cotangent(in, 16));
      if (s.value_dim > 0 && s.queries > 0 && s.keys > 0) continue;
      for (const Tensor<T>* x : {&got.q, &got.k, &got.v})
        for (Index i = 0; i < x->size(); ++i) ASSERT_EQ(x->data()[i], T(0));
    }
}

}  // namespace
}  // namespace heed::test
