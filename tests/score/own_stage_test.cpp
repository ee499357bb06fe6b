// SPDX-License-Identifier: MIT
// A stage of the user's own: whatever hooks it defines are used, and no flag is needed beside them.

#include "heed/engine/backward.hpp"
#include "heed/kv/kv_buffer.hpp"
#include "heed/score/causal.hpp"
#include "heed/score/stage.hpp"
#include "heed/score/standard.hpp"
#include "heed/score/when.hpp"
#include "reference/backward.hpp"
#include "support/calls.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <optional>

namespace heed::test {
namespace {

template <class T, class F>
HEED_INLINE Batch<T> by_key(const Lanes<T>& at, F&& f) {
  T lanes[std::size_t(simd::width<T>)];
  for (Index i = 0; i < simd::width<T>; ++i) lanes[i] = T(f(at.key + i));
  return simd::load(lanes);
}

/// A mask that does not answer for whole tiles.
struct EveryThirdMasked : StageOf<Rank::mask> {
  template <class T>
  HEED_INLINE Mask<T> visible(const Mask<T>& m, const Lanes<T>& at) const {
    return m & (by_key(at, [](Index j) { return j % 3 != 0; }) > Batch<T>(T(0)));
  }
};

/// s ← s + s³ / 10, in natural units; with the adjoint beside it.
struct Cubic : StageOf<Rank::bias> {
  template <class T>
  HEED_INLINE Batch<T> score(const Batch<T>& s, const Lanes<T>&) const {
    const Batch<T> x = s * Batch<T>(simd::ln2<T>);
    return (x + x * x * x * Batch<T>(T(0.1))) * Batch<T>(simd::log2e<T>);
  }
  template <class T>
  HEED_INLINE Batch<T> grad_score(const Batch<T>& grad, const Batch<T>& s, const Lanes<T>&) {
    const Batch<T> x = s * Batch<T>(simd::ln2<T>);
    return grad * (Batch<T>(T(1)) + x * x * Batch<T>(T(0.3)));
  }
};

struct FadingValues : StageOf<Rank::rescale> {
  template <class T>
  T value_factor(T factor, Index, Index, Index key) const {
    return factor / T(1 + key);
  }
};

struct HalfWeights : StageOf<Rank::weight> {
  template <class T>
  HEED_INLINE Batch<T> weight(const Batch<T>& w, const Lanes<T>&) const {
    return w * Batch<T>(T(0.5));
  }
};

/// A factor of the queries with a gradient of its own, which sums over everything.
template <class T>
struct Sharpness : StageOf<Rank::rescale> {
  T factor = 1;
  double* gradient = nullptr;

