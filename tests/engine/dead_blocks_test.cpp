// SPDX-License-Identifier: MIT
// Backwards, blocks of keys that are masked for good are left out: nobody can tell, but for the
// time it takes.

#include "heed/core/thread_pool.hpp"
#include "support/gradients.hpp"

#include <gtest/gtest.h>

namespace heed::test {
namespace {

template <class T>
class DeadBlocks : public testing::Test {
 protected:
  /// Votes of this size and length mask most keys for good long before the end.
  const Inputs<T> in = inputs<T>(tokens(700, 20, 4, 2, 2), 41, 1.3);
  const Tensor<T> grad_out = normal<T>(42, 2, 4, 700, 20);

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
  for (const Index head : {0, 2}) {
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
  m.grad_memory = normal<T>(43, 2, 700);
  for (const double tau : {1., 200.}) {
    m.memory_tau = tau;
    const auto [some, all] = this->both(m);
    EXPECT_EQ(some.visited.pairs < all.visited.pairs, tau == 1) << tau;
    expect_close(some, all);
  }
}

/// What comes from the chunk behind may pull at any key's F.
TYPED_TEST(DeadBlocks, AreAliveWhereTheirMaskIsWanted) {
  using T = TypeParam;
  Mixture<T> m = this->selection();
  m.grad_carry_out = normal<T>(44, 2, 700);
  const auto [some, all] = this->both(m);
  EXPECT_EQ(some.visited.pairs, all.visited.pairs);
  expect_same_bits(some, all);
}

}  // namespace
}  // namespace heed::test
