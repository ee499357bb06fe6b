// SPDX-License-Identifier: MIT
// The results of a buffer with eviction, compared with the definition, token by token.

#include "heed/kv/kv_buffer.hpp"

#include "support/buffers.hpp"
#include "support/fixtures.hpp"
#include "support/sanitizers.hpp"

#include <gtest/gtest.h>

#include <array>
#include <optional>
#include <string>
#include <vector>

namespace heed::test {
namespace {

template <class T>
class KvBuffers : public testing::Test {};
TYPED_TEST_SUITE(KvBuffers, Scalars, ScalarName);

template <class T>
Inputs<T> inputs_of(const Fixture& f) {
  return {tensor<T>(f.array("q")), tensor<T>(f.array("k")), tensor<T>(f.array("v"))};
}

/// Of three tokens in a buffer of two the middle one is evicted.
TYPED_TEST(KvBuffers, HoldTheFirstTokenAndTheSelfByHand) {
  const auto in = with_scores<TypeParam>({{0, 0, 0}, {0, 0, 0}, {0, 0, 0}});
  const Buffered<TypeParam> got = through(KvOptions{.budget = 2}, in);
  EXPECT_TRUE(shows(got, {{1, 0, 0}, {.5, .5, 0}, {.5, 0, .5}}));
  EXPECT_EQ(got.evict_row(0, 0), 3);
  EXPECT_EQ(got.evict_row(0, 1), 2);
  EXPECT_EQ(got.evict_row(0, 2), 3);
}

/// Token 2 votes token 1 out: token 3 takes its place though token 1 is not the oldest.
TYPED_TEST(KvBuffers, ForgetWhomATokenVotedOutByHand) {
  using T = TypeParam;
  Inputs<T> in = with_scores<T>(
      {{0, 0, 0, 0, 0}, {0, 0, 0, 0, 0}, {0, 0, 0, 0, 0}, {0, 0, 9, 0, 0}, {0, 0, 0, 0, 0}});
  KvBuffer<T> buffer = buffer_for(in, {.budget = 4});
  const Buffered<T> got = through(buffer, in);
  EXPECT_EQ(got.evict_row(0, 2), 4);
  using Token = std::pair<Index, double>;
  EXPECT_EQ(held(buffer.sequence(0)), (std::vector<Token>{{0, 0.}, {1, 0.}, {3, 0.}, {4, 0.}}));
}

// ---- golden

TYPED_TEST(KvBuffers, GiveTheGoldenOutputsEvictionsAndCarries) {
  using T = TypeParam;
  const std::vector<std::string> names = fixtures_of_kind("prune");
  ASSERT_EQ(names.size(), 4u);
  for (const std::string& name : names)
    for (const Index chunk : {1, 2, 5, 16, 64}) {
      SCOPED_TRACE(testing::Message() << name << ", chunk " << chunk);
      const Fixture& f = fixture(name);
      const Inputs<T> in = inputs_of<T>(f);
      KvBuffer<T> buffer = buffer_for(in, {.budget = Index(f.number("budget")), .chunk = chunk});
      const Buffered<T> got = through(buffer, in);
      EXPECT_TRUE(close(got.out, f.array("out")));
      EXPECT_TRUE(close(array(got.evict_row), f.array("evict_row"), 0));

      const reference::Array &position = f.array("final_pos"), &carry = f.array("final_carry");
      reference::Array position_held(position.dims), carry_held(carry.dims);
      for (Index b = 0; b < position.dim(0); ++b) {
        const auto tokens = held(buffer.sequence(b));
        ASSERT_EQ(Index(tokens.size()), position.dim(1));
        EXPECT_EQ(buffer.sequence(b).count(), position.dim(1));
        for (Index s = 0; s < position.dim(1); ++s)
          std::tie(position_held(b, s), carry_held(b, s)) = tokens[std::size_t(s)];
      }
      EXPECT_TRUE(close(position_held, position, 0));
      EXPECT_TRUE(close(carry_held, carry, tolerance<T>));
    }
}

TYPED_TEST(KvBuffers, GiveTheGoldenOutputWhereKeysGoAtTheEndsOfChunks) {
  using T = TypeParam;
  const std::vector<std::string> names = fixtures_of_kind("prune_lazy");
  ASSERT_EQ(names.size(), 1u);
  const Fixture& f = fixture(names[0]);
  const Buffered<T> got = through(KvOptions{.budget = Index(f.number("budget")),
                                            .when = EvictWhen::chunk_end,
                                            .chunk = Index(f.number("chunk"))},
                                  inputs_of<T>(f));
  EXPECT_TRUE(close(got.out, f.array("out")));
  EXPECT_TRUE(close(array(got.evict_row), f.array("evict_row"), 0));
}

// ---- the oracle

/// Budgets: the smallest, small, one that evicts a single token, and some that evict none.
/// Chunks: one, few, both sides of the engine's row block of 96, beyond which they are cut.
class EveryRule {
 public:
  static constexpr Index tokens = sanitized ? 50 : 100;
  static constexpr std::array<Index, 7> chunks{1, 2, 7, 16, 40, 96, 97};
  static std::vector<std::optional<Index>> budgets() {
    return {2, 3, 7, tokens - 1, tokens, tokens + 5, std::nullopt};
  }
};

/// Evictions and the tokens held do not depend on the chunk.
TYPED_TEST(KvBuffers, MatchTheOracleForEveryRuleBudgetAndChunk) {
  using T = TypeParam;
  Shape shape = tokens(EveryRule::tokens, 5, 2, 1);
  shape.value_dim = 3;
  std::uint64_t seed = 0;
  for (const Evict evict : {Evict::most_masked, Evict::least_attended, Evict::oldest})
    for (const EvictWhen when : {EvictWhen::before_row, EvictWhen::after_row})
      for (const bool selects : {true, false})
        for (const std::optional<Index> budget : EveryRule::budgets()) {
          KvOptions o{.budget = budget, .evict = evict, .when = when};
          if (!selects) o.select.reset();
          const Decided<T> problem = decided<T>(shape, o, ++seed);
          for (const Index chunk : EveryRule::chunks) {
            if (evict == Evict::least_attended && chunk != 1) continue;
            o.chunk = chunk;
            SCOPED_TRACE(describe(o));
            expect_pruned(through(o, problem.in), problem.want);
          }
        }
}

TYPED_TEST(KvBuffers, MatchTheOracleWhereKeysGoAtTheEndsOfChunks) {
  using T = TypeParam;
  Shape shape = tokens(EveryRule::tokens, 5, 2, 1);
  shape.value_dim = 3;
  std::uint64_t seed = 100;
  for (const Evict evict : {Evict::most_masked, Evict::least_attended, Evict::oldest})
    for (const bool selects : {true, false})
      for (const std::optional<Index> budget : EveryRule::budgets())
        for (const Index chunk : EveryRule::chunks) {
          if (evict == Evict::least_attended && chunk != 1) continue;
          if (chunk > 96) continue;  // is refused
          KvOptions o{.budget = budget, .evict = evict, .when = EvictWhen::chunk_end};
          if (!selects) o.select.reset();
          o.chunk = chunk;
          EXPECT_EQ(o.chunk, std::min<Index>(chunk, 96));
          SCOPED_TRACE(describe(o));
          const Decided<T> problem = decided<T>(shape, o, ++seed);
          expect_pruned(through(o, problem.in), problem.want);
        }
}

TYPED_TEST(KvBuffers, MatchTheOracleForEveryGroupingDimensionAndBatch) {
  using T = TypeParam;
  const std::array<Shape, 12> shapes{{{1, 1, 1, 40, 40, 16, 16},
                                      {2, 4, 2, 40, 40, 17, 16},
                                      {3, 4, 1, 35, 35, 8, 24},
                                      {1, 6, 2, 50, 50, 3, 1},
                                      {1, 8, 8, 30, 30, 20, 7},
                                      {1, 12, 1, 25, 25, 1, 33},
                                      {5, 2, 2, 21, 21, 5, 2},
                                      {1, 16, 2, 30, 30, 33, 65},
                                      {2, 3, 3, 33, 33, 64, 64},
                                      {1, 2, 1, 1, 1, 4, 4},
                                      {2, 2, 1, 2, 2, 4, 5},
                                      {1, 5, 5, 45, 45, 80, 100}}};
  std::uint64_t seed = 200;
  for (const Shape& shape : shapes)
    for (const Index budget : {5, 12}) {
      KvOptions o{.budget = budget};
      const Decided<T> problem = decided<T>(shape, o, ++seed);
      for (const Index chunk : {1, 4, 13, 33}) {
        o.chunk = chunk;
        SCOPED_TRACE(describe(shape) + ", " + describe(o));
        expect_pruned(through(o, problem.in), problem.want);
      }
    }
}

/// Both sides of panels of keys and of the engine's key blocks of 128.
TYPED_TEST(KvBuffers, MatchTheOracleForEveryNumberOfSlots) {
  using T = TypeParam;
  std::uint64_t seed = 300;
  for (const Index budget : {4, 8, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 129, 160}) {
    if (sanitized && budget > 65) break;
    KvOptions o{.budget = budget};
    const Decided<T> problem = decided<T>(tokens(budget + 20, 8), o, ++seed);
    for (const Index chunk : {1, 12}) {
      o.chunk = chunk;
      SCOPED_TRACE(describe(o));
      expect_pruned(through(o, problem.in), problem.want);
    }
  }
}

TYPED_TEST(KvBuffers, MatchTheOracleWhoeverIsProtected) {
  using T = TypeParam;
  const std::array<Vector<Index>, 6> protected_sets{
      {{}, {0}, {0, 1, 2}, {5}, {3, 17, 30}, {0, 1, 1000}}};
  std::uint64_t seed = 400;
  for (const Vector<Index>& protect : protected_sets)
    for (const Index recent : {1, 2, 6})
      for (const Index spare : {0, 1, 5})
        for (const EvictWhen when : {EvictWhen::before_row, EvictWhen::after_row}) {
          KvOptions o{.budget = Index(protect.size()) + recent + spare,
                      .when = when,
                      .protect = protect,
                      .recent = recent};
          const Decided<T> problem = decided<T>(tokens(40, 6, 2, 1), o, ++seed);
          for (const Index chunk : {1, 9}) {
            o.chunk = chunk;
            SCOPED_TRACE(describe(o));
            expect_pruned(through(o, problem.in), problem.want);
          }
        }
}

TYPED_TEST(KvBuffers, MatchTheOracleForTheOtherRulesWhoeverIsProtected) {
  using T = TypeParam;
  std::uint64_t seed = 500;
  for (const Evict evict : {Evict::least_attended, Evict::oldest})
    for (const EvictWhen when :
         {EvictWhen::before_row, EvictWhen::after_row, EvictWhen::chunk_end}) {
      KvOptions o{.budget = 11, .evict = evict, .when = when, .protect = {0, 4}, .recent = 5};
      SCOPED_TRACE(describe(o));
      const Decided<T> problem = decided<T>(tokens(40, 6, 4, 2, 2), o, ++seed);
      expect_pruned(through(o, problem.in), problem.want);
    }
}

// ---- steps

/// The same tokens, however they are handed over.
TYPED_TEST(KvBuffers, TakeTokensInStepsOfAnySize) {
  using T = TypeParam;
  const Inputs<T> in = inputs<T>(tokens(60, 8, 4, 2, 2), 601);
  for (const Index chunk : {1, 8}) {
    const KvOptions o{.budget = 12, .chunk = chunk};
    KvBuffer<T> at_once = buffer_for(in, o);
    const Buffered<T> whole = through(at_once, in);
    for (const std::vector<Index>& ends : {std::vector<Index>{60},
                                           {1, 2, 3, 60},
                                           {59, 60},
                                           {8, 16, 60},
                                           {12, 13, 14, 40, 60},
                                           {0, 30, 30, 60}}) {
      SCOPED_TRACE(testing::PrintToString(ends) + ", chunk " + std::to_string(chunk));
      KvBuffer<T> buffer = buffer_for(in, o);
      Buffered<T> got = answers_to(in);
      Index from = 0;
      for (const Index to : ends) {
        step(buffer, in, from, to, got);
        from = to;
      }
      EXPECT_TRUE(close(got.out, whole.out));
      EXPECT_TRUE(close(got.lse, whole.lse));
      EXPECT_TRUE(same_bits(got.evict_row, whole.evict_row));
      for (Index b = 0; b < 2; ++b) {
        const auto a = held(buffer.sequence(b)), c = held(at_once.sequence(b));
        ASSERT_EQ(a.size(), c.size());
        for (std::size_t s = 0; s < a.size(); ++s) {
          EXPECT_EQ(a[s].first, c[s].first);
          EXPECT_NEAR(a[s].second, c[s].second, tolerance<T> * (1 + c[s].second));
        }
      }
    }
  }
}

TYPED_TEST(KvBuffers, DecodeTokenByTokenToTheBitAsInOneStep) {
  using T = TypeParam;
  const Inputs<T> in = inputs<T>(tokens(70, 16, 4, 2, 2), 602);
  for (const std::optional<Index> budget : {std::optional<Index>(9), std::optional<Index>()}) {
    const KvOptions o{.budget = budget, .chunk = 1};
    KvBuffer<T> one = buffer_for(in, o), other = buffer_for(in, o);
    expect_same_bits(through(one, in), decode(other, in));
  }
}

/// A prompt in blocks evicts what token by token does, at the same rows, and F is the same to the
/// bit.
TYPED_TEST(KvBuffers, SelectInBlocksToTheBitAsTokenByToken) {
  using T = TypeParam;
  for (const Index dim : {12, 64}) {
    const Inputs<T> in = inputs<T>(tokens(250, dim, 4, 2, 2), 604);
    for (const std::optional<Index> budget : {std::optional<Index>(70), std::optional<Index>()}) {
      KvBuffer<T> blocks = buffer_for(in, {.budget = budget}),
                  rows = buffer_for(in, {.budget = budget, .chunk = 1});
      const Buffered<T> got = through(blocks, in), want = through(rows, in);
      EXPECT_TRUE(same_bits(got.evict_row, want.evict_row));
      EXPECT_TRUE(close(got.out, array(want.out)));
      for (const Index b : {0, 1}) EXPECT_EQ(held(blocks.sequence(b)), held(rows.sequence(b)));
    }
  }
}

TYPED_TEST(KvBuffers, DependOnNoLaterToken) {
  using T = TypeParam;
  const Inputs<T> in = inputs<T>(tokens(60, 8, 2, 1), 603);
  for (const Index chunk : {1, 20}) {
    const KvOptions o{.budget = 10, .chunk = chunk};
    const Buffered<T> before = through(o, in);
    for (const T value : {T(1e3), std::numeric_limits<T>::quiet_NaN()})
      for (const Index t : {1, 3, 12, 25, 59}) {
        Inputs<T> changed = in;
        for (Tensor<T>* x : {&changed.q, &changed.k, &changed.v})
          for (Index i = t; i < 60; ++i) x->chip(i, 2).setConstant(value);
        const Buffered<T> after = through(o, changed);
        ASSERT_TRUE(same_bits(slice(before.out, 0, t), slice(after.out, 0, t)))
            << t << ' ' << value;
        ASSERT_TRUE(same_bits(slice(before.lse, 0, t), slice(after.lse, 0, t)))
            << t << ' ' << value;
      }
  }
}

TYPED_TEST(KvBuffers, DoNotMixSequences) {
  using T = TypeParam;
  const Inputs<T> in = inputs<T>(tokens(50, 8, 4, 2, 3), 604);
  const KvOptions o{.budget = 9, .chunk = 6};
  const Buffered<T> all = through(o, in);
  for (Index b = 0; b < 3; ++b) {
    const auto one = [&](const Tensor<T>& x) -> Tensor<T> {
      return x.slice(Eigen::array<Index, 4>{b, 0, 0, 0},
                     Eigen::array<Index, 4>{1, x.dimension(1), x.dimension(2), x.dimension(3)});
    };
    const Buffered<T> alone = through(o, Inputs<T>{one(in.q), one(in.k), one(in.v)});
    EXPECT_TRUE(same_bits(alone.out, one(all.out))) << b;
  }
}

/// What a token costs does not depend on how many came before it.
TYPED_TEST(KvBuffers, CostTheSameAtEveryPosition) {
  using T = TypeParam;
  const Inputs<T> in = inputs<T>(tokens(500, 8, 2, 1), 605);
  KvBuffer<T> buffer = buffer_for(in, {.budget = 20});
  Buffered<T> answers = answers_to(in);
  step(buffer, in, 0, 20, answers);
  for (Index i = 20; i < 500; ++i) {
    const Index before = answers.visited.pairs;
    step(buffer, in, i, i + 1, answers);
    ASSERT_EQ(answers.visited.pairs - before, 2 * 20) << i;
  }
}

// ---- errors

TYPED_TEST(KvBuffers, RefuseSizesThatDoNotFit) {
  using T = TypeParam;
  const auto message = [](const KvShape& shape) {
    return message_of<std::invalid_argument>([&] { KvBuffer<T>(shape, {}); });
  };
  for (const KvShape& shape : {KvShape{.batch = 0}, KvShape{.heads = 0}, KvShape{.key_heads = 0},
                               KvShape{.dim = 0}, KvShape{.value_dim = 0}, KvShape{.batch = -1}})
    EXPECT_EQ(message(shape), "KvBuffer: every size must be at least 1");
  EXPECT_EQ(message({.heads = 6, .key_heads = 4}),
            "KvBuffer: 6 query heads are no multiple of 4 key heads");
  EXPECT_THROW(KvBuffer<T>({.heads = 6, .key_heads = 4}, {}), ShapeError);
  EXPECT_THROW(KvBuffer<T>({.dim = 0}, {}), ValueError);
}

}  // namespace
}  // namespace heed::test
