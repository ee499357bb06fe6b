// SPDX-License-Identifier: MIT
#include "heed/engine/merge.hpp"

#include "heed/engine/forward.hpp"
#include "heed/score/standard.hpp"
#include "reference/merge.hpp"
#include "support/calls.hpp"

#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <limits>
#include <vector>

namespace heed::test {
namespace {

template <class T>
class Merge : public testing::Test {
 protected:
  static Outputs<T> join(const Outputs<T>& a, const Outputs<T>& b) {
    Outputs<T> m{Tensor<T>(a.out.dimensions()), Tensor<T, 3>(a.lse.dimensions()), {}};
    merge(a.out, a.lse, b.out, b.lse, m.out, m.lse);
    return m;
  }
  static Inputs<T> keys(const Inputs<T>& in, Index from, Index to) {
    return {in.q, slice(in.k, from, to), slice(in.v, from, to)};
  }
};
TYPED_TEST_SUITE(Merge, Scalars, ScalarName);

TYPED_TEST(Merge, JoinsByHand) {
  using T = TypeParam;
  const auto left = attend(with_scores<T>({{0}}), scaled(1));  // one key of score 0
  auto right = left;
  right.lse(0, 0, 0) = T(std::log(3.));  // three more
  right.out(0, 0, 0, 0) = T(5);
  const auto both = TestFixture::join(left, right);
  EXPECT_NEAR(both.out(0, 0, 0, 0), 0.25 * 1 + 0.75 * 5, tolerance<T>);
  EXPECT_NEAR(both.lse(0, 0, 0), std::log(4.), tolerance<T>);
}

TYPED_TEST(Merge, MatchesTheOracle) {
  using T = TypeParam;
  const Outputs<T> a{normal<T>(1, 2, 3, 17, 9), normal<T>(2, 2, 3, 17) * T(20), {}},
      b{normal<T>(3, 2, 3, 17, 9), normal<T>(4, 2, 3, 17) * T(20), {}};
  expect_close(TestFixture::join(a, b),
               reference::merge(array(a.out), array(a.lse), array(b.out), array(b.lse)));
}

TYPED_TEST(Merge, OfAnySplitIsTheWhole) {
  using T = TypeParam;
  const Inputs<T> in = inputs<T>(Shape{2, 4, 2, 21, 200, 16, 24}, 5);
  const Outputs<T> whole = attend(in, standard);
  for (const Index at : {0, 1, 31, 32, 100, 128, 199, 200}) {
    const Outputs<T> both = TestFixture::join(attend(TestFixture::keys(in, 0, at), standard),
                                              attend(TestFixture::keys(in, at, 200), standard));
    EXPECT_TRUE(close(both.out, whole.out)) << at;
    EXPECT_TRUE(close(both.lse, whole.lse)) << at;
  }
}

TYPED_TEST(Merge, OfManyPiecesInAnyOrderIsTheWhole) {
  using T = TypeParam;
  const Inputs<T> in = inputs<T>(Shape{1, 2, 2, 9, 210, 16, 16}, 6, 3);
  const Outputs<T> whole = attend(in, standard);
  const std::vector<Index> cuts{0, 7, 50, 51, 130, 210};
  std::vector<Outputs<T>> pieces;
  for (std::size_t c = 0; c + 1 < cuts.size(); ++c)
    pieces.push_back(attend(TestFixture::keys(in, cuts[c], cuts[c + 1]), standard));
  Outputs<T> left = pieces[0], right = pieces[4];
  for (std::size_t p : {1u, 2u, 3u, 4u}) left = TestFixture::join(left, pieces[p]);
  for (std::size_t p : {2u, 0u, 3u, 1u}) right = TestFixture::join(pieces[p], right);
  for (const Outputs<T>& m : {left, right}) {
    EXPECT_TRUE(close(m.out, whole.out));
    EXPECT_TRUE(close(m.lse, whole.lse));
  }
}

TYPED_TEST(Merge, WithNothingChangesNothing) {
  using T = TypeParam;
  const Inputs<T> in = inputs<T>(Shape{1, 2, 1, 9, 40, 8, 8}, 8);
  const Outputs<T> some = attend(in, standard),
                   none = attend(TestFixture::keys(in, 0, 0), standard);
  expect_same_bits(some, TestFixture::join(some, none));
  expect_same_bits(some, TestFixture::join(none, some));
  expect_same_bits(none, TestFixture::join(none, none));
}

/// What stands beside an lse of −∞ is no part of the result, whatever it is.
TYPED_TEST(Merge, DoesNotReadTheOutputOfASideThatSawNothing) {
  using T = TypeParam;
  const Inputs<T> in = inputs<T>(Shape{1, 2, 1, 9, 40, 8, 8}, 9);
  const Outputs<T> some = attend(in, standard);
  Outputs<T> none = attend(TestFixture::keys(in, 0, 0), standard);
  none.out.setConstant(std::numeric_limits<T>::quiet_NaN());
  expect_same_bits(some, TestFixture::join(some, none));
}

TYPED_TEST(Merge, OfScoresFarApartKeepsTheHigherSide) {
  using T = TypeParam;
  const Inputs<T> in = inputs<T>(Shape{1, 1, 1, 9, 40, 8, 8}, 10);
  const Outputs<T> low = attend(in, standard);
  Outputs<T> high = low;
  high.out = low.out * low.out.constant(T(-2));
  for (Index i = 0; i < 9; ++i) high.lse(0, 0, i) = low.lse(0, 0, i) + T(5000);
  const Outputs<T> m = TestFixture::join(low, high);
  EXPECT_TRUE(close(m.out, high.out));
  EXPECT_TRUE(close(m.lse, high.lse));
}

TYPED_TEST(Merge, MayOverwriteEitherSide) {
  using T = TypeParam;
  const Inputs<T> in = inputs<T>(Shape{1, 2, 1, 9, 60, 8, 8}, 11);
  const Outputs<T> a = attend(TestFixture::keys(in, 0, 20), standard),
                   b = attend(TestFixture::keys(in, 20, 60), standard),
                   want = TestFixture::join(a, b);
  Outputs<T> left = a, right = b;
  merge(left.out, left.lse, b.out, b.lse, left.out, left.lse);
  merge(a.out, a.lse, right.out, right.lse, right.out, right.lse);
  expect_same_bits(want, left);
  expect_same_bits(want, right);
}

TYPED_TEST(Merge, NamesWhatDiffers) {
  using T = TypeParam;
  Tensor<T> out(1, 2, 3, 4), other(1, 2, 3, 5);
  Tensor<T, 3> lse(1, 2, 3), short_lse(1, 2, 2);
  const auto says = [](const auto& call, const std::string& words) {
    const std::string message = message_of<ShapeError>(call);
    EXPECT_NE(message.find(words), std::string::npos) << message;
  };
  says([&] { merge(out, lse, other, lse, out, lse); }, "out_b is [1, 2, 3, 5]");
  says([&] { merge(out, lse, out, lse, other, lse); }, "out is [1, 2, 3, 5]");
  says([&] { merge(out, short_lse, out, lse, out, lse); }, "lse_a is [1, 2, 2]");
  says([&] { merge(out, lse, out, short_lse, out, lse); }, "lse_b is [1, 2, 2]");
  says([&] { merge(out, lse, out, lse, out, short_lse); }, "lse is [1, 2, 2]");
}

}  // namespace
}  // namespace heed::test
