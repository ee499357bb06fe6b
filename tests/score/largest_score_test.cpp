// SPDX-License-Identifier: MIT
#include "heed/score/largest_score.hpp"

#include "heed/core/thread_pool.hpp"
#include "heed/engine/backward.hpp"
#include "heed/score/bias.hpp"
#include "heed/score/selective.hpp"
#include "heed/score/when.hpp"
#include "heed/score/window.hpp"
#include "support/calls.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <limits>

namespace heed::test {
namespace {

template <class T>
class LargestScores : public testing::Test {};
TYPED_TEST_SUITE(LargestScores, Scalars, ScalarName);

/// Of every head, from the oracle's rows of scores.
template <class T>
void expect_largest(const Tensor<T, 2>& got, const Inputs<T>& in, const reference::Rules& rules) {
  const reference::Array q = array(in.q), k = array(in.k);
  for (Index b = 0; b < q.dim(0); ++b)
    for (Index h = 0; h < q.dim(1); ++h) {
      double most = -std::numeric_limits<double>::infinity();
      for (Index i = 0; i < q.dim(2); ++i)
        for (const double z : reference::score_row(q, k, rules, b, h, i)) most = std::max(most, z);
      if (most == -std::numeric_limits<double>::infinity())
        EXPECT_EQ(got(b, h), -std::numeric_limits<T>::infinity()) << b << ' ' << h;
      else
        EXPECT_NEAR(got(b, h), most, 10 * tolerance<T>) << b << ' ' << h;
    }
}

/// Few rows and many, a mask that cuts tiles, and keys behind the rows that must not count.
TYPED_TEST(LargestScores, AreThoseOfVisiblePairs) {
  using T = TypeParam;
  for (const Index n : {1, 5, 17, 130, 300})
    for (const bool selects : {false, true}) {
      SCOPED_TRACE(testing::Message() << n << (selects ? ", selective" : ""));
      const Inputs<T> in = inputs<T>(tokens(n, 8, 6, 3, 2), std::uint64_t(n));
      Tensor<T, 2> largest(2, 6);
      largest.setConstant(T(1000));
      const auto variant =
          standard | causal | window(40, 0) | largest_score(largest) | when(selects, selective);
      const Outputs<T> got = attend(in, variant);
      expect_largest(largest, in, seeing(reference::causal() && reference::window(40, 0)));
      const Outputs<T> without =
          attend(in, standard | causal | window(40, 0) | when(selects, selective));
      expect_same_bits(got, without);

      largest.setConstant(T(1000));
      Tensor<T> grad_q = in.q, grad_k = in.k, grad_v = in.v;
      backward(in.q, in.k, in.v, variant, got.out, got.lse, in.q, grad_q, grad_k, grad_v);
      EXPECT_EQ(largest(0, 0), T(1000)) << "backward() wrote";
    }
}

TYPED_TEST(LargestScores, AreTheSameForAnyNumberOfThreads) {
  using T = TypeParam;
  const Inputs<T> in = inputs<T>(tokens(500, 8, 4, 4), 3);
  Tensor<T, 2> one(1, 4), many(1, 4);
  attend(in, standard | causal | largest_score(one));
  Eigen::ThreadPool pool(3);
  attend(in, standard | causal | largest_score(many), {.executor = executor(pool)});
  EXPECT_TRUE(same_bits(one, many));
}

TYPED_TEST(LargestScores, OfAHeadThatSeesNothingAreMinusInfinity) {
  using T = TypeParam;
  const Inputs<T> in = inputs<T>(tokens(20, 8, 2, 1), 4);
  Tensor<T> hiding(1, 2, 1, 1);
  hiding.setValues({{{{T(0)}}, {{-std::numeric_limits<T>::infinity()}}}});
  Tensor<T, 2> largest(1, 2);
  attend(in, standard | bias(hiding) | largest_score(largest));
  reference::Rules rules;
  rules.bias = array(hiding);
  expect_largest(largest, in, rules);
  expect_refusal<ShapeError>(in, standard | largest_score(View<T, 2>(largest.data(), {2, 1})),
                             "largest_score is [2, 1]");
}

}  // namespace
}  // namespace heed::test
