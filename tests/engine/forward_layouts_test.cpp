// SPDX-License-Identifier: MIT
// Tensors that are not four dense dimensions in order.
#include "heed/engine/forward.hpp"
#include "heed/score/causal.hpp"
#include "heed/score/standard.hpp"
#include "support/calls.hpp"

#include <gtest/gtest.h>

#include <limits>

namespace heed::test {
namespace {

template <class T>
class ForwardLayouts : public testing::Test {};
TYPED_TEST_SUITE(ForwardLayouts, Scalars, ScalarName);

TYPED_TEST(ForwardLayouts, ReadsAndWritesTokensBeforeHeads) {
  using T = TypeParam;
  const Index B = 2, H = 4, G = 2, N = 50, D = 20;
  const Inputs<T> in = inputs<T>(tokens(N, D, H, G, B), 11);
  const Eigen::array<int, 4> swap{0, 2, 1, 3};
  Tensor<T> q = in.q.shuffle(swap), k = in.k.shuffle(swap), v = in.v.shuffle(swap);
  Tensor<T> out(B, N, H, D);
  forward(bnhd<const T>(q.data(), B, N, H, D), bnhd<const T>(k.data(), B, N, G, D),
          bnhd<const T>(v.data(), B, N, G, D), causally, bnhd(out.data(), B, N, H, D));
  const Tensor<T> back = out.shuffle(swap);
  EXPECT_TRUE(same_bits(back, attend(in, causally).out));
}

TYPED_TEST(ForwardLayouts, TakesHeadsSideBySideInOneRow) {
  using T = TypeParam;
  const Index B = 2, H = 3, N = 33, D = 8;
  Tensor<T, 3> q = normal<T>(1, B, N, H * D), k = normal<T>(2, B, N, H * D),
               v = normal<T>(3, B, N, H * D), out(B, N, H * D);
  forward(bnhd<const T>(q.data(), B, N, H, D), bnhd<const T>(k.data(), B, N, H, D),
          bnhd<const T>(v.data(), B, N, H, D), causally, bnhd(out.data(), B, N, H, D));
  Inputs<T> in{Tensor<T>(B, H, N, D), Tensor<T>(B, H, N, D), Tensor<T>(B, H, N, D)};
  for (Index b = 0; b < B; ++b)
    for (Index h = 0; h < H; ++h)
      for (Index i = 0; i < N; ++i)
        for (Index d = 0; d < D; ++d) {
          in.q(b, h, i, d) = q(b, i, h * D + d);
          in.k(b, h, i, d) = k(b, i, h * D + d);
          in.v(b, h, i, d) = v(b, i, h * D + d);
        }
  const Outputs<T> want = attend(in, causally);
  for (Index b = 0; b < B; ++b)
    for (Index h = 0; h < H; ++h)
      for (Index i = 0; i < N; ++i)
        for (Index d = 0; d < D; ++d)
          ASSERT_EQ(out(b, i, h * D + d), want.out(b, h, i, d))
              << b << ' ' << h << ' ' << i << ' ' << d;
}

TYPED_TEST(ForwardLayouts, LeavesTheGapsOfAStridedOutputAlone) {
  using T = TypeParam;
  const Index N = 40, D = 10, padded = 13;
  const Inputs<T> in = inputs<T>(tokens(N, D, 2, 2), 12);
  Tensor<T> wide_k(1, 2, N, padded), wide_out(1, 2, N, padded);
  wide_k.setConstant(std::numeric_limits<T>::quiet_NaN());
  wide_out.setConstant(T(-7));
  for (Index h = 0; h < 2; ++h)
    for (Index i = 0; i < N; ++i)
      for (Index d = 0; d < D; ++d) wide_k(0, h, i, d) = in.k(0, h, i, d);
  const Dims<4> dims{1, 2, N, D}, strides{2 * N * padded, N * padded, padded, 1};
  forward(in.q, View<const T, 4>(wide_k.data(), dims, strides), in.v, standard,
          View<T, 4>(wide_out.data(), dims, strides));
  const Outputs<T> want = attend(in, standard);
  for (Index h = 0; h < 2; ++h)
    for (Index i = 0; i < N; ++i)
      for (Index d = 0; d < padded; ++d)
        ASSERT_EQ(wide_out(0, h, i, d), d < D ? want.out(0, h, i, d) : T(-7))
            << h << ' ' << i << ' ' << d;
}

TYPED_TEST(ForwardLayouts, WritesALogSumExpOfAnyStrides) {
  using T = TypeParam;
  const Inputs<T> in = inputs<T>(tokens(30, 8, 2, 1), 14);
  Tensor<T> out(1, 2, 30, 8);
  Tensor<T, 3> by_token(1, 30, 2);
  forward(in.q, in.k, in.v, standard, out, View<T, 3>(by_token.data(), {1, 2, 30}, {60, 1, 2}));
  const Outputs<T> want = attend(in, standard);
  for (Index h = 0; h < 2; ++h)
    for (Index i = 0; i < 30; ++i) ASSERT_EQ(by_token(0, i, h), want.lse(0, h, i));
}

TYPED_TEST(ForwardLayouts, ATensorMapIsAsGoodAsATensor) {
  using T = TypeParam;
  const Inputs<T> in = inputs<T>(tokens(20, 8), 13);
  Tensor<T> out(1, 1, 20, 8);
  Eigen::TensorMap<const Tensor<T>> q(in.q.data(), in.q.dimensions());
  Eigen::TensorMap<Tensor<T>> result(out.data(), out.dimensions());
  forward(q, in.k, in.v, standard, result);
  EXPECT_TRUE(same_bits(out, attend(in, standard).out));
}

}  // namespace
}  // namespace heed::test
