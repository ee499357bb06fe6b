// SPDX-License-Identifier: MIT
#include "heed/kv/snap.hpp"

#include "support/buffers.hpp"
#include "support/selection.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

namespace heed::test::snaps {
namespace {

template <class T>
class Snaps : public testing::Test {};
TYPED_TEST_SUITE(Snaps, Scalars, ScalarName);

constexpr Index rows = 130, heads = 4, key_heads = 2, group = heads / key_heads;

/// Positions that stay, in plain loops over the weights of unpruned attention: the newest, the
/// protected, and those with the largest weight around them, summed over `of_heads`.
std::vector<Index> kept(const reference::Attention& a, Index budget, Index window, Index kernel,
                        Index first_head, Index of_heads) {
  std::vector<double> weight(std::size_t(rows), 0), around(std::size_t(rows), 0);
  for (Index j = 0; j < rows; ++j)
    for (Index h = first_head; h < first_head + of_heads; ++h)
      for (Index i = rows - window; i < rows; ++i) weight[std::size_t(j)] += a.weights(0, h, i, j);
  for (Index j = 0; j < rows; ++j)
    for (Index near = std::max<Index>(j - kernel / 2, 0);
         near <= std::min(j + kernel / 2, rows - 1); ++near)
      around[std::size_t(j)] = std::max(around[std::size_t(j)], weight[std::size_t(near)]);
  const auto must_stay = [&](Index j) { return j == 5 || j >= rows - window; };
  std::vector<Index> order;
  for (Index j = 0; j < rows; ++j) order.push_back(j);
  std::stable_sort(order.begin(), order.end(), [&](Index x, Index y) {
    if (must_stay(x) != must_stay(y)) return must_stay(x);
    const double of_x = around[std::size_t(x)], of_y = around[std::size_t(y)];
    return of_x != of_y ? of_x > of_y : x > y;  // the oldest goes first
  });
  order.resize(std::size_t(budget));
  std::sort(order.begin(), order.end());
  return order;
}

template <class T>
std::vector<Index> positions(const KvBuffer<T>& buffer, Index key_head) {
  std::vector<Index> held;
  for (const KvToken<T>& token : buffer.sequence(0).held(key_head)) held.push_back(token.position);
  return held;
}

TYPED_TEST(Snaps, KeepWhatTheLastRowsLookAt) {
  using T = TypeParam;
  const Inputs<T> in = inputs<T>(tokens(rows, 8, heads, key_heads), 7);
  const reference::Attention a = oracle(in, seeing(reference::causal()));
  for (const Index window : {1, 10, 40})
    for (const Index kernel : {1, 5})
      for (const bool apart : {false, true})
        for (const std::optional<Index> chunk : {std::optional<Index>(), std::optional<Index>(7)}) {
          KvOptions o{.budget = 60, .evict = snap(window, kernel), .protect = {5}, .select = {}};
          o.heads = apart ? KvHeads::apart : KvHeads::together, o.chunk = chunk;
          SCOPED_TRACE(describe(o));
          KvBuffer<T> buffer = buffer_for(in, o);
          const std::size_t evictions = apart ? key_heads : 1;
          Buffered<T> got = answers_to(in);
          got.evict_row.resize(Index(evictions), rows);
          got.evict_row.setConstant(-1);
          step(buffer, in, 0, rows, got);
          EXPECT_TRUE(close(got.out, a.out));  // nothing is evicted before the step ends
          for (Index g = 0; g < key_heads; ++g) {
            const std::vector<Index> want =
                kept(a, 60, window, kernel, apart ? g * group : 0, apart ? group : heads);
            EXPECT_EQ(positions(buffer, g), want) << g;
            for (Index j = 0; j < rows; ++j)
              EXPECT_EQ(got.evict_row(apart ? g : 0, j),
                        std::binary_search(want.begin(), want.end(), j) ? -1 : rows);
          }
          const Index page = buffer.sequence(0).pool().page();
          EXPECT_EQ(buffer.sequence(0).pages(), key_heads * ((60 + page - 1) / page));
        }
}

/// Heads that share a budget: the largest weights of all heads stay.
TYPED_TEST(Snaps, ShareABudgetAmongHeads) {
  using T = TypeParam;
  const Inputs<T> in = inputs<T>(tokens(rows, 8, heads, key_heads), 8, 2);
  const reference::Attention a = oracle(in, seeing(reference::causal()));
  KvBuffer<T> buffer = buffer_for(
      in,
      {.budget = 40, .evict = snap(10, 1), .heads = KvHeads::shared, .protect = {}, .select = {}});
  Buffered<T> got = answers_to(in);
  got.evict_row.resize(key_heads, rows);
  step(buffer, in, 0, rows, got);
  EXPECT_EQ(buffer.sequence(0).count(0) + buffer.sequence(0).count(1), 80);
  EXPECT_NE(buffer.sequence(0).count(0), 40);
  double least_kept = 1e9, most_evicted = -1;
  for (Index g = 0; g < key_heads; ++g) {
    const std::vector<Index> held = positions(buffer, g);
    for (Index j = 0; j < rows - 10; ++j) {
      double weight = 0;
      for (Index h = g * group; h < (g + 1) * group; ++h)
        for (Index i = rows - 10; i < rows; ++i) weight += a.weights(0, h, i, j);
      if (std::binary_search(held.begin(), held.end(), j))
        least_kept = std::min(least_kept, weight);
      else
        most_evicted = std::max(most_evicted, weight);
    }
  }
  EXPECT_GE(least_kept, most_evicted - 1e-5);
}

/// Token by token it goes on within the budget, and the newest tokens stay.
TYPED_TEST(Snaps, GoOnWithinTheBudget) {
  using T = TypeParam;
  const Inputs<T> in = inputs<T>(tokens(rows, 8, heads, key_heads), 9);
  KvBuffer<T> buffer =
      buffer_for(in, {.budget = 20, .evict = snap(10, 3), .protect = {}, .select = {}});
  Buffered<T> got = answers_to(in);
  step(buffer, in, 0, 100, got);
  for (Index i = 100; i < rows; ++i) {
    step(buffer, in, i, i + 1, got);
    ASSERT_EQ(buffer.sequence(0).count(), 20);
    const std::vector<Index> held = positions(buffer, 0);
    for (Index j = i - 9; j <= i; ++j)
      ASSERT_TRUE(std::binary_search(held.begin(), held.end(), j)) << j;
  }
}

/// The rows that count lie in several chunks, each row with an F of its own.
TYPED_TEST(Snaps, WeighTheLastRowsUnderSelection) {
  using T = TypeParam;
  const Inputs<T> in = inputs<T>(tokens(rows, 8, heads, key_heads), 10);
  const reference::SelectiveAttention a = selective_oracle(in, causal_rules());
  for (const std::optional<Index> chunk : {std::optional<Index>(), std::optional<Index>(7)})
    for (const Index window : {1, 10, 40}) {
      KvOptions o{.budget = 60, .evict = snap(window, 3), .protect = {5}};
      o.chunk = chunk;
      SCOPED_TRACE(describe(o));
      KvBuffer<T> buffer = buffer_for(in, o);
      Buffered<T> got = answers_to(in);
      step(buffer, in, 0, rows, got);
      EXPECT_TRUE(close(got.out, a.out));
      EXPECT_EQ(positions(buffer, 0), kept(a, 60, window, 3, 0, heads));
    }
}

/// Tokens whose weight is negligible go before the step ends, and leave their slots.
TYPED_TEST(Snaps, CountWhatAScoreBoundEvicts) {
  using T = TypeParam;
  const Inputs<T> in = inputs<T>(tokens(rows, 8, heads, key_heads), 11);
  KvOptions o{.budget = 60, .evict = snap(10, 3), .score_bound = 0.0, .negligible = 1.0};
  o.chunk = 7;
  KvBuffer<T> buffer = buffer_for(in, o);
  Buffered<T> got = answers_to(in);
  got.evict_row.resize(1, rows);
  got.evict_row.setConstant(rows + 1);
  step(buffer, in, 0, rows, got);
  const std::vector<Index> held = positions(buffer, 0);
  Index early = 0;
  for (Index j = 0; j < rows; ++j) {
    early += got.evict_row(0, j) < rows;
    EXPECT_EQ(got.evict_row(0, j) > rows, std::binary_search(held.begin(), held.end(), j)) << j;
  }
  EXPECT_GT(early, 0);
  EXPECT_EQ(buffer.sequence(0).count(), Index(held.size()));
  EXPECT_LE(Index(held.size()), 60);
}

TYPED_TEST(Snaps, ActWhenTheStepEnds) {
  const Inputs<TypeParam> in = inputs<TypeParam>(tokens(4, 8), 1);
  for (const EvictWhen when : {EvictWhen::after_row, EvictWhen::chunk_end})
    EXPECT_EQ(message_of<ValueError>(
                  [&] { buffer_for(in, {.budget = 200, .evict = snap, .when = when}); }),
              "snap evicts when a step ends: when is " + std::to_string(int(when)) +
                  ", must be before_row, the default");
}

TYPED_TEST(Snaps, RefuseWindowsThatNoRowBlockHolds) {
  const Inputs<TypeParam> in = inputs<TypeParam>(tokens(4, 8), 1);
  for (const Snap& rule : {snap(0), snap(97), snap(8, 2), snap(8, 0)})
    EXPECT_EQ(message_of<ValueError>([&] { buffer_for(in, {.budget = 200, .evict = rule}); }),
              "snap looks at " + std::to_string(rule.rows) + " rows and " +
                  std::to_string(rule.kernel) +
                  " tokens around each: rows must be 1 … 96, and the tokens odd");
}

}  // namespace
}  // namespace heed::test::snaps
