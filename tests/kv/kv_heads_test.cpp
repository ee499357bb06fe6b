// SPDX-License-Identifier: MIT
// Key heads that hold different tokens.
#include "support/buffers.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

namespace heed::test::unlike_heads {
namespace {

constexpr Index batch = 2, heads = 6, key_heads = 3, group = heads / key_heads, rows = 60;

template <class T>
class UnlikeHeads : public testing::Test {
 protected:
  const Inputs<T> in = inputs<T>(tokens(rows, 8, heads, key_heads, batch), 4);

  /// All tokens, a few in each step. The list of evictions has a row for each key head.
  Buffered<T> through_steps(KvBuffer<T>& buffer, Index step_rows) const {
    Buffered<T> got = answers_to(in);
    got.evict_row.resize(batch * key_heads, rows);
    got.evict_row.setConstant(rows);
    for (Index i = 0; i < rows; i += step_rows)
      step(buffer, in, i, std::min(i + step_rows, rows), got);
    return got;
  }
  /// The inputs of one key head of one sequence.
  Inputs<T> of_head(Index b, Index g) const {
    const auto part = [&](const Tensor<T>& x, Index first, Index count) {
      const Eigen::array<Index, 4> from{b, first, 0, 0}, size{1, count, rows, 8};
      return Tensor<T>(x.slice(from, size));
    };
    return {part(in.q, g * group, group), part(in.k, g, 1), part(in.v, g, 1)};
  }
};
TYPED_TEST_SUITE(UnlikeHeads, Scalars, ScalarName);

const EvictionRule every_rule[] = {heavy_hitters, least_attended_last, key_difference, oldest};

/// A head that chooses for itself holds, step by step, what it would hold if it were alone.
TYPED_TEST(UnlikeHeads, ChooseAsIfEachWereAlone) {
  using T = TypeParam;
  for (const EvictionRule& rule : every_rule)
    for (const EvictWhen when : {EvictWhen::before_row, EvictWhen::after_row}) {
      KvOptions o{
          .budget = 9, .evict = rule, .when = when, .protect = {3}, .recent = 2, .select = {}};
      SCOPED_TRACE(describe(o));
      o.heads = KvHeads::apart;
      KvBuffer<T> buffer = buffer_for(this->in, o);
      const Buffered<T> got = this->through_steps(buffer, 7);
      o.heads = KvHeads::together;
      for (Index b = 0; b < batch; ++b)
        for (Index g = 0; g < key_heads; ++g) {
          const Inputs<T> alone = this->of_head(b, g);
          KvBuffer<T> own = buffer_for(alone, o);
          Buffered<T> want = answers_to(alone);
          for (Index i = 0; i < rows; i += 7) step(own, alone, i, std::min(i + 7, rows), want);
          EXPECT_EQ(held(buffer.sequence(b), g), held(own.sequence(0))) << b << ", " << g;
          for (Index j = 0; j < rows; ++j)
            ASSERT_EQ(got.evict_row(b * key_heads + g, j), want.evict_row(0, j)) << j;
          const Eigen::array<Index, 4> from{b, g * group, 0, 0}, size{1, group, rows, 8};
          EXPECT_TRUE(same_bits(Tensor<T>(got.out.slice(from, size)), want.out));
        }
    }
}

TYPED_TEST(UnlikeHeads, ReallyDiffer) {
  using T = TypeParam;
  for (const EvictionRule& rule :
       {EvictionRule(least_attended_last), EvictionRule(key_difference)}) {
    KvBuffer<T> buffer =
        buffer_for(this->in, {.budget = 9, .evict = rule, .heads = KvHeads::apart, .select = {}});
    this->through_steps(buffer, 60);
    EXPECT_NE(held(buffer.sequence(0), 0), held(buffer.sequence(0), 1)) << rule.name();
  }
}

/// Of heads that share a budget, the tokens that go have the largest claims of all heads: by plain
/// loops over the weights of masked attention.
TYPED_TEST(UnlikeHeads, ShareABudgetByTheirClaims) {
  using T = TypeParam;
  const Index K = 9, recent = 2;
  const KvOptions o{.budget = K,
                    .evict = least_attended_last,
                    .heads = KvHeads::shared,
                    .protect = {3},
                    .recent = recent,
                    .select = {}};
  KvBuffer<T> buffer = buffer_for(this->in, o);
  const Buffered<T> got = this->through_steps(buffer, 7);
  const reference::Array evict_row = array(got.evict_row);
  reference::Rules rules;
  rules.visible = [&](const reference::Pair& p) {
    return p.key <= p.position &&
           double(p.position) < evict_row(p.batch * key_heads + p.head / group, p.key);
  };
  const reference::Attention a = oracle(this->in, rules);
  EXPECT_TRUE(close(got.out, a.out));
  bool uneven = false;
  for (Index b = 0; b < batch; ++b)
    for (Index row = 1; row < rows; ++row) {
      double most_kept = -1e9, least_evicted = 1e9;
      Index in_all = 0;
      for (Index g = 0; g < key_heads; ++g) {
        const auto goes_at = [&](Index j) { return Index(evict_row(b * key_heads + g, j)); };
        for (Index j = 0; j < row; ++j) {
          if (goes_at(j) < row) continue;
          in_all += goes_at(j) > row;
          if (j == 3 || j > row - recent) {
            EXPECT_GT(goes_at(j), row) << j;
            continue;
          }
          double claim = 0;
          for (Index h = g * group; h < (g + 1) * group; ++h) claim -= a.weights(b, h, row - 1, j);
          if (goes_at(j) == row)
            least_evicted = std::min(least_evicted, claim);
          else
            most_kept = std::max(most_kept, claim);
        }
      }
      EXPECT_EQ(in_all + key_heads, std::min(row + 1, K) * key_heads) << row;
      EXPECT_LE(most_kept, least_evicted + 1e-5) << row;
      for (Index g = 1; g < key_heads; ++g)
        uneven |= buffer.sequence(b).count(g) != buffer.sequence(b).count(0);
    }
  EXPECT_TRUE(uneven);
}

/// Among equal claims of several heads the oldest token goes, wherever it is.
TYPED_TEST(UnlikeHeads, ShareABudgetEvenlyByAge) {
  KvBuffer<TypeParam> buffer =
      buffer_for(this->in, {.budget = 9, .evict = oldest, .heads = KvHeads::shared, .select = {}});
  this->through_steps(buffer, 60);
  for (Index g = 0; g < key_heads; ++g) EXPECT_EQ(buffer.sequence(0).count(g), 9);
}

/// What one head gives up, others can use: pages follow the tokens.
TYPED_TEST(UnlikeHeads, HoldThePagesOfTheirTokens) {
  using T = TypeParam;
  const Inputs<T> longer = inputs<T>(tokens(400, 8, heads, key_heads), 5);
  KvPool<T> pool(8, 8, {.page = KvPool<T>::slot_multiple});
  KvCache<T> cache({1, heads, key_heads, 8, 8},
                   {.budget = 100, .evict = key_difference, .heads = KvHeads::shared, .select = {}},
                   pool);
  auto sequence = cache.open();
  Tensor<T> out(1, heads, 10, 8);
  for (Index i = 0; i < 400; i += 10) {
    cache.step({&sequence}, slice(longer.q, i, i + 10), slice(longer.k, i, i + 10),
               slice(longer.v, i, i + 10), standard, out);
    Index most = 0, tokens_held = 0;
    for (Index g = 0; g < key_heads; ++g) {
      tokens_held += sequence.count(g);
      most += sequence.count(g) / pool.page() + 3;  // one that is not full, one and a half to spare
    }
    ASSERT_LE(tokens_held, 300);
    ASSERT_LE(pool.pages_held(), most);
    ASSERT_EQ(pool.pages_held(), sequence.pages());
  }
  cache.set_budget(sequence, 10);
  EXPECT_EQ(sequence.count(0) + sequence.count(1) + sequence.count(2), 30);
  EXPECT_LE(pool.pages_held(), 30 / pool.page() + key_heads);
}

TYPED_TEST(UnlikeHeads, CannotFollowOneSelectingHead) {
  for (const KvHeads how : {KvHeads::apart, KvHeads::shared})
    EXPECT_EQ(
        message_of<ValueError>([&] { buffer_for(this->in, {.budget = 9, .heads = how}); }),
        "heads hold different tokens, but head 0 selects for all of them: select must be none");
  EXPECT_EQ(message_of<ValueError>(
                [&] { buffer_for(this->in, {.budget = 9, .heads = KvHeads(3), .select = {}}); }),
            "heads is 3, must be together, apart or shared");
}

}  // namespace
}  // namespace heed::test::unlike_heads
