// SPDX-License-Identifier: MIT
#include "heed/score/relative_bias.hpp"

#include "heed/engine/backward.hpp"
#include "heed/kv/kv_buffer.hpp"
#include "heed/score/query_offset.hpp"
#include "heed/score/when.hpp"
#include "reference/backward.hpp"
#include "support/calls.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <optional>
#include <string>

namespace heed::test {
namespace {

template <class T>
class RelativeBiases : public testing::Test {};
TYPED_TEST_SUITE(RelativeBiases, Scalars, ScalarName);

/// T5's function, as its authors wrote it.
Index bucket(Index distance, Index buckets, const RelativeBuckets& of) {
  Index first = 0, back = -distance;
  if (of.bidirectional) {
    buckets /= 2;
    if (distance > 0) first = buckets;
    back = std::abs(distance);
  } else {
    back = std::max<Index>(back, 0);
  }
  const Index exact = buckets / 2;
  if (back < exact) return first + back;
  const double large = std::log(double(back) / double(exact)) /
                       std::log(double(of.max_distance) / double(exact)) * double(buckets - exact);
  return first + std::min(exact + Index(large), buckets - 1);
}

template <class T>
reference::Rules with_bias(const Tensor<T, 2>& table, const RelativeBuckets& of, Index offset) {
  reference::Rules rules;
  rules.offset = offset;
  rules.score = [table, of](double s, const reference::Pair& p) {
    return s + double(table(p.head, bucket(p.key - p.position, table.dimension(1), of)));
  };
  return rules;
}

/// Both sides of every edge: exact buckets, growing ones, the last; the past alone and both ways.
TYPED_TEST(RelativeBiases, AreThoseOfT5) {
  using T = TypeParam;
  for (const bool both : {false, true})
    for (const Index max_distance : {20, 128})
      for (const Index n : {1, 9, 17, 40, 300}) {
        const RelativeBuckets of{max_distance, both};
        SCOPED_TRACE(testing::Message() << n << " tokens, up to " << max_distance << ' ' << both);
        const Tensor<T, 2> table = normal<T>(std::uint64_t(n), 4, both ? 16 : 12);
        const Inputs<T> in = inputs<T>(Shape{1, 4, 2, n, n + 5, 8, 8}, 1);
        expect_oracle(in, query_offset(5) | standard | relative_bias(table, of),
                      with_bias(table, of, 5));
      }
}

TYPED_TEST(RelativeBiases, AreTrained) {
  using T = TypeParam;
  const RelativeBuckets of{40, true};
  const Tensor<T, 2> table = normal<T>(7, 4, 10);
  Tensor<T, 2> gradient(4, 10);
  const Inputs<T> in = inputs<T>(tokens(90, 8, 4, 2, 2), 2, 0.7);
  const auto variant = standard | relative_bias(table, of).grad(gradient);
  const Outputs<T> known = attend(in, variant);
  Tensor<T> grad_q = in.q, grad_k = in.k, grad_v = in.v;
  backward(in.q, in.k, in.v, variant, known.out, known.lse, in.q, grad_q, grad_k, grad_v);

  // The bias of each pair by itself, whose gradients the oracle tells.
  reference::Rules rules;
  rules.bias = reference::Array({2, 4, 90, 90});
  for (Index b = 0; b < 2; ++b)
    for (Index h = 0; h < 4; ++h)
      for (Index i = 0; i < 90; ++i)
        for (Index j = 0; j < 90; ++j)
          rules.bias(b, h, i, j) = double(table(h, bucket(j - i, 10, of)));
  reference::Cotangents given;
  given.out = array(in.q);
  const auto want = attention_backward(array(in.q), array(in.k), array(in.v), rules, given);
  EXPECT_TRUE(close(grad_q, want.q));
  reference::Array sums({4, 10});
  for (Index b = 0; b < 2; ++b)
    for (Index h = 0; h < 4; ++h)
      for (Index i = 0; i < 90; ++i)
        for (Index j = 0; j < 90; ++j) sums(h, bucket(j - i, 10, of)) += want.bias(b, h, i, j);
  EXPECT_TRUE(close(gradient, sums, 4 * tolerance<T>));
}

/// It reads distances alone, so that a buffer's slots may be in any order.
TYPED_TEST(RelativeBiases, GoThroughABuffer) {
  using T = TypeParam;
  const Tensor<T, 2> table = normal<T>(8, 2, 12);
  const Inputs<T> in = inputs<T>(tokens(60, 8, 2, 1), 3);
  KvBuffer<T> buffer({.heads = 2, .dim = 8, .value_dim = 8}, {.select = std::nullopt});
  Tensor<T> out(1, 2, 60, 8);
  buffer.step(in.q, in.k, in.v, standard | relative_bias(table), out);
  EXPECT_TRUE(close(out, attend(in, standard | relative_bias(table) | causal).out));
}

TYPED_TEST(RelativeBiases, RefuseTablesThatDoNotFit) {
  using T = TypeParam;
  const auto in = inputs<T>(tokens(4, 8, 2, 1), 1);
  const Tensor<T, 2> three = normal<T>(9, 3, 12), one = normal<T>(9, 2, 1),
                     two = normal<T>(9, 2, 8);
  expect_refusal<ShapeError>(in, standard | relative_bias(three), "relative_bias is [3, 12]");
  expect_refusal<ValueError>(in, standard | relative_bias(one), "1 buckets");
  expect_refusal<ValueError>(in, standard | relative_bias(two, {.max_distance = 4}),
                             "max_distance 4");
  for (const Index max_distance :
       {RelativeBuckets::farthest + 1, std::numeric_limits<Index>::max()})
    expect_refusal<ValueError>(in, standard | relative_bias(two, {.max_distance = max_distance}),
                               "max_distance is " + std::to_string(max_distance));
  for (const double x :
       {std::numeric_limits<double>::quiet_NaN(), -std::numeric_limits<double>::infinity(), 1e30}) {
    Tensor<T, 2> bad = two;
    bad(1, 7) = T(x);
    expect_refusal<ValueError>(in, standard | relative_bias(bad), "a number of relative_bias is");
  }
}

}  // namespace
}  // namespace heed::test
