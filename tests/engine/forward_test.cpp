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
#include <cfenv>
#include <cmath>
#include <limits>
#include <string>
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

// ---- layouts

TYPED_TEST(Forward, ReadsAndWritesTokensBeforeHeads) {
  using T = TypeParam;
  const Index B = 2, H = 4, G = 2, N = 50, D = 20;
  const Inputs<T> in = inputs<T>(tokens(N, D, H, G, B), 11);
  const Eigen::array<int, 4> swap{0, 2, 1, 3};
  Tensor<T> q = in.q.shuffle(swap), k = in.k.shuffle(swap), v = in.v.shuffle(swap);
  Tensor<T> out(B, N, H, D);
  forward(bnhd<const T>(q.data(), B, N, H, D), bnhd<const T>(k.data(), B, N, G, D),
          bnhd<const T>(v.data(), B, N, G, D), causally, bnhd(out.data(), B, N, H, D));
  const Tensor<T> back = out.shuffle(swap);
  EXPECT_TRUE(same_bits(back, attend(in, causally).out));
}

TYPED_TEST(Forward, TakesHeadsSideBySideInOneRow) {
  using T = TypeParam;
  const Index B = 2, H = 3, N = 33, D = 8;
  Tensor<T, 3> q = normal<T>(1, B, N, H * D), k = normal<T>(2, B, N, H * D),
               v = normal<T>(3, B, N, H * D), out(B, N, H * D);
  forward(bnhd<const T>(q.data(), B, N, H, D), bnhd<const T>(k.data(), B, N, H, D),
          bnhd<const T>(v.data(), B, N, H, D), causally, bnhd(out.data(), B, N, H, D));
  Inputs<T> in{Tensor<T>(B, H, N, D), Tensor<T>(B, H, N, D), Tensor<T>(B, H, N, D)};
  for (Index b = 0; b < B; ++b)
    for (Index h = 0; h < H; ++h)
      for (Index i = 0; i < N; ++i)
        for (Index d = 0; d < D; ++d) {
          in.q(b, h, i, d) = q(b, i, h * D + d);
          in.k(b, h, i, d) = k(b, i, h * D + d);
          in.v(b, h, i, d) = v(b, i, h * D + d);
        }
  const Outputs<T> want = attend(in, causally);
  for (Index b = 0; b < B; ++b)
    for (Index h = 0; h < H; ++h)
      for (Index i = 0; i < N; ++i)
        for (Index d = 0; d < D; ++d)
          ASSERT_EQ(out(b, i, h * D + d), want.out(b, h, i, d))
              << b << ' ' << h << ' ' << i << ' ' << d;
}

TYPED_TEST(Forward, LeavesTheGapsOfAStridedOutputAlone) {
  using T = TypeParam;
  const Index N = 40, D = 10, padded = 13;
  const Inputs<T> in = inputs<T>(tokens(N, D, 2, 2), 12);
  Tensor<T> wide_k(1, 2, N, padded), wide_out(1, 2, N, padded);
  wide_k.setConstant(std::numeric_limits<T>::quiet_NaN());
  wide_out.setConstant(T(-7));
  for (Index h = 0; h < 2; ++h)
    for (Index i = 0; i < N; ++i)
      for (Index d = 0; d < D; ++d) wide_k(0, h, i, d) = in.k(0, h, i, d);
  const Dims<4> dims{1, 2, N, D}, strides{2 * N * padded, N * padded, padded, 1};
  forward(in.q, View<const T, 4>(wide_k.data(), dims, strides), in.v, standard,
          View<T, 4>(wide_out.data(), dims, strides));
  const Outputs<T> want = attend(in, standard);
  for (Index h = 0; h < 2; ++h)
    for (Index i = 0; i < N; ++i)
      for (Index d = 0; d < padded; ++d)
        ASSERT_EQ(wide_out(0, h, i, d), d < D ? want.out(0, h, i, d) : T(-7))
            << h << ' ' << i << ' ' << d;
}

TYPED_TEST(Forward, WritesALogSumExpOfAnyStrides) {
  using T = TypeParam;
  const Inputs<T> in = inputs<T>(tokens(30, 8, 2, 1), 14);
  Tensor<T> out(1, 2, 30, 8);
  Tensor<T, 3> by_token(1, 30, 2);
  forward(in.q, in.k, in.v, standard, out, View<T, 3>(by_token.data(), {1, 2, 30}, {60, 1, 2}));
  const Outputs<T> want = attend(in, standard);
  for (Index h = 0; h < 2; ++h)
    for (Index i = 0; i < 30; ++i) ASSERT_EQ(by_token(0, i, h), want.lse(0, h, i));
}

