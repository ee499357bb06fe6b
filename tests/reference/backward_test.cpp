// SPDX-License-Identifier: MIT
// The oracle's gradients against the golden cases, to rounding, and against differences of its own
// outputs where no golden case reaches.

#include "reference/backward.hpp"

#include "reference/memory_loss.hpp"
#include "support/golden.hpp"
#include "support/random.hpp"

#include <cmath>
#include <functional>

namespace heed::test {
namespace {

using reference::Array;

reference::Rules seeing(reference::Visible visible) {
  reference::Rules rules;
  rules.visible = std::move(visible);
  return rules;
}

class ReferenceGradients : public GoldenCase {
 protected:
  using GoldenCase::expect;
  const Array &q = f.array("q"), &k = f.array("k"), &v = f.array("v");

  reference::Cotangents given() const {
    reference::Cotangents c;
    c.out = f.array("dout");
    return c;
  }
  void expect(const reference::Gradients& got) {
    expect(got.q, "dq"), expect(got.k, "dk"), expect(got.v, "dv");
  }
};

using StandardGradients = ReferenceGradients;
INSTANTIATE_TEST_SUITE_P(Fixtures, StandardGradients,
                         testing::ValuesIn(fixtures_of_kind("standard")), name_of);

TEST_P(StandardGradients, AreTheGoldenOnes) {
  reference::Rules rules;
  if (f.number("causal") != 0) rules.visible = reference::causal();
  if (f.has("mask"))
    rules.visible = rules.visible && reference::boolean_mask(as_rank_4(f.array("mask")));
  expect(attention_backward(q, k, v, rules, given()));
}

using SelectiveGradients = ReferenceGradients;
INSTANTIATE_TEST_SUITE_P(Fixtures, SelectiveGradients,
                         testing::ValuesIn(fixtures_of_kind("selective")), name_of);

TEST_P(SelectiveGradients, AreTheGoldenOnes) {
  reference::Rules rules = seeing(reference::causal());
  if (f.has("mask"))
    rules.visible = rules.visible && reference::boolean_mask(as_rank_4(f.array("mask")));
  if (f.has("lengths")) {
    const auto lengths = integers(f.array("lengths"));
    rules.visible =
        rules.visible && reference::key_lengths(lengths) && reference::row_lengths(lengths);
  }
  reference::Selection s;
  s.head = reference::Index(f.number("head"));
  s.relu = f.number("relu") != 0;
  s.protect_first = f.number("protect_first") != 0;
  s.forbid_self = f.number("forbid_self") != 0;
  s.accumulate = f.number("accumulate") != 0;
  s.shift = f.number("shift") != 0;
  if (f.has("sel_q")) {
    s.sel_q = f.array("sel_q");
    s.sel_k = f.array("sel_k");
  }
  const reference::Gradients got = selective_backward(q, k, v, rules, s, given());
  expect(got);
  if (f.has("sel_q")) expect(got.sel_q, "dsel_q"), expect(got.sel_k, "dsel_k");
}

TEST(SelectiveChunkGradients, AreTheGoldenOnes) {
  const Fixture& f = fixture("sel_chunk");
  reference::Rules rules = seeing(reference::causal());
  rules.offset = reference::Index(f.number("q_offset"));
  reference::Selection s;
  s.carry_in = f.array("carry_in");
  reference::Cotangents given;
  given.out = f.array("dout");
  const reference::Gradients got =
      selective_backward(f.array("q"), f.array("k"), f.array("v"), rules, s, given);
  EXPECT_TRUE(close(got.q, f.array("dq"), exact));
  EXPECT_TRUE(close(got.k, f.array("dk"), exact));
  EXPECT_TRUE(close(got.v, f.array("dv"), exact));
  EXPECT_TRUE(close(got.carry_in, f.array("dcarry_in"), exact));
}

TEST(MemoryLossGradients, AreTheGoldenOnes) {
  const Fixture& f = fixture("lmem_2layers");
  const auto lengths = integers(f.array("lengths"));
  std::vector<Array> use;
  for (const char* layer : {"0", "1"}) {
    const auto a = reference::selective_attention(f.array(std::string("q") + layer),
                                                  f.array(std::string("k") + layer),
                                                  f.array(std::string("v") + layer));
    use.push_back(memory_use(a.f, f.number("tau")));
  }
  const std::vector<Array> grad = memory_loss_backward(use, f.number("eps"), lengths);
  for (std::size_t l = 0; l < 2; ++l) {
    const std::string layer = std::to_string(l);
    const Array &q = f.array("q" + layer), &k = f.array("k" + layer), &v = f.array("v" + layer);
    reference::Cotangents given;
    given.out = Array(q.dims);
    given.memory = grad[l];
    given.memory_tau = f.number("tau");
    const auto got = selective_backward(q, k, v, seeing(reference::causal()), {}, given);
    EXPECT_TRUE(close(got.q, f.array("dq" + layer), exact)) << layer;
    EXPECT_TRUE(close(got.k, f.array("dk" + layer), exact)) << layer;
  }
}

using SsaGradients = ReferenceGradients;
INSTANTIATE_TEST_SUITE_P(Fixtures, SsaGradients, testing::ValuesIn(fixtures_of_kind("ssa")),
                         name_of);

TEST_P(SsaGradients, AreTheGoldenOnes) {
  const auto gain =
      f.text("gain") == "sigmoid" ? reference::Gain::sigmoid : reference::Gain::gompertz;
  reference::Rules rules;
  if (f.number("causal") != 0) rules.visible = reference::causal();
  if (f.has("f_q")) {
    rules.tau_q = temperatures(f.array("f_q"), gain, f.number("alpha_q"));
    rules.tau_k = temperatures(f.array("f_k"), gain, f.number("alpha_k"));
    rules.tau_v = temperatures(f.array("f_v"), gain, f.number("alpha_v"));
  } else {
    rules.tau_q = reference::position_temperatures(27, gain, f.number("beta"));
  }
  const reference::Gradients got = attention_backward(q, k, v, rules, given());
  expect(got);
  const auto expect_parameters = [&](const Array& grad_tau, const std::string& of) {
    expect(grad_tau, "dtau_" + of);
    const auto parameters =
        temperatures_backward(f.array("f_" + of), gain, f.number("alpha_" + of), grad_tau);
    expect(parameters.f, "df_" + of);
    EXPECT_NEAR(parameters.alpha, f.array("dalpha_" + of)(0), exact);
  };
  if (f.has("f_q")) {
    expect_parameters(got.tau_q, "q");
    expect_parameters(got.tau_k, "k");
    expect_parameters(got.tau_v, "v");
  } else {
    Array grad_tau = got.tau_q;
    grad_tau.dims = {1, 27};
    expect(grad_tau, "dtau_q");
    EXPECT_NEAR(temperatures_backward({}, gain, f.number("beta"), got.tau_q).alpha,
                f.array("dbeta")(0), exact);
  }
}

// ---- against differences, for what no golden case has

Array random(std::uint64_t seed, std::vector<reference::Index> dims) {
  Array x(std::move(dims));
  Random numbers(seed);
  for (double& value : x.values) value = numbers.normal();
  return x;
}

/// Σ x · y.
double total(const Array& x, const Array& y) {
  double sum = 0;
  for (std::size_t i = 0; i < x.values.size(); ++i) sum += x.values[i] * y.values[i];
  return sum;
}

/// Every entry of x, of which `loss` depends, against the difference it makes.
void expect_differences(Array& x, const Array& grad, const std::function<double()>& loss,
                        const char* what) {
  ASSERT_EQ(x.dims, grad.dims) << what;
  constexpr double step = 1e-5;
  for (std::size_t i = 0; i < x.values.size(); ++i) {
    const double kept = x.values[i];
    x.values[i] = kept + step;
    const double above = loss();
    x.values[i] = kept - step;
    const double below = loss();
    x.values[i] = kept;
    ASSERT_NEAR((above - below) / (2 * step), grad.values[i],
                1e-7 * std::max(1., std::abs(grad.values[i])))
        << what << " at " << place(x, std::ptrdiff_t(i));
  }
}

TEST(ReferenceDifferences, AgreeUnderEverythingAtOnce) {
  const reference::Index B = 2, H = 4, G = 2, Nq = 5, Nk = 8, D = 3, Dv = 2;
  Array q = random(1, {B, H, Nq, D}), k = random(2, {B, G, Nk, D}), v = random(3, {B, G, Nk, Dv});
  reference::Rules rules = seeing(reference::causal() && reference::window(6, 0));
  rules.offset = 3;
  rules.softcap = 2;
  rules.tau_q = random(4, {B, 1, Nq});
  rules.tau_k = random(5, {B, G, Nk});
  rules.tau_v = random(6, {B, 1, Nk});
  rules.bias = random(7, {1, H, 1, Nk});
  rules.slopes = random(8, {H});
  rules.sinks = random(9, {H});
  rules.score = [](double s, const reference::Pair&) { return s + 0.1 * s * s; };
  reference::Selection s;
  s.carry_in = random(10, {B, Nk});
  reference::Cotangents given;
  given.out = random(11, {B, H, Nq, Dv});
  given.carry_out = random(12, {B, Nk});
  given.memory = random(13, {B, Nq});
  given.memory_tau = 0.7;
  given.score_slope = [](double x, const reference::Pair&) { return 1 + 0.2 * x; };

  for (const int bits : {63, 31, 47, 55, 59, 61, 62, 0}) {
    SCOPED_TRACE(bits);
    s.relu = (bits & 1) != 0, s.protect_first = (bits & 2) != 0, s.forbid_self = (bits & 4) != 0;
    s.accumulate = (bits & 8) != 0, s.shift = (bits & 16) != 0;
    s.head = (bits & 1) != 0 ? 1 : 3;
    s.sel_q = (bits & 32) != 0 ? Array() : random(14, {B, Nq, 2});
    s.sel_k = (bits & 32) != 0 ? Array() : random(15, {B, Nk, 2});
    const auto loss = [&] {
      const auto a = selective_attention(q, k, v, rules, s);
      return total(a.out, given.out) + total(a.carry_out, given.carry_out) +
             total(memory_use(a.f, given.memory_tau, rules.offset), given.memory);
    };
    const reference::Gradients got = selective_backward(q, k, v, rules, s, given);
    expect_differences(q, got.q, loss, "q");
    expect_differences(k, got.k, loss, "k");
    expect_differences(v, got.v, loss, "v");
    expect_differences(rules.tau_q, got.tau_q, loss, "tau_q");
    expect_differences(rules.tau_k, got.tau_k, loss, "tau_k");
    expect_differences(rules.tau_v, got.tau_v, loss, "tau_v");
    expect_differences(rules.bias, got.bias, loss, "bias");
    expect_differences(rules.slopes, got.slopes, loss, "slopes");
    expect_differences(rules.sinks, got.sinks, loss, "sinks");
    expect_differences(s.carry_in, got.carry_in, loss, "carry_in");
    if (s.sel_q.empty()) continue;
    expect_differences(s.sel_q, got.sel_q, loss, "sel_q");
    expect_differences(s.sel_k, got.sel_k, loss, "sel_k");
  }
}

}  // namespace
}  // namespace heed::test
