// SPDX-License-Identifier: MIT
#include "heed/kv/least_attended_last.hpp"

#include "support/buffers.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <vector>

namespace heed::test {
namespace {

template <class T>
class LeastAttendedLasts : public testing::Test {};
TYPED_TEST_SUITE(LeastAttendedLasts, Scalars, ScalarName);

/// Row 3 looks at tokens 0 and 1: the weight that rows before gave to token 2 does not save it.
TYPED_TEST(LeastAttendedLasts, ForgetWhatTheNewestRowDoesNotLookAtByHand) {
  using T = TypeParam;
  const auto in = with_scores<T>(
      {{0, 0, 0, 0, 0}, {0, 0, 0, 0, 0}, {0, 0, 9, 0, 0}, {3, 3, 0, 0, 0}, {0, 0, 0, 0, 0}});
  KvOptions o{.budget = 4, .evict = least_attended_last, .protect = {}, .select = {}};
  EXPECT_EQ(through(o, in).evict_row(0, 2), 4);
  o.evict = heavy_hitters;
  EXPECT_EQ(through(o, in).evict_row(0, 2), 5);
}

/// The token evicted at each row, by plain loops over the weights of masked attention.
TYPED_TEST(LeastAttendedLasts, FollowFromTheWeightsOfTheRowBefore) {
  using T = TypeParam;
  const Index N = 60;
  std::uint64_t seed = 1;
  for (const bool selects : {true, false})
    for (const EvictWhen when : {EvictWhen::before_row, EvictWhen::after_row})
      for (const Index recent : {1, 4}) {
        KvOptions o{.budget = 9,
                    .evict = least_attended_last,
                    .when = when,
                    .protect = {2, 5},
                    .recent = recent};
        if (!selects) o.select.reset();
        SCOPED_TRACE(describe(o));
        const Inputs<T> in = inputs<T>(tokens(N, 8, 4, 2, 2), ++seed);
        const Buffered<T> got = through(o, in);
        const reference::Array q = array(in.q), k = array(in.k), v = array(in.v),
                               evict_row = array(got.evict_row);
        const reference::Attention a =
            selects ? pruned_as_a_mask(q, k, v, evict_row)
                    : oracle(in, seeing(reference::causal() && reference::alive(evict_row)));
        EXPECT_TRUE(close(got.out, a.out));
        for (Index b = 0; b < 2; ++b)
          for (Index row = 0; row < N; ++row) {
            std::vector<Index> evicted, held;
            const Index newest = when == EvictWhen::before_row ? row : row - 1;
            for (Index j = 0; j <= newest; ++j) {
              if (evict_row(b, j) < double(row)) continue;
              if (evict_row(b, j) == double(row)) evicted.push_back(j);
              if (j != 2 && j != 5 && j <= newest - recent) held.push_back(j);
            }
            ASSERT_EQ(evicted.size(), newest >= 9 ? 1u : 0u) << row;
            if (evicted.empty()) continue;
            const auto weight = [&](Index j) {
              double sum = 0;
              for (Index h = 0; h < 4; ++h) sum += a.weights(b, h, row - 1, j);
              return sum;
            };
            for (const Index j : held)
              EXPECT_LE(weight(evicted[0]), weight(j) + 1e-5) << j << ", row " << row;
          }
      }
}

}  // namespace
}  // namespace heed::test
