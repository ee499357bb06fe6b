// SPDX-License-Identifier: MIT
// A stage of the user's own: whatever hooks it defines are used, and no flag is needed beside them.

#include "heed/engine/backward.hpp"
#include "heed/engine/weights.hpp"
#include "heed/kv/kv_buffer.hpp"
#include "heed/score/causal.hpp"
#include "heed/score/selective.hpp"
#include "heed/score/stage.hpp"
#include "heed/score/standard.hpp"
#include "heed/score/when.hpp"
#include "reference/backward.hpp"
#include "support/calls.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
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

// ---- what a newcomer may write without knowing how the engine goes about it

/// Masks in score(), and says nothing of whole tiles.
struct MasksAllButFirst : StageOf<Rank::bias> {
  static constexpr bool adds_to_score = false;
  template <class T>
  HEED_INLINE Batch<T> score(const Batch<T>& s, const Lanes<T>& at) const {
    return simd::select(by_key(at, [](Index j) { return j == 0; }) > Batch<T>(T(0)), s,
                        Batch<T>(masked<T>));
  }
};
/// Changes scores without a thought for those that are masked, which may be NaN.
struct Square : StageOf<Rank::bias> {
  template <class T>
  HEED_INLINE Batch<T> score(const Batch<T>& s, const Lanes<T>&) const {
    return s * s * Batch<T>(simd::ln2<T> / 4);
  }
  template <class T>
  HEED_INLINE Batch<T> grad_score(const Batch<T>& grad, const Batch<T>& s, const Lanes<T>&) {
    return grad * s * Batch<T>(simd::ln2<T> / 2);
  }
};
/// Returns its own interval, and its own mask, not those it was given.
struct FirstFifty : StageOf<Rank::mask> {
  KeyRange keys(const KeyRange&, const Row&) const { return {0, 50}; }
  template <class T>
  HEED_INLINE Mask<T> visible(const Mask<T>&, const Lanes<T>&) const {
    return simd::lanes_between<T>(0, simd::width<T>);
  }
};
/// Scores grow: keys that selection has masked may matter after all.
struct Sharper : StageOf<Rank::bias> {
  static constexpr Reads reads = Reads::score;
  template <class T>
  HEED_INLINE Batch<T> score(const Batch<T>& s, const Lanes<T>&) const {
    return s * Batch<T>(T(30));
  }
};
/// Binds to two stages.
struct CubicTwice : StageOf<Rank::bias> {
  template <class T>
  auto bind(const Problem&, Arena&) const {
    return Cubic() | Cubic();
  }
};
/// A factor of the values, whose gradient is summed in the stage and written once per key block.
template <class T>
struct Loudness : StageOf<Rank::rescale> {
  T factor = 1;
  double* gradient = nullptr;
  double sum = 0;

  T value_factor(T x, Index, Index, Index) const { return x * factor; }
  void clear_gradients() { *gradient = sum = 0; }
  void grad_value_factor(T grad, Index, Index, Index) { sum += double(grad); }
  void end_gradients(Index, Index) { *gradient += sum, sum = 0; }
};

TYPED_TEST(OwnStage, MayMaskInItsScore) {
  using T = TypeParam;
  for (const Index n : sizes) {
    SCOPED_TRACE(n);
    Inputs<T> in = inputs<T>(tokens(n, 16), 7);
    if (n > 1) in.v(0, 0, n - 1, 0) = std::numeric_limits<T>::quiet_NaN();  // masked: never seen
    const reference::Visible first = [](const reference::Pair& p) { return p.key == 0; };
    expect_oracle(in, standard | MasksAllButFirst(), seeing(first));
    // What one stage has masked the next does not bring back.
    reference::Rules rules = seeing(first);
    rules.score = [](double s, const reference::Pair&) { return s * s / 4; };
    expect_oracle(in, standard | MasksAllButFirst() | Square(), rules);
  }
}

TYPED_TEST(OwnStage, NeedNotMindMaskedScoresOnTheWayBack) {
  using T = TypeParam;
  const Index n = 40;
  Inputs<T> in = inputs<T>(tokens(n, 8), 8);
  for (Index d = 0; d < 8; ++d) in.k(0, 0, n - 1, d) = std::numeric_limits<T>::quiet_NaN();
  const auto variant = standard | Square() | causal;
  const Outputs<T> known = attend(in, variant);
  Tensor<T> grad_out = in.v, grad_q = in.q, grad_k = in.k, grad_v = in.v;
  for (Index d = 0; d < 8; ++d) grad_out(0, 0, n - 1, d) = T(0);
  backward(in.q, in.k, in.v, variant, known.out, known.lse, grad_out, grad_q, grad_k, grad_v);
  EXPECT_TRUE(finite(slice(grad_q, 0, n - 1)));
  EXPECT_TRUE(finite(slice(grad_k, 0, n - 1)));
}

