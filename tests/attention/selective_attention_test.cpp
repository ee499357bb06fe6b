// SPDX-License-Identifier: MIT
#include "heed/attention/selective_attention.hpp"

#include "reference/selective.hpp"
#include "support/calls.hpp"
#include "support/fixtures.hpp"

#include <gtest/gtest.h>

namespace heed::test {
namespace {

template <class T>
class SelectiveAttention : public testing::Test {
 protected:
  static Tensor<T> run(const Inputs<T>& in) {
    Tensor<T> out(in.q.dimension(0), in.q.dimension(1), in.q.dimension(2), in.v.dimension(3));
    selective_attention(in.q, in.k, in.v, out);
    return out;
  }
};
TYPED_TEST_SUITE(SelectiveAttention, Scalars, ScalarName);

TYPED_TEST(SelectiveAttention, GivesTheGoldenOutput) {
  using T = TypeParam;
  for (const char* name :
       {"sel_mha_d16", "sel_batch3_d20", "sel_gqa_d32", "sel_mqa_d64", "sel_d128", "sel_len1",
        "sel_len2", "sel_len3", "sel_len4", "sel_large_logits"}) {
    SCOPED_TRACE(name);
    const Fixture& f = fixture(name);
    EXPECT_TRUE(close(
        this->run({tensor<T>(f.array("q")), tensor<T>(f.array("k")), tensor<T>(f.array("v"))}),
        f.array("out")));
  }
}

/// Tokens: one; fewer than a block; a block; a block and one; several blocks and a tail.
TYPED_TEST(SelectiveAttention, MatchesThePaperWrittenOutDensely) {
  using T = TypeParam;
  for (const Index n : {1, 7, 96, 97, 301}) {
    SCOPED_TRACE(n);
    const Inputs<T> in = inputs<T>(tokens(n, 16, 4, 2, 2), std::uint64_t(n));
    EXPECT_TRUE(close(this->run(in),
                      reference::selective_attention(array(in.q), array(in.k), array(in.v)).out));
  }
}

TYPED_TEST(SelectiveAttention, TheFirstTokenReturnsItsOwnValue) {
  using T = TypeParam;
  const Inputs<T> in = inputs<T>(tokens(20, 8, 2, 2), 1);
  EXPECT_TRUE(close(slice(this->run(in), 0, 1), slice(in.v, 0, 1)));
}

}  // namespace
}  // namespace heed::test
