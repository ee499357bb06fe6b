// SPDX-License-Identifier: MIT
#include "heed/engine/forward.hpp"

#include "heed/score/causal.hpp"
#include "heed/score/standard.hpp"
#include "reference/attention.hpp"
#include "support/calls.hpp"
#include "support/fixtures.hpp"
#include "support/sanitizers.hpp"

#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <limits>
#include <vector>

namespace heed::test {
namespace {

template <class T>
class Forward : public testing::Test {};
TYPED_TEST_SUITE(Forward, Scalars, ScalarName);

TYPED_TEST(Forward, GivesTheGoldenOutputs) {
  using T = TypeParam;
  for (const char* name : {"std_causal_mha", "std_noncausal_gqa", "std_causal_mqa_dv"}) {
    SCOPED_TRACE(name);
    const Fixture& f = fixture(name);
    const Inputs<T> in{tensor<T>(f.array("q")), tensor<T>(f.array("k")), tensor<T>(f.array("v"))};
    const auto got = f.number("causal") != 0 ? attend(in, causally) : attend(in, standard);
    EXPECT_TRUE(close(got.out, f.array("out")));
    EXPECT_TRUE(close(got.lse, f.array("lse")));
  }
}

/// Rows: both sides of the register tiles (of 1, 4, 6 and 12 rows) and of the row blocks.
TYPED_TEST(Forward, MatchesTheOracleAtEveryNumberOfQueries) {
  using T = TypeParam;
  for (const Index rows : {1,  2,  3,  4,  5,  6,  7,  8,  9,  11, 12,  13,  23,  24,  25,  31, 32,
                           33, 47, 48, 49, 63, 64, 65, 95, 96, 97, 127, 128, 129, 191, 192, 193}) {
    const Shape s{.batch = 1,
                  .heads = 2,
                  .key_heads = 1,
                  .queries = rows,
                  .keys = 37,
                  .dim = 16,
                  .value_dim = 16};
    SCOPED_TRACE(describe(s));
    const Inputs<T> in = inputs<T>(s, std::uint64_t(rows));
    expect_oracle(in, standard, {});
    reference::Rules rules = seeing(reference::causal_at(s.keys - s.queries));
    expect_oracle(in, standard | causal_at(s.keys - s.queries), rules);
  }
}

/// Keys: both sides of a register, of several, and of the key blocks.
TYPED_TEST(Forward, MatchesTheOracleAtEveryNumberOfKeys) {
  using T = TypeParam;
  for (const Index keys : {1,  2,  3,  4,  5,   7,   8,   9,   15,  16,  17,  31,  32,  33,  63, 64,
                           65, 95, 96, 97, 127, 128, 129, 159, 160, 161, 255, 256, 257, 384, 385}) {
    const Shape s{.batch = 1,
                  .heads = 2,
                  .key_heads = 2,
                  .queries = 14,
                  .keys = keys,
                  .dim = 8,
                  .value_dim = 8};
    SCOPED_TRACE(describe(s));
    const Inputs<T> in = inputs<T>(s, std::uint64_t(keys));
    expect_oracle(in, standard, {});
    expect_oracle(in, standard | causal_at(0), seeing(reference::causal_at(0)));
  }
}

TYPED_TEST(Forward, MatchesTheOracleAtEveryNumberOfTokens) {
  using T = TypeParam;
  for (const Index n :
       {1, 2, 3, 5, 11, 12, 13, 31, 32, 33, 95, 96, 97, 127, 128, 129, 193, 257, 300}) {
    SCOPED_TRACE(n);
    const Inputs<T> in = inputs<T>(tokens(n, 16, 2, 2, 2), std::uint64_t(n));
    expect_oracle(in, causally, seeing(reference::causal()));
  }
}

TYPED_TEST(Forward, MatchesTheOracleAtEveryHeadDimension) {
  using T = TypeParam;
  for (const Index dim : {1,  2,  3,  4,  5,  7,  8,  9,   15,  16,  17,  24,  31,  32, 33,
                          40, 48, 63, 64, 65, 80, 96, 100, 112, 127, 128, 129, 192, 256}) {
    Shape s = tokens(35, dim, 2, 1);
    SCOPED_TRACE(describe(s));
    const Inputs<T> in = inputs<T>(s, std::uint64_t(dim));
    expect_oracle(in, causally, seeing(reference::causal()));
  }
}

TYPED_TEST(Forward, TakesValuesOfAnyWidth) {
  using T = TypeParam;
  const std::array<std::array<Index, 2>, 16> dims{{{16, 1},
                                                   {16, 2},
                                                   {16, 3},
                                                   {1, 16},
                                                   {40, 24},
                                                   {24, 40},
                                                   {64, 65},
                                                   {65, 64},
                                                   {3, 100},
                                                   {100, 3},
                                                   {128, 256},
                                                   {256, 128},
                                                   {8, 31},
                                                   {8, 32},
                                                   {8, 33},
                                                   {64, 7}}};
  for (const auto& [dim, value_dim] : dims) {
    const Shape s{.batch = 2,
                  .heads = 2,
                  .key_heads = 2,
                  .queries = 15,
                  .keys = 41,
                  .dim = dim,
                  .value_dim = value_dim};
    SCOPED_TRACE(describe(s));
    expect_oracle(inputs<T>(s, 5), standard, {});
  }
}

TYPED_TEST(Forward, RepeatsKeyHeadsForNeighbouringQueryHeads) {
  using T = TypeParam;
  const std::array<std::array<Index, 2>, 8> heads{
      {{1, 1}, {2, 1}, {3, 1}, {4, 2}, {6, 2}, {6, 3}, {8, 1}, {16, 4}}};
  for (const auto& [H, G] : heads) {
    const Shape s = tokens(29, 12, H, G, 2);
    SCOPED_TRACE(describe(s));
    const Inputs<T> in = inputs<T>(s, std::uint64_t(H));
    expect_oracle(in, causally, seeing(reference::causal()));

    // And by hand: head h of the group reads key head h / (H / G), not h mod G.
    Inputs<T> repeated{in.q, Tensor<T>(2, H, 29, 12), Tensor<T>(2, H, 29, 12)};
    for (Index h = 0; h < H; ++h) {
      repeated.k.chip(h, 1) = in.k.chip(h / (H / G), 1);
      repeated.v.chip(h, 1) = in.v.chip(h / (H / G), 1);
    }
    EXPECT_TRUE(close(attend(in, causally).out, attend(repeated, causally).out));
  }
}

TYPED_TEST(Forward, MatchesTheOracleAtRandomSizes) {
  using T = TypeParam;
  Random random(99);
  for (int trial = 0; trial < (sanitized ? 12 : 60); ++trial) {
    const Index G = random.integer(1, 4);
    const Shape s{.batch = random.integer(1, 4),
                  .heads = G * random.integer(1, 4),
                  .key_heads = G,
                  .queries = random.integer(1, 150),
                  .keys = random.integer(1, 200),
                  .dim = random.integer(1, 70),
                  .value_dim = random.integer(1, 70)};
    SCOPED_TRACE(describe(s));
    const Inputs<T> in = inputs<T>(s, std::uint64_t(trial));
    if (trial % 2 == 0)
      expect_oracle(in, standard, {});
    else
      expect_oracle(in, standard | causal_at(s.keys - s.queries),
                    seeing(reference::causal_at(s.keys - s.queries)));
  }
}

/// Too long for the oracle as a whole: rows here and there.
TYPED_TEST(Forward, MatchesTheOracleOnFourThousandTokens) {
  using T = TypeParam;
  const Index n = sanitized ? 600 : 4096;
  const Inputs<T> in = inputs<T>(tokens(n, 64, 2, 1), 7);
  const Outputs<T> got = attend(in, causally);
  const reference::Array q = array(in.q), k = array(in.k), v = array(in.v);
  const reference::Rules rules = seeing(reference::causal());
  for (const Index i : {Index(0), Index(1), Index(95), Index(96), Index(511), n / 2, n - 97, n - 1})
    for (const Index h : {0, 1}) {
      const reference::Row want = attention_row(q, k, v, rules, 0, h, i);
      for (Index d = 0; d < 64; ++d)
        EXPECT_NEAR(got.out(0, h, i, d), want.out[std::size_t(d)], tolerance<T>)
            << "row " << i << ", head " << h << ", dimension " << d;
      EXPECT_NEAR(got.lse(0, h, i), want.lse, tolerance<T> * std::max(1., std::abs(want.lse)));
    }
}

TYPED_TEST(Forward, TheOutputAloneIsTheSame) {
  using T = TypeParam;
  const Inputs<T> in = inputs<T>(tokens(70, 24, 2, 1, 2), 8);
  Tensor<T> out(2, 2, 70, 24);
  forward(in.q, in.k, in.v, causally, out);
  EXPECT_TRUE(same_bits(out, attend(in, causally).out));
}

// ---- empty sizes

TYPED_TEST(Forward, RowsWithoutAnyKeyAreZero) {
  using T = TypeParam;
  const Shape s{
      .batch = 2, .heads = 2, .key_heads = 1, .queries = 15, .keys = 0, .dim = 8, .value_dim = 9};
  const Outputs<T> got = attend(inputs<T>(s, 1), standard);
  expect_close(got, oracle(inputs<T>(s, 1)));
  EXPECT_EQ(got.lse(1, 1, 14), -std::numeric_limits<T>::infinity());
}

TYPED_TEST(Forward, HasNothingToDoForNoQueriesNoBatchOrNoHeads) {
  using T = TypeParam;
  for (const Shape& s :
       {Shape{1, 1, 1, 0, 5, 8, 8}, Shape{0, 2, 1, 5, 5, 8, 8}, Shape{1, 0, 1, 5, 5, 8, 8}}) {
    SCOPED_TRACE(describe(s));
    const Outputs<T> got = attend(inputs<T>(s, 1), standard);
    EXPECT_EQ(got.out.size(), 0);
    EXPECT_EQ(got.visited.pairs, 0);
  }
}

TYPED_TEST(Forward, WritesTheLogSumExpForValuesOfNoWidth) {
  using T = TypeParam;
  const Shape s{1, 1, 1, 7, 9, 8, 0};
  EXPECT_TRUE(close(attend(inputs<T>(s, 1), standard).lse, oracle(inputs<T>(s, 1)).lse));
}

// ---- the softmax

TYPED_TEST(Forward, AveragesTheValuesWhenAllScoresAreEqual) {
  using T = TypeParam;
  Inputs<T> in = inputs<T>(tokens(131, 16), 21);
  in.q.setZero();
  const Outputs<T> got = attend(in, causally);
  std::vector<double> sum(16);
  for (Index i = 0; i < 131; ++i)
    for (Index d = 0; d < 16; ++d) {
      sum[std::size_t(d)] += in.v(0, 0, i, d);
      EXPECT_NEAR(got.out(0, 0, i, d), sum[std::size_t(d)] / double(i + 1), 4 * tolerance<T>);
    }
  EXPECT_NEAR(got.lse(0, 0, 130), std::log(131.), 10 * tolerance<T>);
}

TYPED_TEST(Forward, ReturnsOneWhereAllValuesAreOne) {
  using T = TypeParam;
  for (const double amplitude : {0.1, 1., 10., 100.}) {
    Inputs<T> in = inputs<T>(tokens(200, 32), 22, amplitude);
    in.v.setConstant(T(1));
    const Outputs<T> got = attend(in, causally);
    Tensor<T> ones = got.out;
    ones.setConstant(T(1));
    EXPECT_TRUE(close(got.out, ones)) << amplitude;
  }
}

/// Scores of ±thousands: exp would overflow, or vanish, without the maximum.
TYPED_TEST(Forward, HasNoTroubleWithLargeScores) {
  using T = TypeParam;
  for (const double amplitude : {8., 30., 100.}) {
    SCOPED_TRACE(amplitude);
    const Inputs<T> in = inputs<T>(tokens(150, 16, 2, 2), 23, amplitude);
    const Outputs<T> got = attend(in, causally);
    const reference::Attention want = oracle(in, seeing(reference::causal()));
    // A score of s is off by s ε, a weight by as much again.
    const double allowed = tolerance<T> * amplitude * amplitude;
    EXPECT_TRUE(close(got.out, want.out, allowed));
    EXPECT_TRUE(close(got.lse, want.lse));
  }
}

/// The maximum moves with every key, or never after the first.
TYPED_TEST(Forward, FollowsScoresThatRiseOrFallFromKeyToKey) {
  using T = TypeParam;
  for (const double slope : {-30., -3., -0.3, -0.01, 0.01, 0.3, 3., 30.}) {
    SCOPED_TRACE(slope);
    Inputs<T> in = inputs<T>(tokens(300, 4), 24);
    in.q.setConstant(T(1));
    for (Index j = 0; j < 300; ++j)
      for (Index d = 0; d < 4; ++d) in.k(0, 0, j, d) = T(slope * double(j) / 2);
    const Outputs<T> got = attend(in, standard);
    const reference::Attention want = oracle(in);
    EXPECT_TRUE(close(got.out, want.out, tolerance<T> * std::max(1., std::abs(slope) * 300)));
    EXPECT_TRUE(close(got.lse, want.lse));
  }
}

/// All low but one, which stands at any place of a block.
TYPED_TEST(Forward, FindsTheOneHighScoreWhereverItStands) {
  using T = TypeParam;
  for (const Index where : {0, 1, 15, 16, 31, 32, 63, 127, 128, 129, 255, 256, 299}) {
    Inputs<T> in = inputs<T>({1, 1, 1, 14, 300, 4, 4}, 25);
    in.q.setConstant(T(10));
    in.k.setConstant(T(-10));
    for (Index d = 0; d < 4; ++d) in.k(0, 0, where, d) = T(10);
    const Outputs<T> got = attend(in, standard);
    for (Index i = 0; i < 14; ++i)
      for (Index d = 0; d < 4; ++d)
        ASSERT_NEAR(got.out(0, 0, i, d), in.v(0, 0, where, d), 10 * tolerance<T>) << where;
  }
}

// ---- work done

TEST(ForwardVisits, EveryPairOfAFullCall) {
  const Shape s{2, 4, 2, 30, 50, 8, 8};
  const WorkStats v = attend(inputs<float>(s, 61), standard).visited;
  EXPECT_EQ(v.pairs, 2 * 4 * 30 * 50);
  EXPECT_GT(v.tiles, 0);
}

/// Rows that fill up a group, and keys that fill up a panel, are no pairs.
TEST(ForwardVisits, NoPairThatIsNotThere) {
  for (const Index rows : {1, 2, 5, 7, 13, 31, 97, 101})
    for (const Index keys : {1, 31, 129}) {
      const Shape s{2, 3, 3, rows, keys, 8, 8};
      EXPECT_EQ(attend(inputs<float>(s, 63), standard).visited.pairs, 2 * 3 * rows * keys)
          << rows << " rows, " << keys << " keys";
    }
}

TEST(ForwardVisits, AboutHalfOfThemIfCausal) {
  const Index n = 1024;
  const Inputs<float> in = inputs<float>(tokens(n, 8), 62);
  const WorkStats all = attend(in, standard).visited, half = attend(in, causally).visited;
  EXPECT_GE(half.pairs, n * (n + 1) / 2);
  EXPECT_LT(double(half.pairs), 0.65 * double(all.pairs));
  EXPECT_LT(half.tiles, all.tiles);
}

}  // namespace
}  // namespace heed::test
