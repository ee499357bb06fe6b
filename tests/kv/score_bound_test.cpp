// SPDX-License-Identifier: MIT
// A buffer with a bound on the scores evicts tokens that no later row can give weight to. The
// results are the same; only the tokens held differ.

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
    EXPECT_NEAR(got.visited.dropped / std::exp(2 * bound - 30 * double(votes)), 1, 1e-3);

    // One of the last six stays: it goes behind row 1 + 6.
    KvBuffer<T> later = buffer_for(in, {.recent = 6, .score_bound = bound});
    EXPECT_EQ(decode(later, in).evict_row(0, 1), 8);
  }
  // Two are dropped: their weights add up.
  for (std::size_t i = 3; i < n; ++i) scores[i][2] = 90;
  const Inputs<T> two = with_scores<T>(scores);
  KvBuffer<T> buffer = buffer_for(two, {.score_bound = 30});
  EXPECT_NEAR(decode(buffer, two).visited.dropped / (2 * std::exp(60 - 120.)), 1, 1e-3);
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
        const KvSlots<T>& s = buffer.sequence(b).slots();
        EXPECT_LT(s.count, 350);  // or nothing was tried
        EXPECT_GT(s.dropped, 0);
        EXPECT_LE(s.dropped, this->unit);
        EXPECT_LE(s.dropped, got.visited.dropped);
        EXPECT_GE(s.slots, s.count);
        EXPECT_LT(s.slots, 480);  // slots are taken again
      }
      buffer.clear(0);
      EXPECT_EQ(buffer.sequence(0).dropped(), 0);
    }
}

/// Evictions by the bound and by a budget work together, and protected tokens stay.
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
    EXPECT_LE(buffer.sequence(b).count(), 300);
  }
  EXPECT_TRUE(close(got.out, plain.out, 1e-3));
}

/// Whatever else lets tokens go: the same ones go at the same rows.
TYPED_TEST(ScoreBound, DoesNotDependOnTheChunk) {
  using T = TypeParam;
  const Inputs<T> in = this->normalised(300, 2);
  for (const auto& budget : {std::optional<Index>(), std::optional<Index>(100)})
    for (const Evict evict : {Evict::most_masked, Evict::oldest})
      for (const EvictWhen when : {EvictWhen::before_row, EvictWhen::after_row}) {
        KvOptions o{.budget = budget, .evict = evict, .when = when, .score_bound = this->largest};
        const Buffered<T> one_by_one = through(o, in);
        for (const Index chunk : {7, 64}) {
          SCOPED_TRACE(std::to_string(budget.value_or(0)) + " chunk " + std::to_string(chunk));
          o.chunk = chunk;
          const Buffered<T> got = through(o, in);
          EXPECT_TRUE(same_bits(got.evict_row, one_by_one.evict_row));
          EXPECT_TRUE(close(got.out, one_by_one.out));
        }
      }
}

/// Each sequence by its own position, however long its neighbour is.
TYPED_TEST(ScoreBound, HoldsOfSequencesOfUnequalLengths) {
  using T = TypeParam;
  const Inputs<T> in = this->normalised(300, 2);
  const KvOptions o{.recent = 40, .score_bound = this->largest};
  const auto held_by = [&](Index sequence, std::int64_t first, std::int64_t second) {
    KvBuffer<T> buffer = buffer_for(in, o);
    const std::int64_t lengths[] = {first, second};
    Tensor<T> out(2, 4, 300, 16);
    buffer.step(in.q, in.k, in.v, standard, out,
                {.tokens = View<const std::int64_t, 1>(lengths, {2})});
    return held(buffer.sequence(sequence));
  };
  EXPECT_EQ(held_by(0, 300, 120), held_by(0, 300, 300));
  const auto shorter = held_by(1, 300, 120);
  EXPECT_EQ(shorter, held_by(1, 0, 120));
  for (Index position = 81; position < 120; ++position)
    EXPECT_TRUE(std::any_of(shorter.begin(), shorter.end(), [&](const auto& token) {
      return token.first == position;
    })) << position;
}

TYPED_TEST(ScoreBound, DropsNothingWhereNothingMayBeLost) {
  using T = TypeParam;
  const Inputs<T> in = this->normalised(300, 2);
  KvBuffer<T> buffer = buffer_for(in, {.score_bound = this->largest, .negligible = 0});
  through(buffer, in);
  EXPECT_EQ(buffer.sequence(0).count(), 300);
  EXPECT_EQ(buffer.sequence(0).dropped(), 0);
}

/// A copy continues by the same rules; tokens evicted by a budget are not counted twice.
TYPED_TEST(ScoreBound, HoldsOfCopiesAndCountTheTokensHeld) {
  using T = TypeParam;
  const Inputs<T> in = this->normalised(300, 2);
  for (const EvictWhen when : {EvictWhen::before_row, EvictWhen::after_row, EvictWhen::chunk_end}) {
    KvBuffer<T> buffer = buffer_for(
        in,
        {.budget = 60, .when = when, .chunk = 16, .score_bound = this->largest, .negligible = .5});
    KvBuffer<T> copy(buffer);
    expect_same_bits(through(buffer, in), through(copy, in));
    for (Index b = 0; b < 2; ++b)
      EXPECT_EQ(buffer.sequence(b).count(), Index(held(buffer.sequence(b)).size()));
  }
}

TYPED_TEST(ScoreBound, DoesNotDependOnTheNumberOfThreads) {
  using T = TypeParam;
  const Inputs<T> in = this->normalised(300, 2);
  const KvOptions o{.chunk = 16, .score_bound = this->largest};
  KvBuffer<T> one = buffer_for(in, o), several = buffer_for(in, o);
  Eigen::ThreadPool pool(3);
  const Buffered<T> a = through(one, in), b = through(several, in, executor(pool));
  expect_same_bits(a, b);
  EXPECT_EQ(a.visited.dropped, b.visited.dropped);
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
  EXPECT_EQ(refusal({.score_bound = -1}), "score_bound is -1, must be finite and at least 0");
  EXPECT_EQ(refusal({.score_bound = std::nan("")}),
            "score_bound is nan, must be finite and at least 0");
  EXPECT_EQ(refusal({.negligible = 2}), "negligible is 2, a share of a row's weight lies in 0 … 1");
}

}  // namespace
}  // namespace heed::test
