// SPDX-License-Identifier: MIT
#include "heed/score/lengths.hpp"

#include "heed/score/causal.hpp"
#include "heed/score/documents.hpp"
#include "heed/score/prefix_lm.hpp"
#include "heed/score/standard.hpp"
#include "heed/score/when.hpp"
#include "heed/score/window.hpp"
#include "support/calls.hpp"

#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

namespace heed::test {
namespace {

template <std::size_t N>
View<const std::int64_t, 1> view_of(const std::array<std::int64_t, N>& x) {
  return {x.data(), {Index(N)}};
}

/// Every call here, so that one variant is compiled.
template <std::size_t N>
auto padded(const std::array<std::int64_t, N>& n, bool causal_ = true, Index offset = 0) {
  return standard | when(causal_, causal_at(offset)) | lengths(view_of(n));
}

template <class T>
class PaddedBatches : public testing::Test {};
TYPED_TEST_SUITE(PaddedBatches, Scalars, ScalarName);

TYPED_TEST(PaddedBatches, MatchTheOracle) {
  using T = TypeParam;
  const Inputs<T> in = inputs<T>(tokens(140, 8, 2, 1, 7), 1);
  const std::array<std::int64_t, 7> n{0, 1, 13, 32, 97, 128, 140};
  const std::vector<Index> lengths_(n.begin(), n.end());
  expect_oracle(in, padded(n, false), seeing(reference::key_lengths(lengths_)));
  expect_oracle(in, padded(n),
                seeing(reference::causal() && reference::key_lengths(lengths_) &&
                       reference::row_lengths(lengths_)));
}

/// With more or fewer queries than keys a row is padded by its position, not its index.
TYPED_TEST(PaddedBatches, CountRowsByPosition) {
  using T = TypeParam;
  const Inputs<T> in = inputs<T>(Shape{3, 2, 1, 20, 50, 8, 8}, 2);
  const std::array<std::int64_t, 3> n{50, 35, 10};
  reference::Rules rules = seeing(reference::causal() && reference::key_lengths({50, 35, 10}) &&
                                  reference::row_lengths({50, 35, 10}));
  rules.offset = 30;
  expect_oracle(in, padded(n, true, 30), rules);
}

TYPED_TEST(PaddedBatches, AreTheSequencesRunAlone) {
  using T = TypeParam;
  const Inputs<T> in = inputs<T>(tokens(100, 8, 2, 2, 2), 3);
  const std::array<std::int64_t, 2> n{33, 100};
  const std::array<std::int64_t, 1> whole{33};
  const Outputs<T> all = attend(in, padded(n));
  const Eigen::array<Index, 4> start{0, 0, 0, 0}, extent{1, 2, 33, 8};
  const Inputs<T> alone{in.q.slice(start, extent), in.k.slice(start, extent),
                        in.v.slice(start, extent)};
  const Tensor<T> part = all.out.slice(start, extent);
  EXPECT_TRUE(close(attend(alone, padded(whole)).out, part));
}

/// Padding is never read into a result, whatever it holds.
TYPED_TEST(PaddedBatches, MayHoldAnythingInThePadding) {
  using T = TypeParam;
  const Inputs<T> in = inputs<T>(tokens(75, 8, 2, 1, 3), 4);
  const std::array<std::int64_t, 3> n{0, 33, 70};
  const Outputs<T> clean = attend(in, padded(n));
  for (const T poison : {std::numeric_limits<T>::quiet_NaN(), std::numeric_limits<T>::infinity()}) {
    Inputs<T> bad = in;
    for (Index b = 0; b < 3; ++b)
      for (Index i = n[std::size_t(b)]; i < 75; ++i)
        for (Tensor<T>* x : {&bad.q, &bad.k, &bad.v})
          for (Index h = 0; h < x->dimension(1); ++h)
            for (Index d = 0; d < 8; ++d) (*x)(b, h, i, d) = poison;
    const Outputs<T> got = attend(bad, padded(n));
    expect_same_bits(clean, got);
    EXPECT_TRUE(finite(got.out));
  }
}

TYPED_TEST(PaddedBatches, LeaveDeadRowsZero) {
  using T = TypeParam;
  const std::array<std::int64_t, 2> n{0, 20};
  const Outputs<T> got = attend(inputs<T>(tokens(40, 8, 2, 1, 2), 5), padded(n));
  for (Index h = 0; h < 2; ++h)
    for (Index i = 0; i < 40; ++i)
      for (Index d = 0; d < 8; ++d) {
        EXPECT_EQ(got.out(0, h, i, d), T(0));
        if (i >= 20) {
          EXPECT_EQ(got.out(1, h, i, d), T(0));
        }
      }
  EXPECT_EQ(got.lse(1, 0, 20), -std::numeric_limits<T>::infinity());
  EXPECT_TRUE(std::isfinite(got.lse(1, 0, 19)));
}

/// Not only causal() tells that queries and keys are the same tokens; a window that looks ahead
/// does not, nor one that is off.
TYPED_TEST(PaddedBatches, EndWhereTheTextDoesUnderEveryMaskOfOneText) {
  using T = TypeParam;
  const Index n = 60, B = 3;
  const Inputs<T> in = inputs<T>(tokens(n, 8, 2, 1, B), 6);
  const std::array<std::int64_t, 3> length{0, 20, 45};
  Tensor<std::int64_t, 2> ids(B, n);
  for (Index b = 0; b < B; ++b)
    for (Index j = 0; j < n; ++j) ids(b, j) = j / 17;
  const auto keys = reference::key_lengths({0, 20, 45}), rows = reference::row_lengths({0, 20, 45});
  enum { prefix, document, past, past_and_next, masks };
  const std::array<reference::Visible, masks> seen{
      reference::prefix_lm({30, 30, 30}), reference::documents(array(ids)),
      reference::window(25, 0), reference::window(25, 3)};
  for (int mask = 0; mask < masks; ++mask) {
    SCOPED_TRACE(mask);
    const auto variant =
        standard | when(mask == prefix, prefix_lm(30)) | when(mask == document, documents(ids)) |
        when(mask >= past, window(25, mask == past ? 0 : 3)) | lengths(view_of(length));
    const Outputs<T> got = attend(in, variant);
    const bool same_tokens = mask != past_and_next;
    reference::Visible visible = seen[std::size_t(mask)] && keys;
    if (same_tokens) visible = visible && rows;
    expect_close(got, oracle(in, seeing(visible)));
    if (!same_tokens) continue;
    for (Index b = 0; b < B; ++b)
      for (Index i = length[std::size_t(b)]; i < n; ++i)
        for (Index h = 0; h < 2; ++h) {
          EXPECT_EQ(got.lse(b, h, i), -std::numeric_limits<T>::infinity()) << b << ' ' << i;
          for (Index d = 0; d < 8; ++d) EXPECT_EQ(got.out(b, h, i, d), T(0)) << b << ' ' << i;
        }
  }
}

TYPED_TEST(PaddedBatches, RefuseLengthsThatDoNotFit) {
  const auto in = inputs<TypeParam>(tokens(4, 8, 1, 1, 2), 1);
  const std::array<std::int64_t, 2> negative{1, -1}, beyond{5, 4};
  const std::array<std::int64_t, 3> three{1, 1, 1};
  expect_refusal<ValueError>(in, padded(negative, false), "lengths[1] is -1");
  expect_refusal<ValueError>(in, padded(beyond, false), "lengths[0] is 5");
  expect_refusal<ShapeError>(in, padded(three, false), "[3]");
}

}  // namespace
}  // namespace heed::test