TYPED_TEST(OwnStage, CannotUndoTheMaskOfAnother) {
  using T = TypeParam;
  for (const Index n : sizes)
    expect_oracle(
        inputs<T>(tokens(n, 16), 9), standard | causal | FirstFifty(),
        seeing(reference::causal() && [](const reference::Pair& p) { return p.key < 50; }));
}

TYPED_TEST(OwnStage, ThatMakesScoresLargerIsNotPruned) {
  using T = TypeParam;
  Inputs<T> in = inputs<T>(tokens(400, 2), 10);
  in.q.setZero(), in.k.setZero(), in.v.setZero();
  for (Index j = 0; j < 400; ++j) {
    const bool wanted = 1 <= j && j <= 95;
    in.k(0, 0, j, wanted ? 0 : 1) = T(1);
    in.v(0, 0, j, 0) = wanted ? T(1) : T(0);
  }
  in.q(0, 0, 100, 0) = T(1.885), in.q(0, 0, 300, 0) = T(3);
  const auto variant = standard | Sharper() | causal | selective;
  const Outputs<T> usual = attend(in, variant), whole = attend(in, variant, {.negligible = 0.});
  EXPECT_TRUE(close(usual.out, whole.out));
  EXPECT_NEAR(usual.out(0, 0, 300, 0), 1, 1e-3);
}

TYPED_TEST(OwnStage, MayBindToAChain) {
  using T = TypeParam;
  const Inputs<T> in = inputs<T>(tokens(70, 8, 2, 1), 11, 0.6);
  const auto gradients_of = [&](const auto& variant) {
    const Outputs<T> known = attend(in, variant);
    Tensor<T> grad_q = in.q, grad_k = in.k, grad_v = in.v;
    backward(in.q, in.k, in.v, variant, known.out, known.lse, in.q, grad_q, grad_k, grad_v);
    return grad_q;
  };
  const Tensor<T> want = gradients_of(standard | Cubic() | Cubic() | causal);
  EXPECT_TRUE(same_bits(gradients_of(standard | CubicTwice() | causal), want));
  EXPECT_TRUE(same_bits(gradients_of(standard | when(true, CubicTwice()) | causal), want));
}

TYPED_TEST(OwnStage, HearsOfAllGradientsOfAKeyBlockBeforeItEnds) {
  using T = TypeParam;
  for (const Index n : {5, 40, 300})
    for (const bool selects : {false, true}) {
      SCOPED_TRACE(testing::Message() << n << (selects ? " tokens, selective" : " tokens"));
      const Inputs<T> in = inputs<T>(tokens(n, 8, 2, 1), 12);
      double gradient = -1;
      const Loudness<T> louder{{}, T(1.5), &gradient};
      const auto variant = louder | standard | causal | when(selects, selective);
      const Outputs<T> known = attend(in, variant);
      Tensor<T> grad_q = in.q, grad_k = in.k, grad_v = in.v;
      backward(in.q, in.k, in.v, variant, known.out, known.lse, in.q, grad_q, grad_k, grad_v);
      double want = 0;  // out is linear in the factor
      for (Index i = 0; i < known.out.size(); ++i)
        want += double(known.out.data()[i]) * double(in.q.data()[i]) / 1.5;
      EXPECT_NEAR(gradient, want, 100 * tolerance<T> * (1 + std::abs(want)));
    }
}

/// Every begin() has its end(), through every way in.
struct Bracketed : StageOf<Rank::bias> {
  static constexpr Reads reads = Reads::score;
  static constexpr bool adds_to_score = true;
  int* open = nullptr;
  int* begun = nullptr;

  void begin(Index, bool) { ++*open, ++*begun; }
  void end() { --*open; }
  template <class T>
  HEED_INLINE Batch<T> score(const Batch<T>& s, const Lanes<T>&) const {
    return s;
  }
};
TYPED_TEST(OwnStage, IsToldOfTheEndOfEveryPass) {
  using T = TypeParam;
  const Inputs<T> in = inputs<T>(tokens(30, 8), 13);
  int open = 0, begun = 0;
  const Bracketed stage{{}, &open, &begun};
  const Outputs<T> known = attend(in, standard | stage | causal);
  Tensor<T, 2> shown(2, 30);
  weights(in.q, in.k, standard | stage | causal, known.lse, {.row = 3, .rows = 2}, shown);
  KvBuffer<T> buffer({.dim = 8, .value_dim = 8}, {.budget = 20});
  Tensor<T> out(1, 1, 30, 8);
  buffer.step(in.q, in.k, in.v, standard | stage, out);
  EXPECT_EQ(open, 0);
  EXPECT_GT(begun, 3);
}

}  // namespace
}  // namespace heed::test
