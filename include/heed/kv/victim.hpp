// SPDX-License-Identifier: MIT
/// @file Of the tokens that may go, the one that goes.
#pragma once

#include "heed/kv/eviction_rule.hpp"
#include "heed/kv/kv_state.hpp"
#include "heed/simd/pack.hpp"

#include <cassert>

namespace heed::inline HEED_ABI::detail {

/// When the slots of a sequence are seen. Rows count from the start of a step.
template <class T>
struct Lifetimes {
  const T *born, *dies;  ///< [slots] the first row that sees a slot, the first that no longer does

  bool include(Index slot, T row) const { return born[slot] <= row && row < dies[slot]; }
};

/// The slot of the token to go, among those that row `row` sees and that are neither protected nor
/// behind position `last`. A token whose key or evidence is not finite goes first, for it turns
/// rows into NaN; then the largest claim; of equals, the oldest.
///
/// @param claims  [slots] scratch.
template <class T, class S>
Index victim(const KvSequence<T, S>& s, const EvictionRule& rule, Index last,
             const Lifetimes<T>& lives, T row, T* claims) {
  using Sequence = KvSequence<T, S>;
  const T* const weights = rule.judges_by_weights() ? s.mass.data() : nullptr;
  rule.claims(HeldTokens<T>{s.position.data(), s.carry.data(), weights, s.slots}, claims);
  const T* const evidence = rule.evidence() == Evidence::age ? nullptr
                            : weights != nullptr             ? weights
                                                             : s.carry.data();
  Index best = Sequence::nobody;
  bool best_is_bad = false;
  for (Index j = 0; j < s.slots; ++j) {
    const Index position = s.position[std::size_t(j)];
    const std::uint8_t marks = s.marks[std::size_t(j)];
    if (position == Sequence::nobody || position > last || (marks & Sequence::never_goes) != 0 ||
        !lives.include(j, row))
      continue;
    const bool bad =
        evidence != nullptr && ((marks & Sequence::bad_key) != 0 || !simd::is_finite(evidence + j));
    bool sooner = best == Sequence::nobody || (bad && !best_is_bad);
    if (!sooner && bad == best_is_bad) {
      const bool older = position < s.position[std::size_t(best)];
      sooner = bad || claims[j] == claims[best] ? older : claims[j] > claims[best];
    }
    if (sooner) best = j, best_is_bad = bad;
  }
  assert(best != Sequence::nobody && "the budget exceeds what may not go");
  return best;
}

}  // namespace heed::inline HEED_ABI::detail
