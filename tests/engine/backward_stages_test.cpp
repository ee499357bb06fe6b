// SPDX-License-Identifier: MIT
// Gradients of each stage and of many at once, against the oracle and against differences.

#include "support/mixtures.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <string>
#include <utility>

namespace heed::test {
namespace {

/// Heads, groups and dimensions of all kinds, at sizes no block divides.
Shape any_shape(Random& random, Index most) {
  const Index G = random.integer(1, 4), queries = random.integer(1, most);
  return {.batch = random.integer(1, 3),
          .heads = G * random.integer(1, 4),
          .key_heads = G,
          .queries = queries,
          .keys = queries + random.integer(0, most / 2),
          .dim = random.integer(1, 40),
          .value_dim = random.integer(1, 40)};
}

// ---- against the oracle

template <class T>
class BackwardThroughStages : public testing::Test {};
TYPED_TEST_SUITE(BackwardThroughStages, Scalars, ScalarName);

TYPED_TEST(BackwardThroughStages, MatchesTheOracleForEach) {
  using T = TypeParam;
  const Shape s = tokens(53, 8, 4, 2, 2);
  for (const auto& [name, mixture] : each_stage<T>(s)) {
    SCOPED_TRACE(name);
    expect_oracle_gradients(inputs<T>(s, 1), mixture, 2);
  }
}

TYPED_TEST(BackwardThroughStages, MatchesTheOracleForManyAtOnce) {
  using T = TypeParam;
  Random random(5);
  for (std::uint64_t trial = 0; trial < 40; ++trial) {
    const Shape s = any_shape(random, 130);
    SCOPED_TRACE(testing::Message() << "trial " << trial << ", " << describe(s));
    expect_oracle_gradients(inputs<T>(s, 100 + trial, 0.7), Mixer<T>(s, 7000 * trial).any(), 3);
  }
}

/// A cap, a bias and sinks before a selection also run in the library's own blocks.
TYPED_TEST(BackwardThroughStages, DoesNotDependOnTheBlocks) {
  using T = TypeParam;
  for (const Index n : {1, 5, 97, 200}) {
    const Shape s = tokens(n, 20, 4, 2, 2);
    const Inputs<T> in = inputs<T>(s, std::uint64_t(n));
    const Tensor<T> grad_out = cotangent(in, 4);
    for (const bool shapes : {false, true})
      for (const int bits : {-1, 31, 23, 29}) {
        SCOPED_TRACE(testing::Message() << n << " tokens, shapes " << shapes << ", bits " << bits);
        Mixer<T> mixer(s, 50);
        Mixture<T> m;
        m.causal = true;
        if (shapes) m.cap = 2, mixer.bias(m, 5), mixer.sinks(m);
        if (bits >= 0) mixer.selection(m, bits, bits == 23);
        const Mixed<T> known = attend(in, m);
        const Gradients<T> usual = m.backward(in, known, grad_out),
                           tiny = m.backward(in, known, grad_out, {}, true);
        expect_close(usual, tiny);
        expect_close(usual, oracle_gradients(in, m, grad_out));
      }
  }
}

// ---- against differences, in double

/// What a mixture makes of its inputs, as one number.
double loss(const Inputs<double>& in, const Mixture<double>& m, const Tensor<double>& grad_out) {
  const auto total = [](const auto& x, const auto& y) {
    double sum = 0;
    for (Index i = 0; i < y.size(); ++i)
      if (y.data()[i] != 0 && std::isfinite(x.data()[i])) sum += x.data()[i] * y.data()[i];
    return sum;
  };
  const Mixed<double> got = attend(in, m);
  return total(got.out, grad_out) + total(got.carry, m.grad_carry_out) +
         total(got.memory, m.grad_memory) + total(got.lse, m.grad_lse);
}

/// Every tensor in a direction by chance, and α.
void expect_differences(const Shape& s, Mixture<double> m, std::uint64_t seed) {
  Inputs<double> in = inputs<double>(s, seed, 0.7);
  const Tensor<double> grad_out = cotangent(in, seed + 1);
  const Gradients<double> got = gradients(in, m, grad_out);
  constexpr double step = 1e-7;
  const auto expect = [&](const char* what, auto& x, const auto& grad) {
    if (x.size() == 0) return;
    auto direction = x;
    Random random(seed + 2);
    double want = 0;
    for (Index i = 0; i < x.size(); ++i) {
      direction.data()[i] = random.normal();
      want += direction.data()[i] * grad.data()[i];
    }
    const auto kept = x;
    x = kept + direction * direction.constant(step);
    const double above = loss(in, m, grad_out);
    x = kept - direction * direction.constant(step);
    const double below = loss(in, m, grad_out);
    x = kept;
    EXPECT_NEAR((above - below) / (2 * step), want, 2e-6 * std::max(1., std::abs(want))) << what;
  };
  expect("q", in.q, got.q), expect("k", in.k, got.k), expect("v", in.v, got.v);
  expect("tau_q", m.tau_q, got.tau_q), expect("tau_k", m.tau_k, got.tau_k);
  expect("tau_v", m.tau_v, got.tau_v), expect("bias", m.bias, got.bias);
  expect("slopes", m.slopes, got.slopes), expect("sinks", m.sinks, got.sinks);
  expect("carry_in", m.carry_in, got.carry_in);
  expect("sel_q", m.sel_q, got.sel_q), expect("sel_k", m.sel_k, got.sel_k);
  if (!m.position) return;
  const double alpha = m.position->alpha;
  m.position->alpha = alpha + step;
  const double above = loss(in, m, grad_out);
  m.position->alpha = alpha - step;
  const double below = loss(in, m, grad_out);
  EXPECT_NEAR((above - below) / (2 * step), got.alpha, 2e-6 * std::max(1., std::abs(got.alpha)))
      << "alpha";
}

TEST(BackwardDifferences, AgreeForEachStage) {
  const Shape s = tokens(37, 7, 4, 2, 2);
  for (const auto& [name, mixture] : each_stage<double>(s)) {
    SCOPED_TRACE(name);
    expect_differences(s, mixture, 11);
  }
}

TEST(BackwardDifferences, AgreeAtSizesNoBlockDivides) {
  for (const Index n : {1, 5, 37, 95, 97, 130, 200})
    for (const auto& [H, G] : {std::pair<Index, Index>{1, 1}, {4, 2}, {3, 1}})
      for (const bool selects : {false, true}) {
        Shape s = tokens(n, 9, H, G);
        s.value_dim = 5;
        SCOPED_TRACE(describe(s));
        Mixture<double> m;
        m.causal = true;
        m.selects = selects;
        expect_differences(s, m, std::uint64_t(n));
      }
}

TEST(BackwardDifferences, AgreeForManyStagesAtOnce) {
  Random random(9);
  for (std::uint64_t trial = 0; trial < 40; ++trial) {
    const Shape s = any_shape(random, 70);
    SCOPED_TRACE(testing::Message() << "trial " << trial << ", " << describe(s));
    expect_differences(s, Mixer<double>(s, 9000 * trial).any(), 200 + trial);
  }
}

TEST(BackwardDifferences, AgreeUnderDropout) {
  for (const double dropped : {0.1, 0.8}) {
    const Shape s = tokens(70, 9, 4, 2, 2);
    Mixture<double> m;
    m.causal = true;
    m.dropped = dropped;
    expect_differences(s, m, 21);
    Mixer<double> mixer(s, 22);
    mixer.selection(m, 31, false), mixer.sinks(m), mixer.taus(m, true);
    expect_differences(s, m, 23);
  }
}

}  // namespace
}  // namespace heed::test
