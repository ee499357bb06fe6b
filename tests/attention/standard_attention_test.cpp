// SPDX-License-Identifier: MIT
#include "heed/attention/standard_attention.hpp"

#include "support/calls.hpp"
#include "support/fixtures.hpp"

#include <gtest/gtest.h>

namespace heed::test {
namespace {

template <class T>
class StandardAttention : public testing::Test {};
TYPED_TEST_SUITE(StandardAttention, Scalars, ScalarName);

TYPED_TEST(StandardAttention, GivesTheGoldenOutput) {
  using T = TypeParam;
  const Fixture& f = fixture("std_noncausal_gqa");
  const Tensor<T> q = tensor<T>(f.array("q")), k = tensor<T>(f.array("k")),
                  v = tensor<T>(f.array("v"));
  Tensor<T> out(1, 4, 13, 20);
  standard_attention(q, k, v, out);
  EXPECT_TRUE(close(out, f.array("out")));
}

TYPED_TEST(StandardAttention, IfCausalGivesTheGoldenOutput) {
  using T = TypeParam;
  for (const char* name : {"std_causal_mha", "std_causal_mqa_dv"}) {
    SCOPED_TRACE(name);
    const Fixture& f = fixture(name);
    const Tensor<T> q = tensor<T>(f.array("q")), k = tensor<T>(f.array("k")),
                    v = tensor<T>(f.array("v"));
    Tensor<T> out(q.dimension(0), q.dimension(1), q.dimension(2), v.dimension(3));
    causal_attention(q, k, v, out);
    EXPECT_TRUE(close(out, f.array("out")));
  }
}

TYPED_TEST(StandardAttention, TheFirstCausalTokenReturnsItsOwnValue) {
  using T = TypeParam;
  const Inputs<T> in = inputs<T>(tokens(20, 8, 2, 2), 1);
  Tensor<T> out(1, 2, 20, 8);
  causal_attention(in.q, in.k, in.v, out);
  EXPECT_TRUE(close(slice(out, 0, 1), slice(in.v, 0, 1)));
}

TYPED_TEST(StandardAttention, NamesTheShapesThatDisagree) {
  using T = TypeParam;
  const Tensor<T> q = normal<T>(1, 1, 2, 4, 8), k = normal<T>(2, 1, 2, 5, 9);
  Tensor<T> out(1, 2, 4, 8);
  EXPECT_EQ(message_of<ShapeError>([&] { standard_attention(q, k, k, out); }),
            "k is [1, 2, 5, 9], q is [1, 2, 4, 8]");
}

}  // namespace
}  // namespace heed::test