  T query_factor(T x, const Row&) const { return x * factor; }
  void clear_gradients() { *gradient = 0; }
  void grad_query_factor(T grad, const Row&) { *gradient += double(grad); }
};

reference::Visible every_third_masked() {
  return [](const reference::Pair& p) { return p.key % 3 != 0; };
}

template <class T>
class OwnStage : public testing::Test {};
TYPED_TEST_SUITE(OwnStage, Scalars, ScalarName);

/// Sizes with tiles that a row sees whole, so that a mask which is not asked shows.
constexpr Index sizes[] = {1, 17, 160, 300};

TYPED_TEST(OwnStage, WithAMaskIsAskedForEveryTile) {
  using T = TypeParam;
  for (const Index n : sizes) {
    SCOPED_TRACE(n);
    const Inputs<T> in = inputs<T>(tokens(n, 16), 1);
    expect_oracle(in, standard | EveryThirdMasked(), seeing(every_third_masked()));
    expect_oracle(in, standard | causal | EveryThirdMasked(),
                  seeing(reference::causal() && every_third_masked()));
    expect_oracle(in, standard | causal | when(true, EveryThirdMasked()),
                  seeing(reference::causal() && every_third_masked()));
    expect_oracle(in, standard | causal | when(false, EveryThirdMasked()),
                  seeing(reference::causal()));
  }
}

TYPED_TEST(OwnStage, ScalesValuesByWhatItDefines) {
  using T = TypeParam;
  for (const Index n : sizes) {
    const Inputs<T> in = inputs<T>(tokens(n, 16), 2);
    reference::Rules rules;
    rules.tau_v = reference::Array({1, 1, n});
    for (Index j = 0; j < n; ++j) rules.tau_v(0, 0, j) = 1 / double(1 + j);
    expect_oracle(in, FadingValues() | standard, rules);
  }
}

TYPED_TEST(OwnStage, ChangesWeightsByWhatItDefines) {
  using T = TypeParam;
  for (const Index n : sizes) {
    const Inputs<T> in = inputs<T>(tokens(n, 16), 3);
    Outputs<T> got = attend(in, standard | HalfWeights());
    got.out = got.out * got.out.constant(T(2));
    expect_close(got, oracle(in));
  }
}

/// Alone and joined, in either direction of the chain's recursion.
TYPED_TEST(OwnStage, PassesItsAdjointOnTheWayBack) {
  using T = TypeParam;
  for (const Index n : sizes) {
    SCOPED_TRACE(n);
    const Inputs<T> in = inputs<T>(tokens(n, 8, 2, 1), 4, 0.6);
    const auto variant = standard | Cubic() | when(true, Cubic()) | causal;
    const Outputs<T> known = attend(in, variant);
    Tensor<T> grad_out = in.q, grad_q = in.q, grad_k = in.k, grad_v = in.v;
    backward(in.q, in.k, in.v, variant, known.out, known.lse, grad_out, grad_q, grad_k, grad_v);

    const auto cubic = [](double s) { return s + s * s * s / 10; };
    const auto slope = [](double s) { return 1 + 0.3 * s * s; };
    reference::Rules rules = seeing(reference::causal());
    rules.score = [=](double s, const reference::Pair&) { return cubic(cubic(s)); };
    reference::Cotangents given;
    given.out = array(grad_out);
    given.score_slope = [=](double s, const reference::Pair&) {
      return slope(s) * slope(cubic(s));
    };
    const auto want = attention_backward(array(in.q), array(in.k), array(in.v), rules, given);
    expect_close(known, oracle(in, rules));
    EXPECT_TRUE(close(grad_q, want.q));
    EXPECT_TRUE(close(grad_k, want.k));
    EXPECT_TRUE(close(grad_v, want.v));
  }
}

/// A stage that adds up a gradient and says nothing of threads is taken to share it, so that its
/// heads run one after the other; one without memory of its own is not.
TYPED_TEST(OwnStage, MayAddUpItsGradientWithoutSayingSo) {
  using T = TypeParam;
  double gradient = -1;
  const Sharpness<T> sharper{{}, T(1.5), &gradient};
  EXPECT_TRUE(hook::shares_gradients(sharper));
  EXPECT_TRUE(hook::shares_gradients_over_keys(when(true, sharper) | standard));
  EXPECT_FALSE(hook::shares_gradients(when(false, sharper) | standard | Cubic()));

  const Inputs<T> in = inputs<T>(tokens(70, 8, 2, 1), 6);
  const auto loss = [&](T factor) {
    const Outputs<T> y = attend(in, Sharpness<T>{{}, factor, nullptr} | standard | causal);
    double sum = 0;
    for (Index i = 0; i < y.out.size(); ++i)
      sum += double(y.out.data()[i]) * double(in.q.data()[i]);
    return sum;
  };
  const auto variant = sharper | standard | causal;
  const Outputs<T> known = attend(in, variant);
  Tensor<T> grad_q = in.q, grad_k = in.k, grad_v = in.v;
  backward(in.q, in.k, in.v, variant, known.out, known.lse, in.q, grad_q, grad_k, grad_v);
  const double h = 1e-2;
  const double want = (loss(T(1.5 + h)) - loss(T(1.5 - h))) / (2 * h);
  EXPECT_NEAR(gradient, want, 1e-3 * std::max(1.0, std::abs(want)));
}

/// Reads the distance alone, and says so: it may go through a buffer, where keys have no order.
struct Nearer : StageOf<Rank::bias> {
  static constexpr Reads reads = Reads::distance;
  static constexpr bool adds_to_score = true;
  template <class T>
  HEED_INLINE Batch<T> score(const Batch<T>& s, const Lanes<T>& at) const {
    return simd::fma(at.distance(), Batch<T>(T(0.3) * simd::log2e<T>), s);
  }
};

TYPED_TEST(OwnStage, ThatReadsDistancesGoesThroughABuffer) {
  using T = TypeParam;
  const Inputs<T> in = inputs<T>(tokens(40, 8), 5);
  KvBuffer<T> buffer({.dim = 8, .value_dim = 8}, {.select = std::nullopt});
  Outputs<T> got{Tensor<T>(1, 1, 40, 8), Tensor<T, 3>(1, 1, 40), {}};
  buffer.step(in.q, in.k, in.v, standard | Nearer(), got.out, {.lse = got.lse});
  const Outputs<T> want = attend(in, standard | Nearer() | causal);
  EXPECT_TRUE(close(got.out, want.out));
  EXPECT_TRUE(close(got.lse, want.lse));
}

}  // namespace
}  // namespace heed::test
