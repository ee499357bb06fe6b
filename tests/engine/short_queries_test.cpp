// SPDX-License-Identifier: MIT
// Few queries against many keys, which are read as they are stored or packed when they are met,
// and, where they are many, cut into spans that are gathered at the end.

#include "heed/core/thread_pool.hpp"
#include "heed/engine/forward.hpp"
#include "heed/score/alibi.hpp"
#include "heed/score/query_offset.hpp"
#include "heed/score/sinks.hpp"
#include "heed/score/standard.hpp"
#include "heed/score/temperature.hpp"
#include "heed/score/window.hpp"
#include "reference/masks.hpp"
#include "support/calls.hpp"

#include <gtest/gtest.h>

#include <limits>
#include <span>

namespace heed::test {
namespace {

template <class T>
class ShortQueries : public testing::Test {};
TYPED_TEST_SUITE(ShortQueries, Scalars, ScalarName);

/// The shapes at which keys are cut into 1, 2, 3 … spans, and both sides of where they are not:
/// spans are of whole blocks of 128, eight at least. Up to 12 rows read keys as they are stored.
const Shape shapes[] = {
    {1, 1, 1, 1, 2047, 8, 8},   {1, 1, 1, 1, 2048, 8, 8},   {1, 1, 1, 3, 2049, 5, 3},
    {1, 4, 1, 2, 3100, 8, 17},  {2, 2, 2, 1, 2300, 16, 8},  {1, 1, 1, 96, 2100, 8, 8},
    {1, 1, 1, 97, 2100, 8, 8},  {1, 8, 8, 1, 4100, 3, 2},   {1, 1, 1, 2, 19000, 2, 1},
    {1, 2, 1, 6, 500, 66, 33},  {1, 1, 1, 13, 500, 66, 33}, {1, 7, 1, 1, 400, 80, 64},
    {2, 4, 2, 2, 129, 130, 257}};

/// Many heads or sequences: row blocks of 192 up to 768 rows, one more than these, and 60 rows of
/// four heads that read a key head together.
const Shape tall_shapes[] = {{2, 8, 8, 400, 400, 8, 8},
                             {1, 16, 4, 385, 385, 4, 9},
                             {1, 16, 16, 769, 769, 1, 2},
                             {2, 8, 2, 60, 4200, 2, 2},
                             {1, 16, 16, 200, 210, 300, 40}};

/// The last rows of a causal text, with a window, sinks and slopes.
template <class T>
void match_the_oracle(std::span<const Shape> all, Index window_left) {
  for (const Shape& s : all)
    for (const Index left : {window_left, unbounded}) {
      SCOPED_TRACE(describe(s) + ", left " + std::to_string(left));
      const Inputs<T> in = inputs<T>(s, 11);
      const Index offset = s.keys - s.queries;
      Tensor<T, 1> sinks(s.heads), slopes(s.heads);
      for (Index h = 0; h < s.heads; ++h) sinks(h) = T(h) - 1, slopes(h) = T(.01) * T(h + 1);
      reference::Rules rules =
          seeing(left == unbounded ? reference::causal() : reference::window(left, 0));
      rules.offset = offset, rules.sinks = array(sinks), rules.slopes = array(slopes);
      expect_oracle(
          in,
          query_offset(offset) | standard | alibi(slopes) | window(left, 0) | heed::sinks(sinks),
          rules);
    }
}
TYPED_TEST(ShortQueries, MatchTheOracle) {
  match_the_oracle<TypeParam>(shapes, 1500);
}
TYPED_TEST(ShortQueries, MatchTheOracleInTallRowBlocks) {
  match_the_oracle<TypeParam>(tall_shapes, 150);
}

/// The results do not depend on the thread that computes a KV split, nor on the order.
TYPED_TEST(ShortQueries, DoNotDependOnTheNumberOfThreads) {
  const auto compare = [](const Shape& s) {
    SCOPED_TRACE(describe(s));
    const auto in = inputs<TypeParam>(s, 12);
    const Outputs<TypeParam> one = attend(in, standard);
    for (const int workers : {2, 5}) {
      Eigen::ThreadPool pool(workers);
      expect_same_bits(one, attend(in, standard, {.executor = executor(pool)}));
    }
  };
  for (const Shape& s : shapes) compare(s);
  for (const Shape& s : tall_shapes) compare(s);
}

/// A row that sees no key is zero: here all keys lie before the window.
TYPED_TEST(ShortQueries, MaySeeNoKey) {
  using T = TypeParam;
  const Inputs<T> in = inputs<T>({2, 2, 1, 1, 1000, 8, 8}, 15);
  Tensor<T, 1> none(2), slopes(2);
  none.setConstant(T(-2e37)), slopes.setConstant(T(.01));
  const Outputs<T> got =
      attend(in, query_offset(5000) | standard | alibi(slopes) | window(10, 0) | heed::sinks(none));
  for (Index b = 0; b < 2; ++b)
    for (Index h = 0; h < 2; ++h) {
      EXPECT_EQ(got.lse(b, h, 0), -std::numeric_limits<T>::infinity());
      for (Index d = 0; d < 8; ++d) EXPECT_EQ(got.out(b, h, 0, d), T(0));
    }
}

/// Scores that grow with the key, and ones that fall: a span's maximum is above all before it, or
/// below.
TYPED_TEST(ShortQueries, GatherSpansOfAnyMaxima) {
  using T = TypeParam;
  for (const double slope : {.05, -.05}) {
    const Index keys = 4000;
    Inputs<T> in = inputs<T>({1, 1, 1, 2, keys, 4, 2}, 13);
    for (Index j = 0; j < keys; ++j)
      for (Index d = 0; d < 4; ++d)
        in.k(0, 0, j, d) = T(slope * double(j)), in.q(0, 0, 0, d) = T(1);
    expect_oracle(in, standard, {});
  }
}

/// A row whose keys all lie in one span, one that sees nothing, and NaN in a span it does not see.
TYPED_TEST(ShortQueries, LeaveOutSpansThatARowDoesNotSee) {
  using T = TypeParam;
  const Index keys = 4096, nan_at = 100;
  for (const Index queries : {2, 7, 30}) {
    SCOPED_TRACE(std::to_string(queries) + " queries");
    Inputs<T> in = inputs<T>({1, 1, 1, queries, keys, 4, 40}, 14);
    for (Index d = 0; d < 4; ++d) in.k(0, 0, nan_at, d) = std::numeric_limits<T>::quiet_NaN();
    for (Index d = 0; d < 40; ++d) in.v(0, 0, nan_at, d) = std::numeric_limits<T>::quiet_NaN();
    Inputs<T> clean = in;
    for (Index d = 0; d < 4; ++d) clean.k(0, 0, nan_at, d) = T(0);
    for (Index d = 0; d < 40; ++d) clean.v(0, 0, nan_at, d) = T(0);
    for (const Index offset : {Index(3000), Index(9000)}) {
      reference::Rules rules = seeing(reference::window(10, 0));
      rules.offset = offset;
      expect_close(attend(in, query_offset(offset) | standard | window(10, 0)),
                   oracle(clean, rules));
    }
  }
}

/// Temperatures of keys and values, where they are read as they are stored and where they are
/// packed; from the middle of a block on.
TYPED_TEST(ShortQueries, ScaleKeysAndValues) {
  using T = TypeParam;
  for (const Index queries : {1, 3, 5, 20, 60}) {
    const Shape s{1, 2, 1, queries, 2100, 6, 40};
    SCOPED_TRACE(describe(s));
    const Inputs<T> in = inputs<T>(s, 15);
    const Tensor<T, 3> tau = normal<T>(16, Index(1), Index(1), s.keys);
    Inputs<T> scaled = in;
    for (Index j = 0; j < s.keys; ++j) {
      for (Index d = 0; d < s.dim; ++d) scaled.k(0, 0, j, d) *= tau(0, 0, j);
      for (Index d = 0; d < s.value_dim; ++d) scaled.v(0, 0, j, d) *= tau(0, 0, j);
    }
    const Index offset = s.keys - queries;
    reference::Rules rules = seeing(reference::window(1234, 0));
    rules.offset = offset;
    expect_close(attend(in, query_offset(offset) | key_temperature(tau) | value_temperature(tau) |
                                standard | window(1234, 0)),
                 oracle(scaled, rules));
  }
}

}  // namespace
}  // namespace heed::test
