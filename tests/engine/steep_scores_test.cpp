// SPDX-License-Identifier: MIT
// Scores that favour the recent, or the oldest, so that a row's maximum is raised in every tile:
// what was summed before fades away, and must become zero before it becomes subnormal, which the
// processor is slow at. It raises a flag where it meets such numbers.
#include "heed/engine/backward.hpp"
#include "heed/kv/kv_buffer.hpp"
#include "heed/score/alibi.hpp"
#include "heed/score/boolean_mask.hpp"
#include "support/calls.hpp"

#include <Eigen/Core>
#include <gtest/gtest.h>

#include <cfenv>
#include <cmath>
#include <cstdint>
#include <limits>
#include <optional>

namespace heed::test {
namespace {

template <class T>
class SteepScores : public testing::Test {
 protected:
  static constexpr Index heads = 4;

  /// From gentle ones to such that a few keys are all that a row sees. A double fades later.
  static Tensor<T, 1> slopes(T sign = 1) {
    Tensor<T, 1> x(heads);
    x.setValues({T(0.4), T(0.84), T(1), T(2)});
    return x * T(sign * (sizeof(T) == 8 ? 8 : 1));
  }
};
TYPED_TEST_SUITE(SteepScores, Scalars, ScalarName);

/// Does the processor say that it met a subnormal number?
template <class Call>
bool meets_subnormal_numbers(Call&& call) {
  std::feclearexcept(FE_ALL_EXCEPT);
  call();
  return std::fetestexcept(FE_UNDERFLOW) != 0;
}

TYPED_TEST(SteepScores, MeetNoSubnormalNumbersForward) {
  using T = TypeParam;
  const auto steep = TestFixture::slopes();
  const auto variant = standard | alibi(steep) | causal;
  const Inputs<T> in = inputs<T>(tokens(400, 16, 4, 2), 1);
  EXPECT_FALSE(meets_subnormal_numbers([&] { attend(in, variant); }));
}

/// The few rows are of one strip, and their keys are cut into spans.
TYPED_TEST(SteepScores, MeetNoSubnormalNumbersInFewRows) {
  using T = TypeParam;
  const auto steep = TestFixture::slopes();
  for (const Index rows : {1, 3, 40}) {
    const Inputs<T> in = inputs<T>(Shape{1, 4, 1, rows, 2500, 16, 16}, 2);
    EXPECT_FALSE(meets_subnormal_numbers([&] { attend(in, standard | alibi(steep)); })) << rows;
  }
}

TYPED_TEST(SteepScores, MeetNoSubnormalNumbersBackward) {
  using T = TypeParam;
  const auto steep = TestFixture::slopes();
  const auto variant = standard | alibi(steep) | causal;
  const Inputs<T> in = inputs<T>(tokens(400, 16, 4, 2), 3);
  const Outputs<T> known = attend(in, variant);
  const Tensor<T> grad_out = normal<T>(4, 1, 4, 400, 16);
  Tensor<T> grad_q = in.q, grad_k = in.k, grad_v = in.v;
  EXPECT_FALSE(meets_subnormal_numbers([&] {
    backward(in.q, in.k, in.v, variant, known.out, known.lse, grad_out, grad_q, grad_k, grad_v);
  }));
}

TYPED_TEST(SteepScores, MeetNoSubnormalNumbersInABuffer) {
  using T = TypeParam;
  const auto steep = TestFixture::slopes();
  const Inputs<T> in = inputs<T>(tokens(300, 16, 4, 2), 5);
  for (const Index chunk : {1, 40}) {
    KvOptions options;
    options.select = std::nullopt;
    options.chunk = chunk;
    KvBuffer<T> buffer(KvShape{1, 4, 2, 16, 16}, options);
    Tensor<T> out(1, 4, 300, 16);
    EXPECT_FALSE(meets_subnormal_numbers([&] {
      buffer.step(in.q, in.k, in.v, standard | alibi(steep), out);
    })) << chunk;
  }
}

#ifdef __AVX512BF16__
TEST(SteepScoresOfBfloat16, MeetNoSubnormalNumbers) {
  Tensor<float, 1> steep(4);
  steep.setValues({0.4f, 0.84f, 1.f, 2.f});
  using Numbers = Tensor<Eigen::bfloat16>;
  const Inputs<float> in = inputs<float>(tokens(400, 16, 4, 2), 6);
  const Numbers q = in.q.cast<Eigen::bfloat16>(), k = in.k.cast<Eigen::bfloat16>(),
                v = in.v.cast<Eigen::bfloat16>();
  Tensor<float> out(1, 4, 400, 16);
  EXPECT_FALSE(meets_subnormal_numbers([&] {
    forward(q, k, v, standard | alibi(steep) | causal, out, Options{.bfloat16 = Bfloat16::pairs});
  }));
}
#endif

/// Rows of the second half see only the oldest keys: what faded in other rows is all they have. The
/// slopes are such that a float's scores are still good to the tolerance.
TYPED_TEST(SteepScores, AreRightWhereTheRecentIsMasked) {
  using T = TypeParam;
  const Index n = 300;
  const Inputs<T> in = inputs<T>(tokens(n, 16, 4, 2), 7);
  const auto sees = [](Index i, Index j) { return j <= i && (i < 150 || j < 40 + i % 7); };
  Tensor<std::uint8_t> mask(1, 1, n, n);
  for (Index i = 0; i < n; ++i)
    for (Index j = 0; j < n; ++j) mask(0, 0, i, j) = sees(i, j);
  for (const T sign : {T(1), T(-1)}) {
    SCOPED_TRACE(sign);
    const auto steep = TestFixture::slopes(sign / 4);
    reference::Rules rules;
    rules.slopes = array(steep);
    rules.visible = [&](const reference::Pair& p) { return sees(p.row, p.key); };
    expect_oracle(in, standard | alibi(steep) | boolean_mask(mask), rules);
  }
}

/// Zero is what has faded beside the row's own maximum, not what is small.
TYPED_TEST(SteepScores, KeepSmallValues) {
  using T = TypeParam;
  const T small = std::numeric_limits<T>::min() * T(1 << 20);
  const auto steep = TestFixture::slopes();
  Inputs<T> in = inputs<T>(tokens(300, 16, 4, 2), 8);
  const auto variant = standard | alibi(steep) | causal;
  const Outputs<T> usual = attend(in, variant);
  in.v = in.v * in.v.constant(small);
  const Outputs<T> got = attend(in, variant);
  const Tensor<T> restored = got.out * got.out.constant(1 / small);
  EXPECT_TRUE(close(restored, usual.out));
}

/// What a row sees is seen, be its weight nothing.
TYPED_TEST(SteepScores, DoNotHideNaN) {
  using T = TypeParam;
  const auto steep = TestFixture::slopes();
  Inputs<T> in = inputs<T>(tokens(300, 16, 4, 2), 9);
  in.v(0, 0, 5, 3) = std::numeric_limits<T>::quiet_NaN();
  const Outputs<T> got = attend(in, standard | alibi(steep) | causal);
  for (Index i = 0; i < 300; ++i)
    EXPECT_EQ(std::isnan(got.out(0, 3, i, 3)), false) << i;  // of the other key head
  for (Index i = 5; i < 300; ++i) EXPECT_TRUE(std::isnan(got.out(0, 1, i, 3))) << i;
}

}  // namespace
}  // namespace heed::test
