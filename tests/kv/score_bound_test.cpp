// SPDX-License-Identifier: MIT
// A buffer that knows how large a score can become lets go whom no row to come can give weight to:
// nobody can tell, but for the tokens that are held.

#include "heed/core/thread_pool.hpp"
#include "support/buffers.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <string>
#include <vector>

namespace heed::test {
namespace {

template <class T>
class ScoreBound : public testing::Test {
 protected:
  static constexpr double unit = std::numeric_limits<T>::epsilon() / 2;
  static constexpr double norm = 4;

  /// Queries and keys of one length, so that |s| ≤ norm² / √D.
  static Inputs<T> normalised(Index n, Index key_heads) {
    Inputs<T> in = inputs<T>(tokens(n, 16, 4, key_heads, 2), 41);
    for (Tensor<T>* x : {&in.q, &in.k})
      for (Index row = 0; row < x->size() / 16; ++row) {
        T* at = x->data() + row * 16;
        T squares = 0;
        for (Index d = 0; d < 16; ++d) squares += at[d] * at[d];
        for (Index d = 0; d < 16; ++d) at[d] *= T(norm) / std::sqrt(squares);
      }
    return in;
  }
  static constexpr double largest = norm * norm / 4;
};
TYPED_TEST_SUITE(ScoreBound, Scalars, ScalarName);

/// Four votes of 30 make F 120: beyond 2 · 30 and the weight a million tokens may share, which
/// three, 90, are not.
TYPED_TEST(ScoreBound, LetsATokenGoByHand) {
  using T = TypeParam;
  constexpr Index n = 9;
  std::vector<std::vector<double>> scores(n, std::vector<double>(n, 0));
  for (std::size_t i = 2; i < n; ++i) scores[i][1] = 90;  // over √9
  const Inputs<T> in = with_scores<T>(scores);
  const double least = -std::log(this->unit) + 20 * std::log(2.);
  for (const double bound : {30., (120 - least) / 2 - .01, (120 - least) / 2 + .01}) {
    KvBuffer<T> buffer = buffer_for(in, {.score_bound = bound});
    const Buffered<T> got = decode(buffer, in);
    // F of the row behind row i is 30 (i − 1).
    const Index votes = Index(std::floor((2 * bound + least) / 30)) + 1;
    EXPECT_EQ(got.evict_row(0, 1), 2 + votes) << bound;
    for (const Index j : {0, 2, 3, 4, 5, 6, 7, 8}) EXPECT_EQ(got.evict_row(0, j), n);
    EXPECT_NEAR(got.visited.dropped, std::exp(2 * bound - 30 * double(votes)), 1e-3 * this->unit);
  }
}

TYPED_TEST(ScoreBound, ChangesNothingButWhatIsHeld) {
  using T = TypeParam;
  for (const Index key_heads : {1, 4})
    for (const Index chunk : {1, 7, 64}) {
      SCOPED_TRACE(std::to_string(key_heads) + " key heads, chunk " + std::to_string(chunk));
      const Inputs<T> in = this->normalised(500, key_heads);
      const Buffered<T> want = through(KvOptions{.chunk = chunk}, in);
      KvBuffer<T> buffer = buffer_for(in, {.chunk = chunk, .score_bound = this->largest});
      const Buffered<T> got = through(buffer, in);
      EXPECT_TRUE(close(got.out, want.out));
      EXPECT_TRUE(close(got.lse, want.lse));
      for (Index b = 0; b < 2; ++b) {
        const KvSequence<T>& s = buffer.sequence(b);
        EXPECT_LT(s.count, 350);  // or nothing was tried
        Index gone = 0;
        for (Index j = 0; j < 500; ++j) gone += got.evict_row(b, j) < 500;
        EXPECT_NEAR(double(500 - s.count), double(gone),
                    double(chunk));  // the last chunk's come at 500
        EXPECT_GT(s.dropped, 0);
        EXPECT_LE(s.dropped, this->unit);
        EXPECT_LE(s.dropped, got.visited.dropped);
        EXPECT_GE(s.slots, s.count);
        EXPECT_LT(s.slots, 480);  // slots are taken again
      }
      buffer.clear(0);
      EXPECT_EQ(buffer.sequence(0).dropped, 0);
    }
}

/// Whom a bound lets go is not missed by a budget, and who may not go stays.
TYPED_TEST(ScoreBound, GoesWithABudgetAndWithProtection) {
  using T = TypeParam;
  const Inputs<T> in = this->normalised(400, 2);
  KvOptions o{.budget = 300, .protect = {0, 5, 9}, .recent = 20};
  const Buffered<T> plain = through(o, in);
  o.score_bound = this->largest;
  KvBuffer<T> buffer = buffer_for(in, o);
  const Buffered<T> got = through(buffer, in);
  for (Index b = 0; b < 2; ++b) {
    for (const Index j : {0, 5, 9}) EXPECT_EQ(got.evict_row(b, j), 400);
    for (Index j = 0; j < 400; ++j)
      EXPECT_GE(got.evict_row(b, j), std::min<Index>(j + 20, 400)) << j;
    EXPECT_LE(buffer.sequence(b).count, 300);
  }
  EXPECT_TRUE(close(got.out, plain.out, 1e-3));
}

TYPED_TEST(ScoreBound, DropsNothingWhereNothingMayBeLost) {
  using T = TypeParam;
  const Inputs<T> in = this->normalised(300, 2);
  KvBuffer<T> buffer = buffer_for(in, {.score_bound = this->largest, .negligible = 0});
  through(buffer, in);
  EXPECT_EQ(buffer.sequence(0).count, 300);
  EXPECT_EQ(buffer.sequence(0).dropped, 0);
}

TYPED_TEST(ScoreBound, DoesNotDependOnTheNumberOfThreads) {
  using T = TypeParam;
  const Inputs<T> in = this->normalised(300, 2);
  const KvOptions o{.chunk = 16, .score_bound = this->largest};
  KvBuffer<T> one = buffer_for(in, o), several = buffer_for(in, o);
  Eigen::ThreadPool pool(3);
  expect_same_bits(through(one, in), through(several, in, executor(pool)));
}

TEST(ScoreBoundRules, AreThatFNeverFalls) {
  const auto refusal = [](const KvOptions& o) {
    return message_of<ValueError>([&] { KvBuffer<float>({.heads = 2}, o); });
  };
  EXPECT_EQ(refusal({.score_bound = 8}), "nothing was thrown");
  EXPECT_EQ(refusal({.select = {}, .score_bound = 8}),
            "score_bound is 8, but F may fall again: it needs select, with relu and accumulate");
  EXPECT_NE(refusal({.select = SelectOptions{.relu = false}, .score_bound = 8}),
            "nothing was thrown");
  EXPECT_NE(refusal({.select = SelectOptions{.accumulate = false}, .score_bound = 8}),
            "nothing was thrown");
  EXPECT_EQ(
      refusal({.select = SelectOptions{.forbid_self = false, .shift = false}, .score_bound = 8}),
      "score_bound is 8, but a row may mask itself: it needs forbid_self or shift");
  EXPECT_EQ(refusal({.score_bound = -1}), "score_bound is -1, must be at least 0");
  EXPECT_EQ(refusal({.negligible = 2}), "negligible is 2, a share of a row's weight lies in 0 … 1");
}

}  // namespace
}  // namespace heed::test
