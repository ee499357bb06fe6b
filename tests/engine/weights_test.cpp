// SPDX-License-Identifier: MIT
#include "heed/engine/weights.hpp"

#include "heed/score/bias.hpp"
#include "heed/score/causal.hpp"
#include "heed/score/selective.hpp"
#include "heed/score/softcap.hpp"
#include "heed/score/standard.hpp"
#include "heed/score/when.hpp"
#include "reference/selective.hpp"
#include "support/calls.hpp"

#include <gtest/gtest.h>

#include <array>
#include <limits>

namespace heed::test {
namespace {

template <class T>
class Weights : public testing::Test {
 protected:
  /// The weights the library shows for rows [row, row + rows) against those of the oracle.
  template <class Variant>
  static void expect_weights(const Inputs<T>& in, const Variant& variant,
                             const reference::Array& want, const WeightsOf& of) {
    const Index keys = in.k.dimension(2);
    const Outputs<T> known = attend(in, variant);
    Tensor<T, 2> got(of.rows, keys);
    got.setConstant(std::numeric_limits<T>::quiet_NaN());
    weights(in.q, in.k, variant, known.lse, of, got);
    reference::Array part({of.rows, keys});
    for (Index i = 0; i < of.rows; ++i)
      for (Index j = 0; j < keys; ++j) part(i, j) = want(of.batch, of.head, of.row + i, j);
    EXPECT_TRUE(close(got, part)) << "batch " << of.batch << ", head " << of.head << ", row "
                                  << of.row;
    for (Index i = 0; i < of.rows; ++i)
      for (Index j = 0; j < keys; ++j)
        if (part(i, j) == 0) {
          ASSERT_EQ(got(i, j), T(0)) << i << ' ' << j << ": a masked pair";
        }
  }
};
TYPED_TEST_SUITE(Weights, Scalars, ScalarName);

/// Any of the variants below, so that one is compiled.
template <class T>
auto variant_of(bool causal_, bool selects, const Tensor<T>& values = {}) {
  return standard | when(values.size() > 0, softcap(3)) | when(values.size() > 0, bias(values)) |
         when(causal_, causal) | when(selects, selective);
}

TYPED_TEST(Weights, ShowByHandWhatForwardUsed) {
  using T = TypeParam;
  auto in = with_scores<T>({{0, 0, 0}, {0, 0, 0}, {0, 0, 0}});
  const auto variant = variant_of<T>(true, false);
  const Outputs<T> known = attend(in, variant);
  Tensor<T, 2> got(2, 3);
  weights(in.q, in.k, variant, known.lse, {.row = 1, .rows = 2}, got);
  reference::Array want({2, 3});
  want.values = {.5, .5, 0, 1 / 3., 1 / 3., 1 / 3.};
  EXPECT_TRUE(close(got, want));
}

TYPED_TEST(Weights, MatchTheOracleForAnyRows) {
  using T = TypeParam;
  const Inputs<T> in = inputs<T>(tokens(210, 16, 4, 2, 2), 1);
  const reference::Array want = oracle(in, seeing(reference::causal())).weights;
  const std::array<std::array<Index, 2>, 8> rows{
      {{0, 1}, {0, 210}, {95, 2}, {96, 1}, {100, 90}, {209, 1}, {13, 0}, {191, 19}}};
  for (const auto& [row, count] : rows)
    this->expect_weights(in, variant_of<T>(true, false), want,
                         {.batch = 1, .head = 3, .row = row, .rows = count});
}

TYPED_TEST(Weights, MatchTheOracleUnderACapABiasAndAMask) {
  using T = TypeParam;
  const Inputs<T> in = inputs<T>(tokens(140, 16, 2, 1), 2, 2);
  Tensor<T> values = normal<T>(4, 1, 2, 140, 140);
  for (Index i = 0; i < 140; ++i)
    for (Index j = 0; j < 140; ++j)
      if (j < i - 50 || i == 99) values(0, 1, i, j) = -std::numeric_limits<T>::infinity();
  reference::Rules rules = seeing(reference::causal());
  rules.softcap = 3;
  rules.bias = array(values);
  this->expect_weights(in, variant_of<T>(true, false, values), oracle(in, rules).weights,
                       {.head = 1, .row = 60, .rows = 80});
}

/// Few queries, so that heads of a group share a tile.
TYPED_TEST(Weights, MatchTheOracleForFewQueries) {
  using T = TypeParam;
  const Inputs<T> in = inputs<T>(Shape{1, 8, 2, 3, 150, 16, 16}, 6);
  const reference::Array want = oracle(in).weights;
  for (Index h = 0; h < 8; ++h)
    this->expect_weights(in, variant_of<T>(false, false), want, {.head = h, .row = 1, .rows = 2});
}

TYPED_TEST(Weights, MatchTheOracleOfSelectiveAttention) {
  using T = TypeParam;
  const Inputs<T> in = inputs<T>(tokens(210, 16, 3, 1, 2), 7);
  const auto want =
      selective_attention(array(in.q), array(in.k), array(in.v), seeing(reference::causal()));
  for (const Index h : {0, 2})
    for (const Index row : {0, 90, 190})
      this->expect_weights(in, variant_of<T>(true, true), want.weights,
                           {.batch = 1, .head = h, .row = row, .rows = 20});
}

TYPED_TEST(Weights, AddUpToOne) {
  using T = TypeParam;
  const Inputs<T> in = inputs<T>(tokens(150, 16), 9, 3);
  const auto variant = variant_of<T>(true, true);
  const Outputs<T> known = attend(in, variant);
  Tensor<T, 2> got(150, 150);
  weights(in.q, in.k, variant, known.lse, {.rows = 150}, got);
  for (Index i = 0; i < 150; ++i) {
    double sum = 0;
    for (Index j = 0; j < 150; ++j) sum += got(i, j);
    EXPECT_NEAR(sum, 1, 10 * tolerance<T>) << i;
  }
}

TYPED_TEST(Weights, RefuseWhatDoesNotExistOrFit) {
  using T = TypeParam;
  const Inputs<T> in = inputs<T>(tokens(5, 8, 2, 1), 1);
  const auto variant = variant_of<T>(false, false);
  const Outputs<T> known = attend(in, variant);
  Tensor<T, 2> out(2, 5), small(2, 4);
  Tensor<T, 3> short_lse(1, 2, 4);
  out.setConstant(T(3));
  const auto run = [&](const WeightsOf& of) { weights(in.q, in.k, variant, known.lse, of, out); };
  EXPECT_THROW(run({.row = 4, .rows = 2}), ValueError);
  EXPECT_THROW(run({.row = -1, .rows = 2}), ValueError);
  EXPECT_THROW(run({.head = 2, .rows = 2}), ValueError);
  EXPECT_THROW(run({.batch = 1, .rows = 2}), ValueError);
  EXPECT_THROW(run({.rows = 3}), ShapeError);
  EXPECT_THROW(weights(in.q, in.k, variant, short_lse, WeightsOf{.rows = 2}, out), ShapeError);
  EXPECT_THROW(weights(in.q, in.k, variant, known.lse, WeightsOf{.rows = 2}, small), ShapeError);
  for (Index i = 0; i < out.size(); ++i) EXPECT_EQ(out.data()[i], T(3));
}

}  // namespace
}  // namespace heed::test
