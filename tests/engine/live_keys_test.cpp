// SPDX-License-Identifier: MIT
// Keys that stay masked are pruned. The results are the same; only the time differs.

#include "heed/attention/selective_attention.hpp"
#include "heed/core/thread_pool.hpp"
#include "heed/engine/prune/compacted_keys.hpp"
#include "heed/score/bias.hpp"
#include "heed/score/sinks.hpp"
#include "heed/score/softcap.hpp"
#include "heed/score/temperature.hpp"
#include "heed/score/when.hpp"
#include "heed/score/window.hpp"
#include "support/selection.hpp"

#include <gtest/gtest.h>

namespace heed::test {
namespace {

template <class T>
class CompactedKeys : public testing::Test {
 protected:
  /// Votes of this size and length mask most keys for good long before the end.
  static Inputs<T> forgetful(Index n, Index heads, Index key_heads, std::uint64_t seed) {
    return inputs<T>(tokens(n, 20, heads, key_heads, 2), seed, 1.3);
  }
  static constexpr double unit = std::numeric_limits<T>::epsilon() / 2;
};
TYPED_TEST_SUITE(CompactedKeys, Scalars, ScalarName);

TYPED_TEST(CompactedKeys, GiveWhatAllKeysGive) {
  using T = TypeParam;
  for (const Index n : {383, 384, 385, 481, 482, 700})
    for (const Index key_heads : {1, 2, 4}) {
      SCOPED_TRACE(describe(tokens(n, 20, 4, key_heads, 2)));
      const Inputs<T> in = this->forgetful(n, 4, key_heads, std::uint64_t(n + key_heads));
      const Outputs<T> got = attend(in, standard | causal | selective);
      expect_close(got, selective_oracle(in, causal_rules()));
      const WorkStats all = attend(in, standard | causal | selective, {.negligible = 0}).visited;
      EXPECT_LT(got.visited.pairs, all.pairs);  // or nothing was tried
      EXPECT_GT(got.visited.dropped, 0);
      EXPECT_LE(got.visited.dropped, this->unit);
      EXPECT_EQ(all.dropped, 0);
    }
}

TYPED_TEST(CompactedKeys, DoNotDependOnTheNumberOfThreadsNorOnTheSelectingHead) {
  using T = TypeParam;
  const Inputs<T> in = this->forgetful(500, 6, 3, 7);
  for (const Index head : {0, 3, 5}) {
    const auto variant = standard | causal | selecting({.head = head});
    const Outputs<T> alone = attend(in, variant);
    EXPECT_GT(alone.visited.dropped, 0);
    for (const int threads : {2, 3, 5}) {
      Eigen::ThreadPool pool(threads);
      const Outputs<T> together = attend(in, variant, {.executor = executor(pool)});
      SCOPED_TRACE(threads);
      expect_same_bits(alone, together);
    }
  }
}

/// ε is a share of every row's weight: an output moves by 2 ε of the largest value at most.
TYPED_TEST(CompactedKeys, CostNoMoreThanTheCallerAllows) {
  using T = TypeParam;
  const Inputs<T> in = this->forgetful(600, 4, 2, 8);
  T largest = 0;
  for (Index i = 0; i < in.v.size(); ++i) largest = std::max(largest, std::abs(in.v.data()[i]));
  const Outputs<T> all = attend(in, standard | causal | selective, {.negligible = 0});
  Index pairs = all.visited.pairs;
  for (const double negligible : {1e-6, 1e-3, 0.1}) {
    const Outputs<T> got = attend(in, standard | causal | selective, {.negligible = negligible});
    EXPECT_LE(got.visited.dropped, negligible);
    EXPECT_LE(got.visited.pairs, pairs);
    pairs = got.visited.pairs;
    for (Index i = 0; i < got.out.size(); ++i)
      ASSERT_NEAR(got.out.data()[i], all.out.data()[i],
                  2 * negligible * double(largest) + tolerance<T>);
  }
  EXPECT_LT(pairs, all.visited.pairs);
}

TYPED_TEST(CompactedKeys, GoWithStagesThatLeaveThePastAlone) {
  using T = TypeParam;
  const Inputs<T> in = this->forgetful(450, 4, 2, 9);
  Tensor<T, 3> tau_q = normal<T>(31, 2, 4, 450), tau_k = normal<T>(32, 2, 2, 450),
               tau_v = normal<T>(33, 2, 1, 450);
  Tensor<T, 1> sinks_of = normal<T>(34, 4);
  const auto variant = query_temperature(tau_q) | key_temperature(tau_k) |
                       value_temperature(tau_v) | scaled(0.4) | softcap(30) | causal |
                       sinks(sinks_of) | selecting({.head = 1});
  const Outputs<T> got = attend(in, variant), all = attend(in, variant, {.negligible = 0});
  EXPECT_GT(got.visited.dropped, 0);
  EXPECT_LT(got.visited.pairs, all.visited.pairs);
  EXPECT_TRUE(close(got.out, array(all.out)));
  EXPECT_TRUE(close(got.lse, array(all.lse)));
}

/// A stage that is switched off neither masks keys nor reads them.
TYPED_TEST(CompactedKeys, GoWithAnyStageThatIsOff) {
  using T = TypeParam;
  const Inputs<T> in = this->forgetful(450, 2, 2, 14);
  Tensor<T> slope = normal<T>(36, 1, 1, 1, 450);
  const WorkStats plain = attend(in, standard | causal | selective).visited;
  for (const bool on : {false, true}) {
    const WorkStats windowed =
        attend(in, standard | causal | window(on ? 400 : unbounded, 0) | selective).visited;
    const WorkStats biased =
        attend(in, standard | when(on, bias(slope)) | causal | when(true, selective)).visited;
    for (const WorkStats& some : {windowed, biased}) {
      EXPECT_EQ(some.dropped, on ? 0 : plain.dropped);
      EXPECT_EQ(some.pairs == plain.pairs, !on);
    }
  }
}

/// A pruned key takes no memory: M is unchanged, unless τ is above the pruning threshold.
TYPED_TEST(CompactedKeys, AreAllThatMemoryCounts) {
  using T = TypeParam;
  const Index n = 450;
  const Inputs<T> in = this->forgetful(n, 2, 2, 10);
  Tensor<T, 2> memory(2, n), of_all(2, n);
  for (const double tau : {1., 15., 100.}) {
    const WorkStats some = attend(in, standard | causal | selective.memory(memory, tau)).visited;
    attend(in, standard | causal | selective.memory(of_all, tau), {.negligible = 0});
    EXPECT_TRUE(close(memory, array(of_all))) << tau;
    EXPECT_EQ(some.dropped > 0, tau < 100) << tau;
  }
}

/// Outputs of F include pruned keys, and masks that read keys by index still find them.
TYPED_TEST(CompactedKeys, AreAllKeysWhereSomethingElseDependsOnThem) {
  using T = TypeParam;
  const Index n = 450;
  const Inputs<T> in = this->forgetful(n, 2, 2, 10);
  Tensor<T, 2> carry(2, n);
  Tensor<T> slope = normal<T>(35, 1, 1, 1, n);
  const auto dropped = [&](const auto& variant) { return attend(in, variant).visited.dropped; };
  EXPECT_GT(dropped(standard | causal | selective), 0);
  EXPECT_EQ(dropped(standard | causal | selective.carry_out(carry)), 0);
  EXPECT_EQ(dropped(standard | causal | when(true, window(400, 0)) | selective), 0);
  EXPECT_EQ(dropped(standard | bias(slope) | causal | selective), 0);
  for (const SelectOptions& o : {SelectOptions{.relu = false}, SelectOptions{.accumulate = false},
                                 SelectOptions{.shift = false}})
    EXPECT_EQ(dropped(standard | causal | selecting(o)), 0);
}

/// The bounds assume that each row sees its own key unmasked. A carry that masks later keys breaks
/// this.
TYPED_TEST(CompactedKeys, AreJudgedByWhatIsCarriedIn) {
  using T = TypeParam;
  const Inputs<T> in = inputs<T>({1, 2, 2, 200, 600, 20, 20}, 11, 1.3);
  Tensor<T, 2> carry(1, 600);
  carry.setZero();
  for (Index j = 1; j < 400; ++j) carry(0, j) = T(j % 3 == 0 ? 0 : 500);
  const auto variant = standard | causal_at(400) | selective.carry_in(carry);
  const Outputs<T> got = attend(in, variant), all = attend(in, variant, {.negligible = 0});
  EXPECT_TRUE(close(got.out, array(all.out)));
  EXPECT_LT(got.visited.pairs, all.visited.pairs * 3 / 4);

  carry(0, 599) = T(500);
  EXPECT_EQ(attend(in, variant).visited.dropped, 0);
}

/// F is large, but this row looks for just these keys and finds nothing in its own.
TYPED_TEST(CompactedKeys, IncludeWhatOnlyTheLargestScoreCanReach) {
  using T = TypeParam;
  Inputs<T> in = inputs<T>({1, 1, 1, 1, 257, 1, 1}, 13);
  in.q.setConstant(T(4));
  in.k.setConstant(T(5));
  in.k(0, 0, 0, 0) = in.k(0, 0, 256, 0) = T(-5);
  Tensor<T, 2> carry(1, 257);
  carry.setConstant(T(50));
  carry(0, 0) = carry(0, 256) = T(0);
  const auto variant = standard | causal_at(256) | selective.carry_in(carry);
  const Outputs<T> got = attend(in, variant), all = attend(in, variant, {.negligible = 0});
  EXPECT_TRUE(close(got.out, array(all.out)));
  EXPECT_TRUE(close(got.lse, array(all.lse)));

  carry.setConstant(T(200));  // beyond reach: only now
  carry(0, 0) = carry(0, 256) = T(0);
  EXPECT_GT(attend(in, variant).visited.dropped, 0);
}

/// What a dropped key holds is not read again; what a visible one holds shows.
TYPED_TEST(CompactedKeys, KeepNaNWhereItBelongs) {
  using T = TypeParam;
  Inputs<T> in = this->forgetful(500, 2, 1, 12);
  in.v(0, 0, 300, 2) = std::numeric_limits<T>::quiet_NaN();
  const Outputs<T> got = attend(in, standard | causal | selective);
  for (Index i = 0; i < 500; ++i) {
    EXPECT_EQ(std::isnan(got.out(0, 0, i, 2)), i >= 300) << i;
    EXPECT_FALSE(std::isnan(got.out(1, 0, i, 2))) << i;
  }
}

}  // namespace
}  // namespace heed::test
