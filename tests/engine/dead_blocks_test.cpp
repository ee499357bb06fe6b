// SPDX-License-Identifier: MIT
// The backward pass skips blocks of keys that stay masked. The results are the same; only the time
// differs.

#include "heed/core/thread_pool.hpp"
#include "heed/score/bias.hpp"
#include "support/gradients.hpp"

#include <gtest/gtest.h>

namespace heed::test {
namespace {

template <class T>
class DeadBlocks : public testing::Test {
 protected:
  /// Votes of this size and length mask most keys for good long before the end.
  const Inputs<T> in = inputs<T>(tokens(640, 8, 2, 1, 2), 41, 1.6);
  const Tensor<T> grad_out = normal<T>(42, 2, 2, 640, 8);

  static Mixture<T> selection() {
    Mixture<T> m;
    m.causal = m.selects = true;
    return m;
  }
  /// Of all that selection did, and with nothing left out.
  std::pair<Gradients<T>, Gradients<T>> both(const Mixture<T>& m) const {
    return {gradients(in, m, grad_out), gradients(in, m, grad_out, {.negligible = 0})};
  }
};
TYPED_TEST_SUITE(DeadBlocks, Scalars, ScalarName);

TYPED_TEST(DeadBlocks, AreNotMissed) {
  using T = TypeParam;
  const Mixture<T> m = this->selection();
  const auto [some, all] = this->both(m);
  EXPECT_LT(some.visited.pairs, all.visited.pairs * 19 / 20);  // or nothing was tried
  EXPECT_GT(some.visited.dropped, 0);
  EXPECT_LE(some.visited.dropped, std::numeric_limits<T>::epsilon() / 2);
  EXPECT_EQ(all.visited.dropped, 0);
  expect_close(some, all);
  expect_close(some, oracle_gradients(this->in, m, this->grad_out));
}

TYPED_TEST(DeadBlocks, DoNotDependOnTheNumberOfThreads) {
  using T = TypeParam;
  for (const Index head : {0, 1}) {
    Mixture<T> m = this->selection();
    m.select.head = head;
    const Mixed<T> known = attend(this->in, m);
    for (const double negligible : {0., 1e-7}) {
      const Options options{.negligible = negligible};
      const Gradients<T> alone = m.backward(this->in, known, this->grad_out, options);
      for (const int threads : {2, 3, 7}) {
        Eigen::ThreadPool pool(threads);
        Options together = options;
        together.executor = executor(pool);
        const Gradients<T> got = m.backward(this->in, known, this->grad_out, together);
        SCOPED_TRACE(threads);
        expect_same_bits(alone, got);
        EXPECT_EQ(alone.visited.pairs, got.visited.pairs);
        EXPECT_EQ(alone.visited.dropped, got.visited.dropped);
      }
    }
  }
}

/// The memory loss pulls at keys up to F = τ only.
TYPED_TEST(DeadBlocks, TakeNoMemory) {
  using T = TypeParam;
  Mixture<T> m = this->selection();
  m.grad_memory = normal<T>(43, 2, 640);
  for (const double tau : {1., 200.}) {
    m.memory_tau = tau;
    const auto [some, all] = this->both(m);
    EXPECT_EQ(some.visited.pairs < all.visited.pairs, tau == 1) << tau;
    expect_close(some, all);
  }
}

/// Rows far from the first, some keys masked already; few rows give the first of them anything.
TYPED_TEST(DeadBlocks, AreJudgedByWhatIsCarriedIn) {
  using T = TypeParam;
  const Inputs<T> own = inputs<T>({1, 2, 1, 200, 800, 8, 8}, 45, 1.6);
  const Tensor<T> grad_own = normal<T>(46, 1, 2, 200, 8);
  Mixture<T> m = this->selection();
  m.offset = 600;
  m.carry_in = Tensor<T, 2>(1, 800);
  for (Index j = 0; j < 800; ++j) m.carry_in(0, j) = T(0 < j && j < 500 ? 300 : 0);
  const Gradients<T> some = gradients(own, m, grad_own),
                     all = gradients(own, m, grad_own, {.negligible = 0});
  EXPECT_LT(some.visited.pairs, all.visited.pairs * 9 / 10);
  expect_close(some, all);
  m.carry_in(0, 799) = T(300);  // breaks the bounds
  EXPECT_EQ(gradients(own, m, grad_own).visited.dropped, 0);
}

/// ε is a share of every row's weight, and so of what the gradients are made of.
TYPED_TEST(DeadBlocks, CostNoMoreThanTheCallerAllows) {
  using T = TypeParam;
  const Mixture<T> m = this->selection();
  const Gradients<T> all = gradients(this->in, m, this->grad_out, {.negligible = 0});
  Workspace workspace;
  Index pairs = all.visited.pairs;
  for (const double negligible : {1e-9, 1e-5, 1e-3}) {
    const Gradients<T> got =
        gradients(this->in, m, this->grad_out, {.workspace = &workspace, .negligible = negligible});
    EXPECT_LE(got.visited.dropped, negligible);
    EXPECT_LE(got.visited.pairs, pairs);
    pairs = got.visited.pairs;
    each_gradient(got, all, [&](const char* name, const auto& x, const auto& y) {
      for (Index i = 0; i < x.size(); ++i)
        ASSERT_NEAR(x.data()[i], y.data()[i], 1e3 * negligible + 20 * tolerance<T>) << name;
    });
  }
  EXPECT_LT(pairs, all.visited.pairs);
  EXPECT_THROW(gradients(this->in, m, this->grad_out, {.negligible = 1.5}), ValueError);
  EXPECT_THROW(gradients(this->in, m, this->grad_out, {.negligible = -1}), ValueError);
}

/// What comes from the chunk behind may pull at any key's F.
TYPED_TEST(DeadBlocks, AreAliveWhereTheirMaskIsWanted) {
  using T = TypeParam;
  Mixture<T> m = this->selection();
  m.grad_carry_out = normal<T>(44, 2, 640);
  const auto [some, all] = this->both(m);
  EXPECT_EQ(some.visited.pairs, all.visited.pairs);
  expect_same_bits(some, all);
}

/// A pool without workers, and one with a single thread.
TYPED_TEST(DeadBlocks, AreFoundByAnyExecutor) {
  using T = TypeParam;
  const Mixture<T> m = this->selection();
  const Mixed<T> known = attend(this->in, m);
  const Gradients<T> alone = m.backward(this->in, known, this->grad_out);
  const auto last_first = [](void*, Index tasks, Executor::Body body, void* context) {
    for (Index task = tasks; task-- > 0;) body(context, task, task % 3);
  };
  for (const Executor& executor :
       {Executor(nullptr, 0, last_first), Executor(nullptr, 3, last_first)})
    expect_same_bits(alone, m.backward(this->in, known, this->grad_out, {.executor = executor}));
}

/// A bias whose gradient sums over the keys, which run in parallel.
TYPED_TEST(DeadBlocks, LeaveSumsOverKeysAlone) {
  using T = TypeParam;
  const Inputs<T> own = inputs<T>(tokens(500, 8, 2, 2), 47);
  const Tensor<T> grad_own = normal<T>(48, 1, 2, 500, 8);
  for (const Index rows : {1, 500}) {
    Mixture<T> m = this->selection();
    m.bias = normal<T>(49, 1, 2, rows, 1);
    Tensor<T> grad_bias = m.bias;  // races show up rarely: check that they are avoided
    EXPECT_TRUE(bias(m.bias).grad(grad_bias).shares_gradients_over_keys());
    const Mixed<T> known = attend(own, m);
    const Gradients<T> alone = m.backward(own, known, grad_own);
    expect_close(alone, oracle_gradients(own, m, grad_own));
    Eigen::ThreadPool pool(4);
    for (int time = 0; time < 5; ++time)
      expect_same_bits(alone, m.backward(own, known, grad_own, {.executor = executor(pool)}));
  }
}

}  // namespace
}  // namespace heed::test
