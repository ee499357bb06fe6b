// SPDX-License-Identifier: MIT
#include "heed/score/query_offset.hpp"

#include "heed/score/alibi.hpp"
#include "heed/score/causal.hpp"
#include "heed/score/standard.hpp"
#include "heed/score/when.hpp"
#include "heed/score/window.hpp"
#include "support/calls.hpp"

#include <gtest/gtest.h>

namespace heed::test {
namespace {

template <class T>
class QueryOffsets : public testing::Test {
 protected:
  Tensor<T, 1> slopes = uniform<T>(2, 2);

  auto variant(Index offset, bool by_position, Index left = unbounded) const {
    return query_offset(offset) | standard | when(by_position, alibi(slopes)) |
           when(by_position, causal) | when(by_position, window(left, 0));
  }
};
TYPED_TEST_SUITE(QueryOffsets, Scalars, ScalarName);

TYPED_TEST(QueryOffsets, MoveMasksAndDistancesAlike) {
  using T = TypeParam;
  const Inputs<T> in = inputs<T>(Shape{1, 2, 1, 20, 90, 8, 8}, 1);
  for (const Index offset : {0, 1, 30, 70}) {
    reference::Rules rules = seeing(reference::causal() && reference::window(17, 0));
    rules.offset = offset;
    rules.slopes = array(this->slopes);
    expect_oracle(in, this->variant(offset, true, 17), rules);
  }
}

TYPED_TEST(QueryOffsets, MakeNoDifferenceWhereNothingAsksForThePosition) {
  const auto in = inputs<TypeParam>(Shape{1, 2, 1, 20, 33, 8, 8}, 2);
  expect_same_bits(attend(in, this->variant(5, false)), attend(in, this->variant(0, false)));
}

/// A position no float can tell from its neighbours.
TYPED_TEST(QueryOffsets, MayBeLarge) {
  using T = TypeParam;
  const Inputs<T> in = inputs<T>(Shape{1, 2, 1, 3, 40, 8, 8}, 3);
  const Index far = Index(1) << 40;
  this->slopes.setZero();
  expect_oracle(in, this->variant(far, true), {});
  expect_oracle(in, this->variant(far, true, 10),
                seeing([](const reference::Pair&) { return false; }));
}

TYPED_TEST(QueryOffsets, AreNotNegative) {
  expect_refusal<ValueError>(inputs<TypeParam>(tokens(4, 8, 2, 1), 1), this->variant(-1, false),
                             "query_offset is -1");
}

}  // namespace
}  // namespace heed::test
