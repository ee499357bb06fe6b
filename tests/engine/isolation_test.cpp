// SPDX-License-Identifier: MIT
// What a row must not depend on: other rows, other batch entries, other heads, what it cannot see.

#include "heed/engine/forward.hpp"
#include "heed/score/causal.hpp"
#include "heed/score/standard.hpp"
#include "support/calls.hpp"

#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <limits>

namespace heed::test {
namespace {

template <class T>
class Isolation : public testing::Test {};
TYPED_TEST_SUITE(Isolation, Scalars, ScalarName);

TYPED_TEST(Isolation, ARowDoesNotDependOnItsBatchMates) {
  using T = TypeParam;
  const Inputs<T> in = inputs<T>(tokens(77, 16, 2, 1, 5), 31);
  const Outputs<T> all = attend(in, causally);
  for (Index b = 0; b < 5; ++b) {
    const Eigen::array<Index, 4> at{b, 0, 0, 0}, one_q{1, 2, 77, 16}, one_k{1, 1, 77, 16};
    const Inputs<T> alone{in.q.slice(at, one_q), in.k.slice(at, one_k), in.v.slice(at, one_k)};
    const Tensor<T> part = all.out.slice(at, one_q);
    EXPECT_TRUE(same_bits(attend(alone, causally).out, part)) << b;
  }
}

TYPED_TEST(Isolation, ARowDependsOnNoLaterToken) {
  using T = TypeParam;
  const Inputs<T> in = inputs<T>(tokens(140, 16, 2, 1), 32);
  const Outputs<T> before = attend(in, causally);
  for (const Index t : {1, 12, 31, 32, 96, 97, 128, 139}) {
    Inputs<T> changed = in;
    for (Tensor<T>* x : {&changed.q, &changed.k, &changed.v})
      for (Index i = t; i < 140; ++i) x->chip(i, 2).setConstant(T(1e3));
    const Outputs<T> after = attend(changed, causally);
    EXPECT_TRUE(same_bits(slice(before.out, 0, t), slice(after.out, 0, t))) << t;
    EXPECT_TRUE(same_bits(slice(before.lse, 0, t), slice(after.lse, 0, t))) << t;
  }
}

TYPED_TEST(Isolation, PermutingHeadsPermutesOutputs) {
  using T = TypeParam;
  const Inputs<T> in = inputs<T>(tokens(60, 8, 3, 3), 33);
  Inputs<T> turned = in;
  for (Index h = 0; h < 3; ++h) {
    turned.q.chip(h, 1) = in.q.chip((h + 1) % 3, 1);
    turned.k.chip(h, 1) = in.k.chip((h + 1) % 3, 1);
    turned.v.chip(h, 1) = in.v.chip((h + 1) % 3, 1);
  }
  const Outputs<T> a = attend(in, causally);
  Outputs<T> b = attend(turned, causally), back = b;
  for (Index h = 0; h < 3; ++h) {
    back.out.chip((h + 1) % 3, 1) = b.out.chip(h, 1);
    back.lse.chip((h + 1) % 3, 1) = b.lse.chip(h, 1);
  }
  expect_same_bits(a, back);
}

TYPED_TEST(Isolation, PermutingKeysWithTheirValuesChangesNothing) {
  using T = TypeParam;
  const Inputs<T> in = inputs<T>({1, 2, 2, 20, 150, 16, 16}, 34);
  Inputs<T> turned = in;
  for (Index j = 0; j < 150; ++j) {
    turned.k.chip(j, 2) = in.k.chip((7 * j + 3) % 150, 2);
    turned.v.chip(j, 2) = in.v.chip((7 * j + 3) % 150, 2);
  }
  const Outputs<T> a = attend(in, standard), b = attend(turned, standard);
  EXPECT_TRUE(close(a.out, b.out));
  EXPECT_TRUE(close(a.lse, b.lse));
}

// ---- what must not leak

/// NaN or infinity in a token changes no bit of the rows before it, which do not see it.
TYPED_TEST(Isolation, APoisonedTokenDoesNotReachTheRowsBeforeIt) {
  using T = TypeParam;
  const T inf = std::numeric_limits<T>::infinity();
  const Inputs<T> in = inputs<T>(tokens(140, 16, 2, 1), 41);
  const Outputs<T> clean = attend(in, causally);
  for (const T poison : {std::numeric_limits<T>::quiet_NaN(), inf, -inf})
    for (const Index t : {1, 5, 12, 15, 16, 31, 32, 33, 96, 127, 128, 139})
      for (const int which : {0, 1, 2}) {
        Inputs<T> bad = in;
        (which == 0 ? bad.q : which == 1 ? bad.k : bad.v).chip(t, 2).setConstant(poison);
        const Outputs<T> got = attend(bad, causally);
        ASSERT_TRUE(same_bits(slice(clean.out, 0, t), slice(got.out, 0, t)))
            << "token " << t << " of tensor " << which << " is " << poison;
      }
}

TYPED_TEST(Isolation, APoisonedQueryStaysInItsRow) {
  using T = TypeParam;
  const Inputs<T> in = inputs<T>({1, 2, 1, 40, 60, 16, 16}, 42);
  const Outputs<T> clean = attend(in, standard);
  Inputs<T> bad = in;
  bad.q.chip(17, 2).setConstant(std::numeric_limits<T>::quiet_NaN());
  const Outputs<T> got = attend(bad, standard);
  for (const auto& [from, to] : std::array<std::array<Index, 2>, 2>{{{0, 17}, {18, 40}}}) {
    EXPECT_TRUE(same_bits(slice(clean.out, from, to), slice(got.out, from, to)));
    EXPECT_TRUE(same_bits(slice(clean.lse, from, to), slice(got.lse, from, to)));
  }
}

TYPED_TEST(Isolation, APoisonedHeadStaysInItsGroup) {
  using T = TypeParam;
  const Inputs<T> in = inputs<T>(tokens(40, 16, 4, 2, 2), 43);
  const Outputs<T> clean = attend(in, standard);
  Inputs<T> bad = in;
  const T nan = std::numeric_limits<T>::quiet_NaN();
  bad.k.chip(1, 0).chip(1, 0).setConstant(nan);
  bad.v.chip(1, 0).chip(1, 0).setConstant(nan);
  const Outputs<T> got = attend(bad, standard);
  for (Index b = 0; b < 2; ++b)
    for (Index h = 0; h < 4; ++h)
      for (Index i = 0; i < 40; ++i)
        for (Index d = 0; d < 16; ++d) {
          if (b == 1 && h >= 2) continue;
          ASSERT_EQ(got.out(b, h, i, d), clean.out(b, h, i, d)) << b << ' ' << h << ' ' << i;
        }
}

TYPED_TEST(Isolation, AVisibleNaNIsNotHiddenFromTheCaller) {
  using T = TypeParam;
  Inputs<T> in = inputs<T>({1, 1, 1, 14, 40, 8, 8}, 44);
  in.v(0, 0, 11, 3) = std::numeric_limits<T>::quiet_NaN();
  const Outputs<T> got = attend(in, standard);
  for (Index i = 0; i < 14; ++i) EXPECT_TRUE(std::isnan(got.out(0, 0, i, 3))) << i;
}

}  // namespace
}  // namespace heed::test
