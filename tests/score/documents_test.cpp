// SPDX-License-Identifier: MIT
#include "heed/score/documents.hpp"

#include "heed/score/causal.hpp"
#include "heed/score/query_offset.hpp"
#include "heed/score/standard.hpp"
#include "heed/score/when.hpp"
#include "support/calls.hpp"

#include <gtest/gtest.h>

#include <cstdint>
#include <limits>
#include <vector>

namespace heed::test {
namespace {

using Ids = Tensor<std::int64_t, 2>;

/// Ids of documents of the given lengths, one after the other.
Ids packed(const std::vector<std::vector<Index>>& lengths) {
  Index tokens = 0;
  for (const Index n : lengths[0]) tokens += n;
  Ids ids(Index(lengths.size()), tokens);
  for (std::size_t b = 0; b < lengths.size(); ++b) {
    Index at = 0;
    std::int64_t id = 5;  // any start will do
    for (const Index n : lengths[b]) {
      for (Index i = 0; i < n; ++i) ids(Index(b), at++) = id;
      id += 2;
    }
  }
  return ids;
}

/// Every call here, so that one variant is compiled.
auto within(const Ids& ids, bool causal_, Index offset = 0, double scale = 1) {
  return query_offset(offset) | scaled(scale) | when(causal_, causal) | documents(ids);
}

template <class T>
class DocumentMasks : public testing::Test {};
TYPED_TEST_SUITE(DocumentMasks, Scalars, ScalarName);

TYPED_TEST(DocumentMasks, ShowAQueryItsOwnDocument) {
  const Ids ids = packed({{1, 2}});
  const auto in = with_scores<TypeParam>({{0, 0, 0}, {0, 0, 0}, {0, 0, 0}});
  EXPECT_TRUE(shows(attend(in, within(ids, false)), {{1, 0, 0}, {0, .5, .5}, {0, .5, .5}}));
  EXPECT_TRUE(shows(attend(in, within(ids, true)), {{1, 0, 0}, {0, 1, 0}, {0, .5, .5}}));
}

TYPED_TEST(DocumentMasks, MatchTheOracle) {
  using T = TypeParam;
  const Inputs<T> in = inputs<T>(tokens(210, 8, 2, 1, 3), 1);
  const Ids ids = packed({{210}, {1, 1, 94, 1, 32, 81}, {70, 70, 70}});
  const reference::Visible same = reference::documents(array(ids));
  reference::Rules rules = seeing(same);
  rules.scale = 1;
  expect_oracle(in, within(ids, false), rules);
  rules.visible = same && reference::causal();
  expect_oracle(in, within(ids, true), rules);
}

TYPED_TEST(DocumentMasks, AreSeparateTexts) {
  using T = TypeParam;
  const Inputs<T> in = inputs<T>(tokens(130, 8, 2, 2), 2);
  const std::vector<Index> lengths{13, 1, 96, 20};
  const Ids ids = packed({lengths});
  const Outputs<T> whole = attend(in, within(ids, true));
  Index from = 0;
  for (const Index n : lengths) {
    const Inputs<T> part{slice(in.q, from, from + n), slice(in.k, from, from + n),
                         slice(in.v, from, from + n)};
    EXPECT_TRUE(
        close(attend(part, within(packed({{n}}), true)).out, slice(whole.out, from, from + n)));
    from += n;
  }
}

TYPED_TEST(DocumentMasks, DoNotLetNaNCrossABorder) {
  using T = TypeParam;
  const Inputs<T> in = inputs<T>(tokens(90, 8), 3);
  const Ids ids = packed({{40, 50}});
  Inputs<T> bad = in;
  for (Index j = 40; j < 90; ++j) {
    bad.k.chip(j, 2).setConstant(std::numeric_limits<T>::quiet_NaN());
    bad.v.chip(j, 2).setConstant(std::numeric_limits<T>::quiet_NaN());
  }
  const Outputs<T> clean = attend(in, within(ids, false)), got = attend(bad, within(ids, false));
  EXPECT_TRUE(same_bits(slice(clean.out, 0, 40), slice(got.out, 0, 40)));
}

TYPED_TEST(DocumentMasks, GoByThePositionOfAChunk) {
  using T = TypeParam;
  const Inputs<T> in = inputs<T>(Shape{1, 1, 1, 20, 60, 8, 8}, 4);
  const Ids ids = packed({{25, 20, 15}});
  reference::Rules rules = seeing(reference::documents(array(ids)) && reference::causal());
  rules.offset = 30;
  rules.scale = 1;
  expect_oracle(in, within(ids, true, 30), rules);
}

TYPED_TEST(DocumentMasks, CostWhatTheyShow) {
  const Index n = 3000;
  const Ids ids = packed({std::vector<Index>(30, 100)});
  const WorkStats v = attend(inputs<TypeParam>(tokens(n, 8), 5), within(ids, true)).visited;
  EXPECT_LT(v.pairs, n * (100 + 2 * 128));
}

TYPED_TEST(DocumentMasks, RefuseIdsThatFallOrDoNotFit) {
  const auto in = inputs<TypeParam>(tokens(4, 8), 1);
  Ids falling(1, 4), three(1, 3);
  falling.setValues({{1, 2, 1, 3}});
  three.setValues({{1, 1, 2}});
  expect_refusal<ValueError>(in, within(falling, false), "id falls from 2 to 1 at token 2");
  expect_refusal<ShapeError>(in, within(three, false), "[1, 3]");
}

}  // namespace
}  // namespace heed::test
