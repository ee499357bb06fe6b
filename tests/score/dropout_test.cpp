// SPDX-License-Identifier: MIT
#include "heed/score/dropout.hpp"

#include "heed/core/thread_pool.hpp"
#include "heed/score/causal.hpp"
#include "heed/score/standard.hpp"
#include "heed/score/when.hpp"
#include "support/calls.hpp"

#include <gtest/gtest.h>

#include <cmath>

namespace heed::test {
namespace {

/// Every call here, so that one variant is compiled.
auto dropped(double probability, std::uint64_t seed, bool causal_ = false) {
  return standard | when(causal_, causal) | dropout(probability, seed);
}

/// Random q and k; v the identity, so that the output shows the weights that were kept.
template <class T>
Inputs<T> showing_weights(Index n, Index heads = 1, Index batch = 1) {
  Inputs<T> in = inputs<T>({batch, heads, heads, n, n, 8, n}, 1);
  in.v.setZero();
  for (Index b = 0; b < batch; ++b)
    for (Index h = 0; h < heads; ++h)
      for (Index j = 0; j < n; ++j) in.v(b, h, j, j) = T(1);
  return in;
}

template <class T>
class Dropouts : public testing::Test {};
TYPED_TEST_SUITE(Dropouts, Scalars, ScalarName);

/// The published test vectors of Philox 2×32-10.
TEST(DropoutGenerator, IsPhilox) {
  EXPECT_EQ(Dropout::draw(0, 0, 0), 0xff1dae59u);
  EXPECT_EQ(Dropout::draw(0xffffffffu, 0xffffffffu, 0xffffffffu), 0x2c3f628bu);
  EXPECT_EQ(Dropout::draw(0x243f6a88u, 0x85a308d3u, 0x13198a2eu), 0xdd7ce038u);
}

TYPED_TEST(Dropouts, KeepAWeightScaledUpOrDropItWhole) {
  using T = TypeParam;
  const Index n = 140;
  const Inputs<T> in = showing_weights<T>(n, 2, 2);
  for (const double p : {0.1, 0.5, 0.9}) {
    const Outputs<T> all = attend(in, dropped(0, 3)), some = attend(in, dropped(p, 3));
    double kept = 0;
    for (Index i = 0; i < all.out.size(); ++i) {
      const T w = all.out.data()[i], d = some.out.data()[i];
      if (d == T(0)) continue;
      kept += 1;
      ASSERT_NEAR(d, w / (1 - p), 10 * tolerance<T>) << p << ' ' << i;
    }
    const double draws = double(all.out.size());
    EXPECT_NEAR(kept / draws, 1 - p, 5 * std::sqrt(p * (1 - p) / draws)) << p;
    EXPECT_TRUE(same_bits(some.lse, all.lse)) << p;
  }
}

TYPED_TEST(Dropouts, OfNothingChangeNothing) {
  const Inputs<TypeParam> in = inputs<TypeParam>(tokens(100, 8, 2, 1), 2);
  expect_close(attend(in, dropped(0, 7, true)), oracle(in, seeing(reference::causal())));
}

/// Which weights stay is a matter of batch, head, row and key: not of the mask or of the tiling.
TYPED_TEST(Dropouts, DropTheSamePairsUnderAnyMaskAndForAnyNumberOfRows) {
  using T = TypeParam;
  const Index n = 130;
  const Inputs<T> in = showing_weights<T>(n, 2);
  const Outputs<T> open = attend(in, dropped(0.5, 5)), lower = attend(in, dropped(0.5, 5, true));
  const Inputs<T> few{slice(in.q, 0, 5), in.k, in.v};
  const Outputs<T> top = attend(few, dropped(0.5, 5));
  for (Index h = 0; h < 2; ++h)
    for (Index i = 0; i < n; ++i)
      for (Index j = 0; j <= i; ++j) {
        ASSERT_EQ(open.out(0, h, i, j) == T(0), lower.out(0, h, i, j) == T(0)) << h << i << j;
        if (i < 5) {
          ASSERT_EQ(open.out(0, h, i, j) == T(0), top.out(0, h, i, j) == T(0)) << h << i << j;
        }
      }
}

TYPED_TEST(Dropouts, DifferBetweenSeedsHeadsAndBatchEntries) {
  using T = TypeParam;
  const Index n = 64;
  const Inputs<T> in = showing_weights<T>(n, 2, 2);
  const Tensor<T> a = attend(in, dropped(0.5, 5)).out, b = attend(in, dropped(0.5, 6)).out,
                  c = attend(in, dropped(0.5, 5 + (std::uint64_t(1) << 32))).out;
  const auto share = [&](const auto& same) {
    double count = 0;
    for (Index i = 0; i < n; ++i)
      for (Index j = 0; j < n; ++j) count += same(i, j);
    return count / double(n * n);
  };
  // Half of all pairs agree by chance.
  const double slack = 5 * 0.5 / double(n);
  const auto zero = [](T x) { return x == T(0); };
  EXPECT_NEAR(share([&](Index i, Index j) { return zero(a(0, 0, i, j)) == zero(b(0, 0, i, j)); }),
              0.5, slack);
  EXPECT_NEAR(share([&](Index i, Index j) { return zero(a(0, 0, i, j)) == zero(c(0, 0, i, j)); }),
              0.5, slack);
  EXPECT_NEAR(share([&](Index i, Index j) { return zero(a(0, 0, i, j)) == zero(a(0, 1, i, j)); }),
              0.5, slack);
  EXPECT_NEAR(share([&](Index i, Index j) { return zero(a(0, 0, i, j)) == zero(a(1, 0, i, j)); }),
              0.5, slack);
}

TYPED_TEST(Dropouts, DropTheSameOnAnyNumberOfThreads) {
  using T = TypeParam;
  const Inputs<T> in = inputs<T>(tokens(210, 8, 4, 2, 2), 4);
  const Outputs<T> one = attend(in, dropped(0.3, 9, true));
  for (const int workers : {2, 3}) {
    Eigen::ThreadPool pool(workers);
    expect_same_bits(one, attend(in, dropped(0.3, 9, true), {.executor = executor(pool)}));
  }
}

TYPED_TEST(Dropouts, AreOfAProbabilityBelowOne) {
  const auto in = inputs<TypeParam>(tokens(4, 8), 1);
  expect_refusal<ValueError>(in, dropped(1, 0), "dropout of 1");
  expect_refusal<ValueError>(in, dropped(-0.1, 0), "dropout of -0.1");
}

}  // namespace
}  // namespace heed::test
