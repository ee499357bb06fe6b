// SPDX-License-Identifier: MIT
// Calls of no rows, no batch entries or no heads: there is nothing to attend to, but what the
// stages hand out is written all the same.

#include "heed/engine/backward.hpp"
#include "heed/engine/weights.hpp"
#include "heed/score/alibi.hpp"
#include "heed/score/bias.hpp"
#include "heed/score/causal.hpp"
#include "heed/score/position_temperature.hpp"
#include "heed/score/query_offset.hpp"
#include "heed/score/selective.hpp"
#include "heed/score/sinks.hpp"
#include "heed/score/standard.hpp"
#include "heed/score/when.hpp"
#include "support/calls.hpp"

#include <gtest/gtest.h>

#include <limits>

namespace heed::test {
namespace {

template <class T>
class NothingToDo : public testing::Test {
 protected:
  static constexpr T nan = std::numeric_limits<T>::quiet_NaN();

  template <int Rank>
  static testing::AssertionResult is_zero(const Tensor<T, Rank>& x) {
    Tensor<T, Rank> zero = x;
    zero.setZero();
    return same_bits(x, zero);
  }
};
TYPED_TEST_SUITE(NothingToDo, Scalars, ScalarName);

TYPED_TEST(NothingToDo, ForNoRowsHandsTheCarryOn) {
  using T = TypeParam;
  for (const Shape& s : {Shape{2, 4, 2, 0, 70, 8, 8}, Shape{1, 1, 1, 0, 1, 8, 8}}) {
    SCOPED_TRACE(describe(s));
    const Inputs<T> in = inputs<T>(s, 1);
    const Tensor<T, 2> before = uniform<T>(2, s.batch, s.keys);
    Tensor<T, 2> after(s.batch, s.keys);
    after.setConstant(this->nan);
    const auto after_a_past = query_offset(s.keys) | standard | causal;
    attend(in, after_a_past | selective.carry_in(before).carry_out(after));
    EXPECT_TRUE(close(after, before));
    after.setConstant(this->nan);
    attend(in, after_a_past | selective.carry_out(after));
    EXPECT_TRUE(this->is_zero(after));
  }
}

TYPED_TEST(NothingToDo, ForNoRowsShowsNoWeights) {
  using T = TypeParam;
  const Inputs<T> in = inputs<T>({1, 2, 1, 0, 9, 8, 8}, 3);
  for (const bool selects : {false, true}) {
    const auto variant = query_offset(9) | standard | causal | when(selects, selective);
    const Outputs<T> known = attend(in, variant);
    Tensor<T, 2> shown(0, 9);
    weights(in.q, in.k, variant, known.lse, {.head = 1, .rows = 0}, shown);
    EXPECT_EQ(shown.size(), 0);
  }
}

/// Gradients of tensors that batch entries share are sums of nothing; so are all keys' if there is
/// no head to see them.
TYPED_TEST(NothingToDo, LeavesGradientsOfZero) {
  using T = TypeParam;
  for (const Shape& s : {Shape{0, 4, 2, 6, 6, 8, 5}, Shape{2, 0, 2, 6, 6, 8, 5},
                         Shape{1, 4, 2, 0, 6, 8, 5}, Shape{0, 0, 1, 0, 0, 8, 5}}) {
    SCOPED_TRACE(describe(s));
    const Inputs<T> in = inputs<T>(s, 4);
    const Tensor<T, 1> slopes = uniform<T>(5, s.heads), logits = uniform<T>(6, s.heads);
    const Tensor<T> values = normal<T>(7, 1, 1, 1, 1);
    const Tensor<T, 3> tau = normal<T>(8, s.batch, s.key_heads, s.keys);
    Tensor<T, 1> grad_slopes = slopes, grad_sinks = logits;
    Tensor<T> grad_values = values, grad_q = in.q, grad_k = in.k, grad_v = in.v;
    Tensor<T, 3> grad_tau = tau;
    double grad_alpha = this->nan;
    const auto spoil = [&](auto& x) { x.setConstant(this->nan); };
    spoil(grad_slopes), spoil(grad_sinks), spoil(grad_values), spoil(grad_tau);
    spoil(grad_q), spoil(grad_k), spoil(grad_v);

    const auto variant = position_temperature({Gain::sigmoid, 0.3}).grad(&grad_alpha) |
                         key_temperature(tau).grad(grad_tau) | standard |
                         bias(values).grad(grad_values) | alibi(slopes).grad(grad_slopes) |
                         causal_bottom_right | sinks(logits).grad(grad_sinks);
    const Outputs<T> known = attend(in, variant);
    const Tensor<T> grad_out = known.out;
    backward(in.q, in.k, in.v, variant, known.out, known.lse, grad_out, grad_q, grad_k, grad_v);
    EXPECT_EQ(grad_alpha, 0);
    EXPECT_TRUE(this->is_zero(grad_slopes)) << "slopes";
    EXPECT_TRUE(this->is_zero(grad_sinks)) << "sinks";
    EXPECT_TRUE(this->is_zero(grad_values)) << "bias";
    EXPECT_TRUE(this->is_zero(grad_tau)) << "key temperatures";
    EXPECT_TRUE(this->is_zero(grad_k)) << "k";
    EXPECT_TRUE(this->is_zero(grad_v)) << "v";
    EXPECT_EQ(grad_q.size(), 0);
  }
}

}  // namespace
}  // namespace heed::test