TYPED_TEST(Forward, ATensorMapIsAsGoodAsATensor) {
  using T = TypeParam;
  const Inputs<T> in = inputs<T>(tokens(20, 8), 13);
  Tensor<T> out(1, 1, 20, 8);
  Eigen::TensorMap<const Tensor<T>> q(in.q.data(), in.q.dimensions());
  Eigen::TensorMap<Tensor<T>> result(out.data(), out.dimensions());
  forward(q, in.k, in.v, standard, result);
  EXPECT_TRUE(same_bits(out, attend(in, standard).out));
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

// ---- errors

TYPED_TEST(Forward, NamesTheShapesThatDisagreeAndWritesNothing) {
  using T = TypeParam;
  Tensor<T> q = normal<T>(1, 1, 2, 4, 8), out(1, 2, 4, 8), short_out(1, 2, 3, 8);
  Tensor<T, 3> lse(1, 2, 4), short_lse(1, 2, 3);
  out.setConstant(T(3));
  lse.setConstant(T(3));
  const Tensor<T> untouched = out;
  const Tensor<T, 3> untouched_lse = lse;
  const auto message = [&](const Tensor<T>& k, const Tensor<T>& v) {
    return message_of<ShapeError>([&] { forward(q, k, v, standard, out, lse); });
  };
  const auto of = [](Index b, Index h, Index n, Index d) { return normal<T>(2, b, h, n, d); };

  EXPECT_EQ(message(of(1, 2, 5, 9), of(1, 2, 5, 8)), "k is [1, 2, 5, 9], q is [1, 2, 4, 8]");
  EXPECT_EQ(message(of(2, 2, 5, 8), of(2, 2, 5, 8)), "k is [2, 2, 5, 8], q is [1, 2, 4, 8]");
  EXPECT_EQ(message(of(1, 2, 5, 8), of(1, 2, 6, 8)), "v is [1, 2, 6, 8], k is [1, 2, 5, 8]");
  EXPECT_EQ(message(of(1, 2, 5, 8), of(1, 1, 5, 8)), "v is [1, 1, 5, 8], k is [1, 2, 5, 8]");
  EXPECT_NE(message(of(1, 3, 5, 8), of(1, 3, 5, 8)).find("k is [1, 3, 5, 8], q is [1, 2, 4, 8]"),
            std::string::npos);
  EXPECT_NE(message(of(1, 4, 5, 8), of(1, 4, 5, 8)).find("k is [1, 4, 5, 8]"), std::string::npos);
  EXPECT_TRUE(same_bits(out, untouched));
  EXPECT_TRUE(same_bits(lse, untouched_lse));

  const Tensor<T> k = of(1, 2, 5, 8);
  const std::string wrong_out =
      message_of<ShapeError>([&] { forward(q, k, k, standard, short_out, lse); });
  EXPECT_NE(wrong_out.find("out is [1, 2, 3, 8]"), std::string::npos) << wrong_out;
  EXPECT_NE(wrong_out.find("[1, 2, 4, 8]"), std::string::npos) << wrong_out;
  EXPECT_TRUE(same_bits(lse, untouched_lse));
  const std::string wrong_lse =
      message_of<ShapeError>([&] { forward(q, k, k, standard, out, short_lse); });
  EXPECT_NE(wrong_lse.find("lse is [1, 2, 3]"), std::string::npos) << wrong_lse;
  EXPECT_NE(wrong_lse.find("[1, 2, 4]"), std::string::npos) << wrong_lse;
  EXPECT_TRUE(same_bits(out, untouched));
}

/// To leave it out is to give none; a tensor that was never allocated is a mistake.
TYPED_TEST(Forward, RefusesALogSumExpThatWasNeverAllocated) {
  using T = TypeParam;
  const Inputs<T> in = inputs<T>(tokens(4, 8, 2, 1), 1);
  Tensor<T> out(1, 2, 4, 8), no_out;
  Tensor<T, 3> lse(1, 2, 4), no_lse;
  const auto message = [&](Tensor<T>& to, Tensor<T, 3>& to_lse) {
    return message_of<ShapeError>([&] { forward(in.q, in.k, in.v, standard, to, to_lse); });
  };
  EXPECT_NE(message(out, no_lse).find("lse is [0, 0, 0]"), std::string::npos);
  EXPECT_NE(message(no_out, lse).find("out is [0, 0, 0, 0]"), std::string::npos);
  forward(in.q, in.k, in.v, standard, out, View<T, 3>());
  EXPECT_TRUE(same_bits(out, attend(in, standard).out));
}

TYPED_TEST(Forward, RefusesRowsWithGapsBetweenNumbers) {
  using T = TypeParam;
  const Tensor<T> x = normal<T>(1, 1, 1, 4, 16);
  Tensor<T> out(1, 1, 4, 8);
  const View<const T, 4> gaps(x.data(), {1, 1, 4, 8}, {64, 64, 16, 2});
  const View<const T, 4> whole(x.data(), {1, 1, 4, 8}, {64, 64, 16, 1});
  EXPECT_THROW(forward(gaps, whole, whole, standard, out), ShapeError);
  EXPECT_THROW(forward(whole, gaps, whole, standard, out), ShapeError);
  EXPECT_THROW(forward(whole, whole, gaps, standard, out), ShapeError);
  Tensor<T> wide(1, 1, 4, 16);
  EXPECT_THROW(forward(whole, whole, whole, standard,
                       View<T, 4>(wide.data(), {1, 1, 4, 8}, {64, 64, 16, 2})),
               ShapeError);
}

TEST(ForwardErrors, AreInvalidArguments) {
  EXPECT_TRUE((std::is_base_of_v<std::invalid_argument, ShapeError>));
  EXPECT_TRUE((std::is_base_of_v<std::invalid_argument, ValueError>));
}

// ---- the caller's floating point

/// The library may flush subnormal numbers to zero within a call; the caller's own must not be.
TEST(ForwardEnvironment, LeavesSubnormalNumbersToTheCaller) {
  const Inputs<float> in = inputs<float>(tokens(20, 8), 51);
  attend(in, causally);
  volatile float tiny = std::numeric_limits<float>::min();
  volatile float half = tiny / 2;
  EXPECT_GT(half, 0.f);
}

TEST(ForwardEnvironment, SurvivesSubnormalInputs) {
  Inputs<float> in = inputs<float>(tokens(20, 8), 52);
  in.k = in.k * in.k.constant(1e-39f);
  in.v = in.v * in.v.constant(1e-39f);
  const Outputs<float> got = attend(in, causally);
  EXPECT_TRUE(finite(got.out));
  EXPECT_NEAR(got.lse(0, 0, 19), std::log(20.), 1e-5);
}

/// Sums of subnormal products are slow. Here every row's keys are far below its own, which is the
/// last it meets; all are of one tile, so that no maximum is raised, which may flush what was
/// before.
TEST(ForwardEnvironment, MeetsNoSubnormalNumbersWhereScoresLieFarApart) {
  Inputs<float> in = inputs<float>(tokens(8, 16), 53);
  in.q = in.k = in.k * in.k.constant(20.f);
  in.v = in.v.abs() + in.v.constant(0.01f);
  std::feclearexcept(FE_ALL_EXCEPT);
  attend(in, causally);
  EXPECT_EQ(std::fetestexcept(FE_UNDERFLOW), 0);
}

// ---- work done

TEST(ForwardVisits, EveryPairOfAFullCall) {
  const Shape s{2, 4, 2, 30, 50, 8, 8};
  const Visited v = attend(inputs<float>(s, 61), standard).visited;
  EXPECT_GE(v.pairs, 2 * 4 * 30 * 50);
  EXPECT_GT(v.tiles, 0);
}

TEST(ForwardVisits, AboutHalfOfThemIfCausal) {
  const Index n = 1024;
  const Inputs<float> in = inputs<float>(tokens(n, 8), 62);
  const Visited all = attend(in, standard).visited, half = attend(in, causally).visited;
  EXPECT_GE(half.pairs, n * (n + 1) / 2);
  EXPECT_LT(double(half.pairs), 0.65 * double(all.pairs));
  EXPECT_LT(half.tiles, all.tiles);
}

}  // namespace
}  // namespace heed::test
