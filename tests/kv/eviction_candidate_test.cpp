// SPDX-License-Identifier: MIT
// The choice of the token to evict, compared with a sorted list of candidates.

#include "heed/kv/eviction_candidate.hpp"

#include "heed/kv/eviction.hpp"
#include "support/calls.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

namespace heed::test {
namespace {

template <class T>
class EvictionCandidates : public testing::Test {};
TYPED_TEST_SUITE(EvictionCandidates, Scalars, ScalarName);

TYPED_TEST(EvictionCandidates, AreBadTokensThenTheLargestClaimThenTheOldest) {
  using T = TypeParam;
  using Limits = std::numeric_limits<T>;
  using Slots = KvSlots<T>;
  Random random(1);
  int bad_ones = 0, ties = 0;
  for (int trial = 0; trial < 2000; ++trial) {
    const Index slots = random.integer(1, 40), row = random.integer(0, 3);
    Slots s;
    s.slots = slots;
    std::vector<T> first_row, end_row, claims(static_cast<std::size_t>(slots));
    Vector<Index> positions;
    for (Index j = 0; j < slots; ++j) positions.push_back(j);
    for (Index j = slots - 1; j > 0; --j)
      std::swap(positions[std::size_t(j)], positions[std::size_t(random.integer(0, j + 1))]);
    const auto number = [&](double of_bad) {  // few different ones, so that there are ties
      if (random.uniform() < of_bad)
        return random.uniform() < 0.5 ? Limits::quiet_NaN() : Limits::infinity();
      return T(random.integer(-3, 1));
    };
    const double of_bad = trial % 3 == 0 ? 0.1 : 0;
    for (Index j = 0; j < slots; ++j) {
      const bool empty = random.uniform() < 0.2;
      s.position.push_back(empty ? Slots::empty_slot : positions[std::size_t(j)]);
      s.carry.push_back(number(empty ? 0.5 : of_bad));
      s.received_weight.push_back(number(of_bad));
      std::uint8_t marks = 0;
      if (random.uniform() < of_bad) marks |= Slots::bad_key;
      if (random.uniform() < 0.2) marks |= Slots::is_protected;
      s.marks.push_back(marks);
      first_row.push_back(empty ? T(1 << 30) : T(random.integer(0, 3)));
      end_row.push_back(random.uniform() < 0.3 ? T(row) : T(1 << 30));
    }
    const Index last = random.integer(0, slots);
    for (const EvictionRule& rule :
         {EvictionRule(most_masked), EvictionRule(heavy_hitters), EvictionRule(oldest)}) {
      struct Candidate {
        bool bad;
        double claim;
        Index position, slot;
      };
      std::vector<Candidate> all;
      for (Index slot = 0; slot < slots; ++slot) {
        const std::size_t j = std::size_t(slot);
        if (s.position[j] < 0 || s.position[j] > last || (s.marks[j] & Slots::is_protected) != 0 ||
            first_row[j] > T(row) || end_row[j] <= T(row))
          continue;
        const bool by_age = rule.evidence() == Evidence::age;
        const T x = by_age ? T(0) : rule.uses_weights() ? s.received_weight[j] : s.carry[j];
        const bool bad = !by_age && ((s.marks[j] & Slots::bad_key) != 0 || !std::isfinite(x));
        all.push_back({bad, bad ? 0 : -double(x), s.position[j], slot});
      }
      if (all.empty()) continue;
      const auto first =
          std::min_element(all.begin(), all.end(), [](const Candidate& a, const Candidate& b) {
            if (a.bad != b.bad) return a.bad;
            return a.claim != b.claim ? a.claim > b.claim : a.position < b.position;
          });
      bad_ones += first->bad;
      for (const Candidate& c : all)
        ties += c.slot != first->slot && c.bad == first->bad && c.claim == first->claim;
      ASSERT_EQ(heed::detail::eviction_candidate(
                    s, rule, last, heed::detail::VisibleRows<T>{first_row.data(), end_row.data()},
                    T(row), claims.data()),
                first->slot)
          << rule.name() << ", trial " << trial;
    }
  }
  EXPECT_GT(bad_ones, 100);
  EXPECT_GT(ties, 1000);
}

}  // namespace
}  // namespace heed::test
