// SPDX-License-Identifier: MIT
#include "heed/score/prefix_lm.hpp"

#include "heed/score/query_offset.hpp"
#include "heed/score/standard.hpp"
#include "support/calls.hpp"

#include <gtest/gtest.h>

#include <array>
#include <cstdint>

namespace heed::test {
namespace {

template <class T>
class PrefixLms : public testing::Test {};
TYPED_TEST_SUITE(PrefixLms, Scalars, ScalarName);

TYPED_TEST(PrefixLms, OpenThePrefixToEverybody) {
  const auto in = with_scores<TypeParam>({{0, 0, 0}, {0, 0, 0}, {0, 0, 0}});
  EXPECT_TRUE(shows(attend(in, query_offset(0) | scaled(1) | prefix_lm(2)),
                    {{.5, .5, 0}, {.5, .5, 0}, {1 / 3., 1 / 3., 1 / 3.}}));
}

TYPED_TEST(PrefixLms, MatchTheOracleAtEveryLength) {
  using T = TypeParam;
  const Inputs<T> in = inputs<T>(tokens(140, 8, 2, 1, 2), 1);
  for (const Index n : {0, 1, 11, 12, 13, 31, 32, 33, 96, 128, 129, 139, 140, 500}) {
    SCOPED_TRACE(n);
    expect_oracle(in, query_offset(0) | standard | prefix_lm(n),
                  seeing(reference::prefix_lm({n, n})));
  }
}

TYPED_TEST(PrefixLms, MayDifferAcrossTheBatch) {
  using T = TypeParam;
  const Inputs<T> in = inputs<T>(tokens(70, 8, 2, 2, 3), 2);
  const std::array<std::int64_t, 3> lengths{0, 70, 33};
  const View<const std::int64_t, 1> each(lengths.data(), {3});
  expect_oracle(in, query_offset(0) | standard | prefix_lm(each),
                seeing(reference::prefix_lm({0, 70, 33})));
}

TYPED_TEST(PrefixLms, CountFromThePosition) {
  using T = TypeParam;
  const Inputs<T> in = inputs<T>(Shape{1, 1, 1, 20, 60, 8, 8}, 4);
  reference::Rules rules = seeing(reference::prefix_lm({25}));
  rules.offset = 15;
  expect_oracle(in, query_offset(15) | standard | prefix_lm(25), rules);
}

TYPED_TEST(PrefixLms, AreNotNegativeAndOneForEach) {
  const auto in = inputs<TypeParam>(tokens(4, 8, 1, 1, 2), 1);
  expect_refusal<ValueError>(in, query_offset(0) | standard | prefix_lm(-1), "prefix_lm is -1");
  const std::array<std::int64_t, 3> three{1, 2, 3};
  expect_refusal<ShapeError>(
      in, query_offset(0) | standard | prefix_lm(View<const std::int64_t, 1>(three.data(), {3})),
      "[3]");
}

}  // namespace
}  // namespace heed::test
