// SPDX-License-Identifier: MIT
#include "heed/score/selective.hpp"

#include "heed/score/causal.hpp"
#include "heed/score/standard.hpp"
#include "reference/selective.hpp"
#include "support/calls.hpp"
#include "support/fixtures.hpp"
#include "support/sanitizers.hpp"
#include "support/selection.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>

namespace heed::test {
namespace {

template <class T>
class Selection : public testing::Test {};
TYPED_TEST_SUITE(Selection, Scalars, ScalarName);

// ---- the paper

/// Token 2 tells token 3 to forget token 1.
TYPED_TEST(Selection, MovesTheWeightsByHand) {
  using T = TypeParam;
  const T loud = 40;
  const auto in =
      with_scores<T>({{0, 0, 0, 0}, {0, std::log(3.), 0, 0}, {0, loud, 0, 0}, {0, 0, 0, 0}});
  const auto got = select_all(in, scaled(1) | causal, selective);
  EXPECT_TRUE(
      shows(got, {{1, 0, 0, 0}, {.25, .75, 0, 0}, {0, 1, 0, 0}, {1 / 3., 0, 1 / 3., 1 / 3.}}));
  reference::Array f({1, 4, 4});
  f(0, 3, 1) = loud;
  EXPECT_TRUE(close(got.f, f));
  EXPECT_TRUE(close(got.memory, [] {
    reference::Array m({1, 4});
    m.values = {1, 2, 3, 3};
    return m;
  }()));
}

TYPED_TEST(Selection, GivesTheGoldenOutputs) {
  using T = TypeParam;
  for (const std::string& name : fixtures_of_kind("selective")) {
    const Fixture& f = fixture(name);
    if (f.has("mask") || f.has("lengths")) continue;  // selective_company_test.cpp has them
    SCOPED_TRACE(name);
    const Inputs<T> in{tensor<T>(f.array("q")), tensor<T>(f.array("k")), tensor<T>(f.array("v"))};
    const auto stage = selecting({.head = Index(f.number("head")),
                                  .relu = f.number("relu") != 0,
                                  .protect_first = f.number("protect_first") != 0,
                                  .forbid_self = f.number("forbid_self") != 0,
                                  .accumulate = f.number("accumulate") != 0,
                                  .shift = f.number("shift") != 0});
    Tensor<T, 3> queries, keys;
    if (f.has("sel_q")) {
      queries = tensor<T, 3>(f.array("sel_q"));
      keys = tensor<T, 3>(f.array("sel_k"));
    }
    const Selected<T> got = f.has("sel_q")
                                ? select_all(in, standard | causal, stage.projection(queries, keys))
                                : select_all(in, standard | causal, stage);
    EXPECT_TRUE(close(got.out, f.array("out")));
    EXPECT_TRUE(close(got.lse, f.array("lse")));
    EXPECT_TRUE(close(got.carry, f.array("carry_out")));
    if (f.has("F")) {
      EXPECT_TRUE(close(got.f, f.array("F")));
    }
  }
}

/// Both sides of register tiles, row blocks and key blocks.
TYPED_TEST(Selection, MatchesTheOracleAtEveryNumberOfTokens) {
  using T = TypeParam;
  for (const Index n : {1,  2,  3,  4,  5,  7,  8,  9,  11, 12,  13,  15,  16,  17,  24, 25,
                        31, 32, 33, 63, 64, 65, 95, 96, 97, 127, 128, 129, 191, 193, 257}) {
    SCOPED_TRACE(n);
    const Inputs<T> in = inputs<T>(tokens(n, 16, 2, 2), std::uint64_t(n));
    const auto want = selective_oracle(in, causal_rules());
    const Selected<T> got = select_all(in, standard | causal, selective);
    expect_close(got, want);
    EXPECT_TRUE(close(got.carry, want.carry_out)) << "carry";
    EXPECT_TRUE(close(got.f, lower(want.f))) << "F";
    EXPECT_TRUE(close(got.memory, memory_use(want.f))) << "memory";
  }
}

TYPED_TEST(Selection, MatchesTheOracleForEveryGrouping) {
  using T = TypeParam;
  const std::array<std::array<Index, 2>, 7> heads{
      {{1, 1}, {2, 1}, {3, 3}, {4, 2}, {6, 2}, {8, 1}, {8, 8}}};
  for (const auto& [H, G] : heads)
    for (const Index n : {7, 50, 110}) {
      const Shape s = tokens(n, 16, H, G, 2);
      SCOPED_TRACE(describe(s));
      const Inputs<T> in = inputs<T>(s, std::uint64_t(H + n));
      expect_close(attend(in, standard | causal | selective), selective_oracle(in, causal_rules()));
    }
}

TYPED_TEST(Selection, MatchesTheOracleAtEveryHeadDimension) {
  using T = TypeParam;
  for (const Index dim : {1, 2, 3, 7, 8, 15, 16, 17, 33, 40, 64, 65, 80, 128, 129, 256}) {
    Shape s = tokens(45, dim, 2, 1);
    s.value_dim = dim % 2 == 0 ? dim : dim + 3;
    SCOPED_TRACE(describe(s));
    const Inputs<T> in = inputs<T>(s, std::uint64_t(dim));
    expect_close(attend(in, standard | causal | selective), selective_oracle(in, causal_rules()));
  }
}

/// F of a thousand and more; rows here and there, the oracle's F whole.
TYPED_TEST(Selection, MatchesTheOracleOnTwoThousandTokens) {
  using T = TypeParam;
  const Index n = sanitized ? 500 : 2048;
  const Inputs<T> in = inputs<T>(tokens(n, 32, 2, 1), 9, 1.3);
  const reference::Array q = array(in.q), k = array(in.k), v = array(in.v);
  const reference::Rules rules = causal_rules();
  const reference::Votes heard = votes(q, k, rules, {});
  Tensor<T, 2> carry(1, n), use(1, n);
  const Outputs<T> got = attend(in, standard | causal | selective.carry_out(carry).memory(use));
  for (const Index i :
       {Index(0), Index(3), Index(95), Index(96), Index(127), Index(128), n / 2, n - 1})
    for (const Index h : {0, 1}) {
      const reference::Row want = selective_row(q, k, v, rules, heard.f, 0, h, i);
      for (Index d = 0; d < 32; ++d)
        EXPECT_NEAR(got.out(0, h, i, d), want.out[std::size_t(d)], tolerance<T>) << i << ' ' << h;
      EXPECT_NEAR(got.lse(0, h, i), want.lse, tolerance<T> * std::max(1., std::abs(want.lse)));
    }
  EXPECT_TRUE(close(carry, heard.carry_out));
  EXPECT_TRUE(close(use, memory_use(heard.f)));
}

// ---- variants of it

TYPED_TEST(Selection, MatchesTheOracleInEverySetting) {
  using T = TypeParam;
  for (int bits = 0; bits < 32; ++bits)
    for (const Index n : {30, 140}) {
      const SelectOptions o{.head = bits % 3,
                            .relu = (bits & 1) != 0,
                            .protect_first = (bits & 2) != 0,
                            .forbid_self = (bits & 4) != 0,
                            .accumulate = (bits & 8) != 0,
                            .shift = (bits & 16) != 0};
      SCOPED_TRACE(testing::Message() << "bits " << bits << ", " << n << " tokens");
      const Inputs<T> in = inputs<T>(tokens(n, 8, 3, 1), std::uint64_t(bits), o.relu ? 1 : 0.3);
      reference::Selection s;
      s.head = o.head, s.relu = o.relu, s.protect_first = o.protect_first;
      s.forbid_self = o.forbid_self, s.accumulate = o.accumulate, s.shift = o.shift;
      const auto want = selective_oracle(in, causal_rules(), s);
      const Selected<T> got = select_all(in, standard | causal, selecting(o));
      expect_close(got, want);
      EXPECT_TRUE(close(got.carry, want.carry_out)) << "carry";
      EXPECT_TRUE(close(got.f, lower(want.f))) << "F";
    }
}

TYPED_TEST(Selection, MayUseQueriesAndKeysOfItsOwn) {
  using T = TypeParam;
  for (const Index width : {1, 8, 33}) {
    const Inputs<T> in = inputs<T>(tokens(130, 16, 2, 1, 2), 11);
    const Tensor<T, 3> queries = normal<T>(12, 2, 130, width), keys = normal<T>(13, 2, 130, width);
    reference::Selection s;
    s.sel_q = array(queries);
    s.sel_k = array(keys);
    const auto want = selective_oracle(in, causal_rules(), s);
    const Selected<T> got = select_all(in, standard | causal, selective.projection(queries, keys));
    expect_close(got, want);
    EXPECT_TRUE(close(got.carry, want.carry_out));
    EXPECT_TRUE(close(got.f, lower(want.f)));
  }
}

// ---- properties

TYPED_TEST(Selection, ForgetsMoreAndMoreAndNeverTheFirstTheSelfOrTheOneBefore) {
  using T = TypeParam;
  const Index n = 150;
  const Selected<T> s =
      select_all(inputs<T>(tokens(n, 16, 2, 1, 2), 41, 2), standard | causal, selective);
  T largest = 0;
  for (Index b = 0; b < 2; ++b)
    for (Index i = 0; i < n; ++i)
      for (Index j = 0; j < n; ++j) {
        const T f = s.f(b, i, j);
        ASSERT_GE(f, T(0)) << i << ' ' << j;
        if (j == 0 || j >= i - 1) {
          ASSERT_EQ(f, T(0)) << i << ' ' << j;
        }
        if (i > 0) {
          ASSERT_GE(f, s.f(b, i - 1, j)) << i << ' ' << j;
        }
        largest = std::max(largest, f);
      }
  EXPECT_GT(largest, T(50));  // or there was nothing to see
}

/// To the last bit, with so many heads to a key head that plain attention packs its keys too.
TYPED_TEST(Selection, LeavesThreeTokensAlone) {
  using T = TypeParam;
  for (const Index n : {1, 2, 3}) {
    const Inputs<T> in = inputs<T>(tokens(n, 16, 26, 2), 42, 3);
    expect_same_bits(attend(in, standard | causal), attend(in, standard | causal | selective));
  }
  Inputs<T> in = inputs<T>(tokens(4, 16, 2, 2), 43, 3);  // the fourth hears the third
  in.q.chip(2, 2) = in.k.chip(1, 2);
  EXPECT_FALSE(
      same_bits(attend(in, standard | causal).out, attend(in, standard | causal | selective).out));
}

TYPED_TEST(Selection, IsStandardAttentionWhereNobodyVotes) {
  using T = TypeParam;
  Inputs<T> in = inputs<T>(tokens(140, 16, 2, 2), 44);
  for (Index i = 0; i < 140; ++i)
    for (Index d = 0; d < 16; ++d) {
      in.q(0, 0, i, d) = -std::abs(in.q(0, 0, i, d));
      in.k(0, 0, i, d) = std::abs(in.k(0, 0, i, d));
    }
  const Selected<T> got = select_all(in, standard | causal, selective);
  const Outputs<T> plain = attend(in, standard | causal);
  EXPECT_TRUE(close(got.out, plain.out));
  EXPECT_TRUE(close(got.lse, plain.lse));
  for (Index i = 0; i < 140; ++i) EXPECT_EQ(got.memory(0, i), T(i + 1));
  EXPECT_TRUE(close(got.carry, zeros<T, 2>({1, 140}), 0));
}

TYPED_TEST(Selection, HearsTheSelectingHeadOnly) {
  using T = TypeParam;
  const Inputs<T> in = inputs<T>(tokens(130, 16, 3, 3), 45);
  Inputs<T> other = in;
  for (const Index h : {1, 2}) {
    other.q.chip(h, 1) = in.q.chip(h, 1) * T(-3);
    other.k.chip(h, 1) = in.k.chip(0, 1);
  }
  other.v = in.v * in.v.constant(T(7));
  const Selected<T> a = select_all(in, standard | causal, selective),
                    b = select_all(other, standard | causal, selective);
  EXPECT_TRUE(same_bits(a.f, b.f));
  EXPECT_TRUE(same_bits(a.carry, b.carry));
}

TYPED_TEST(Selection, ForgetsTwiceAsMuchWhenAskedTwiceAsLoud) {
  using T = TypeParam;
  const Inputs<T> in = inputs<T>(tokens(100, 16, 2, 2), 46);
  Inputs<T> loud = in;
  loud.q.chip(0, 1) = in.q.chip(0, 1) * T(2);
  const Selected<T> a = select_all(in, standard | causal, selective),
                    b = select_all(loud, standard | causal, selective);
  const Tensor<T, 3> twice = a.f * a.f.constant(T(2));
  EXPECT_TRUE(close(b.f, twice));
}

TYPED_TEST(Selection, DependsOnNoLaterToken) {
  using T = TypeParam;
  const Inputs<T> in = inputs<T>(tokens(140, 16, 2, 1), 47);
  const Outputs<T> before = attend(in, standard | causal | selective);
  for (const T value : {T(1e3), std::numeric_limits<T>::quiet_NaN()})
    for (const Index t : {1, 3, 12, 31, 32, 95, 96, 97, 128, 139}) {
      Inputs<T> changed = in;
      for (Tensor<T>* x : {&changed.q, &changed.k, &changed.v})
        for (Index i = t; i < 140; ++i) x->chip(i, 2).setConstant(value);
      const Outputs<T> after = attend(changed, standard | causal | selective);
      ASSERT_TRUE(same_bits(slice(before.out, 0, t), slice(after.out, 0, t))) << t << ' ' << value;
      ASSERT_TRUE(same_bits(slice(before.lse, 0, t), slice(after.lse, 0, t))) << t << ' ' << value;
    }
}

TYPED_TEST(Selection, DoesNotMixBatchEntries) {
  using T = TypeParam;
  const Inputs<T> in = inputs<T>(tokens(77, 16, 2, 1, 4), 48);
  const Selected<T> all = select_all(in, standard | causal, selective);
  for (Index b = 0; b < 4; ++b) {
    const Eigen::array<Index, 4> at{b, 0, 0, 0}, one_q{1, 2, 77, 16}, one_k{1, 1, 77, 16};
    const Inputs<T> alone{in.q.slice(at, one_q), in.k.slice(at, one_k), in.v.slice(at, one_k)};
    const Tensor<T> part = all.out.slice(at, one_q);
    const Selected<T> got = select_all(alone, standard | causal, selective);
    EXPECT_TRUE(same_bits(got.out, part)) << b;
    const Tensor<T, 2> carry =
        all.carry.slice(Eigen::array<Index, 2>{b, 0}, Eigen::array<Index, 2>{1, 77});
    EXPECT_TRUE(same_bits(got.carry, carry)) << b;
  }
}

TYPED_TEST(Selection, PermutesWithTheHeadsThatDoNotSelect) {
  using T = TypeParam;
  const Inputs<T> in = inputs<T>(tokens(60, 8, 3, 3), 49);
  Inputs<T> swapped = in;
  for (const auto& [to, from] : std::array<std::array<Index, 2>, 2>{{{1, 2}, {2, 1}}}) {
    swapped.q.chip(to, 1) = in.q.chip(from, 1);
    swapped.k.chip(to, 1) = in.k.chip(from, 1);
    swapped.v.chip(to, 1) = in.v.chip(from, 1);
  }
  const Outputs<T> a = attend(in, standard | causal | selective),
                   b = attend(swapped, standard | causal | selective);
  for (Index i = 0; i < 60; ++i)
    for (Index d = 0; d < 8; ++d) {
      EXPECT_EQ(a.out(0, 0, i, d), b.out(0, 0, i, d));
      EXPECT_EQ(a.out(0, 1, i, d), b.out(0, 2, i, d));
      EXPECT_EQ(a.out(0, 2, i, d), b.out(0, 1, i, d));
    }
}

TYPED_TEST(Selection, ProtectsTheKeysThatItIsTold) {
  using T = TypeParam;
  const Inputs<T> in = inputs<T>(tokens(70, 16, 2, 2), 21);
  const auto usual = select_all(in, standard | causal, selective);
  const auto protecting = [&](const Tensor<std::uint8_t, 2>& keys) {
    return select_all(in, standard | causal, SelectiveWith<T>{}.protected_keys(keys));
  };
  Tensor<std::uint8_t, 2> keys(1, 70);
  keys.setZero();
  expect_same_bits(protecting(keys),
                   select_all(in, standard | causal, selecting({.protect_first = false})));
  keys(0, 0) = 1;
  expect_same_bits(protecting(keys), usual);
  keys(0, 5) = keys(0, 40) = 7;
  const auto some = protecting(keys);
  for (Index i = 0; i < 70; ++i)
    for (Index j = 0; j < 70; ++j)
      EXPECT_EQ(some.f(0, i, j), j == 5 || j == 40 ? T(0) : usual.f(0, i, j)) << i << ' ' << j;
  const Tensor<std::uint8_t, 2> few(1, 69);
  expect_refusal<ShapeError>(in, standard | causal | SelectiveWith<T>{}.protected_keys(few),
                             "protected_keys is [1, 69], should be [1, 70]");
}

TYPED_TEST(Selection, IsLinearInTheValues) {
  using T = TypeParam;
  Inputs<T> in = inputs<T>(tokens(130, 16, 2, 1), 50);
  const Inputs<T> other = inputs<T>(tokens(130, 16, 2, 1), 51);
  const auto variant = standard | causal | selective;
  const Outputs<T> a = attend(in, variant);
  Inputs<T> second{in.q, in.k, other.v}, both{in.q, in.k, in.v + other.v * other.v.constant(T(2))};
  const Outputs<T> b = attend(second, variant), sum = attend(both, variant);
  const Tensor<T> want = a.out + b.out * b.out.constant(T(2));
  EXPECT_TRUE(close(sum.out, want));
  in.v.setConstant(T(1));
  Tensor<T> ones = a.out;
  ones.setConstant(T(1));
  EXPECT_TRUE(close(attend(in, variant).out, ones));
}

// ---- memory

TYPED_TEST(Selection, HoldsBetweenTwoAndAllTokensInMemory) {
  using T = TypeParam;
  const Index n = 150;
  const Selected<T> s =
      select_all(inputs<T>(tokens(n, 16, 2, 1), 61, 3), standard | causal, selective);
  T least_ratio = 1;
  for (Index i = 0; i < n; ++i) {
    EXPECT_GE(s.memory(0, i), T(std::min<Index>(i + 1, 2)) - T(tolerance<T>));
    EXPECT_LE(s.memory(0, i), T(i + 1));
    least_ratio = std::min(least_ratio, s.memory(0, i) / T(i + 1));
  }
  EXPECT_LT(least_ratio, T(0.5));  // or there was nothing to see
}

/// M sums over j ≤ i: what was carried against keys that come later is not yet a row's.
TYPED_TEST(Selection, CountsInMemoryNoKeyBehindTheRow) {
  using T = TypeParam;
  const Inputs<T> in = inputs<T>({1, 1, 1, 3, 9, 8, 8}, 62);
  Tensor<T, 2> carry(1, 9), use(1, 3);
  carry.setConstant(T(0.5));
  attend(in, standard | causal_at(6) | selective.carry_in(carry).memory(use));
  EXPECT_NEAR(use(0, 0), 7 * 0.5, tolerance<T>);
}

TYPED_TEST(Selection, CountsTheGoldenMemory) {
  using T = TypeParam;
  const Fixture& f = fixture("lmem_2layers");
  for (const Index layer : {0, 1}) {
    const std::string l = std::to_string(layer);
    const Inputs<T> in{tensor<T>(f.array("q" + l)), tensor<T>(f.array("k" + l)),
                       tensor<T>(f.array("v" + l))};
    Tensor<T, 2> use(2, 18);
    attend(in, standard | causal | selective.memory(use));
    reference::Array want({2, 18});
    for (Index b = 0; b < 2; ++b)
      for (Index i = 0; i < 18; ++i) want(b, i) = f.array("M")(layer, b, i);
    EXPECT_TRUE(close(use, want));
  }
}

// ---- errors

TYPED_TEST(Selection, RefusesWhatDoesNotFit) {
  using T = TypeParam;
  const Inputs<T> in = inputs<T>(tokens(4, 8, 2, 1), 1);
  Tensor<T, 2> wrong(1, 5), use(2, 4);
  Tensor<T, 3> f(1, 4, 5), queries = normal<T>(1, 1, 4, 3), keys = normal<T>(1, 1, 4, 2);
  const auto before = standard | causal;
  expect_refusal<ValueError>(in, before | selecting({.head = 2}), "head 2 selects, there are 2");
  expect_refusal<ValueError>(in, before | selecting({.head = -1}), "head -1");
  expect_refusal<ShapeError>(in, before | selective.carry_in(wrong), "carry_in is [1, 5]");
  expect_refusal<ShapeError>(in, before | selective.carry_out(wrong), "carry_out is [1, 5]");
  expect_refusal<ShapeError>(in, before | selective.memory(use), "memory is [2, 4]");
  expect_refusal<ShapeError>(in, before | selective.mask_f(f), "mask_f is [1, 4, 5]");
  expect_refusal<ShapeError>(in, before | selective.projection(queries, keys), "[1, 4, 2]");
  Tensor<T, 2> right(1, 4), none;  // a tensor that was never allocated is one of no entries
  Tensor<T, 3> no_f;
  expect_refusal<ShapeError>(in, before | selective.carry_in(none), "carry_in is [0, 0]");
  expect_refusal<ShapeError>(in, before | selective.carry_out(none), "carry_out is [0, 0]");
  expect_refusal<ShapeError>(in, before | selective.memory(none), "memory is [0, 0]");
  expect_refusal<ShapeError>(in, before | selective.mask_f(no_f), "mask_f is [0, 0, 0]");
  expect_refusal<ValueError>(in, before | selective.memory(right, 0), "tau is 0");
}

}  // namespace
}  // namespace heed::test
