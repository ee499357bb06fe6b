// SPDX-License-Identifier: MIT
/// @file
/// Finds the token to evict.
#pragma once

#include "heed/kv/eviction_rule.hpp"
#include "heed/kv/kv_slots.hpp"
#include "heed/simd/pack.hpp"

#include <cassert>
#include <limits>

namespace heed::inline HEED_ABI::detail {

/// The range of rows in which each slot is visible, empty for slots without a token. Rows count
/// from the start of a step.
template <class T>
struct VisibleRows {
  const T *first_row, *end_row;  ///< [slots] slot j is visible in rows [first_row[j], end_row[j])

  bool includes(Index slot, T row) const { return first_row[slot] <= row && row < end_row[slot]; }
};

/// Returns the slot of the token to evict, or `empty_slot` if there is no candidate. Candidates are
/// visible in row `row`, unprotected, and at a position ≤ `last`. Order: tokens whose key or
/// evidence is not finite, because they turn rows into NaN; then the largest claim. Ties: the
/// oldest.
///
/// @param claims  [slots] set to the claims.
template <class T>
Index eviction_candidate(const KvSlots<T>& s, const EvictionRule& rule, Index last,
                         const VisibleRows<T>& visible, T row, T* claims) {
  using Slots = KvSlots<T>;
  const T* const weights = rule.scores_tokens() ? s.received_weight.data() : nullptr;
  rule.claims(HeldTokens<T>{s.position.data(), s.carry.data(), weights, s.slots}, claims);
  const T* const evidence = rule.evidence() == Evidence::age ? nullptr
                            : weights != nullptr             ? weights
                                                             : s.carry.data();
  const auto older = [&](Index a, Index b) {
    return b == Slots::empty_slot || s.position[std::size_t(a)] < s.position[std::size_t(b)];
  };
  const auto is_candidate = [&](Index j) {
    return visible.includes(j, row) && s.position[std::size_t(j)] <= last &&
           (s.marks[std::size_t(j)] & Slots::is_protected) == 0;
  };
  Index best = Slots::empty_slot;
  if (evidence != nullptr) {
    std::uint8_t marks = 0;
    for (Index j = 0; j < s.slots; ++j) marks |= s.marks[std::size_t(j)];
    if ((marks & Slots::bad_key) != 0 || !simd::all_finite(evidence, 0, 1, s.slots))
      for (Index j = 0; j < s.slots; ++j)
        if (((s.marks[std::size_t(j)] & Slots::bad_key) != 0 || !simd::is_finite(evidence + j)) &&
            is_candidate(j) && older(j, best))
          best = j;
    if (best != Slots::empty_slot) return best;
  }
  T most = T(0);
  for (Index j = 0; j < s.slots; ++j) {
    const bool found = best != Slots::empty_slot;
    if ((found && claims[j] < most) || !is_candidate(j)) continue;
    if (!found || claims[j] > most || older(j, best)) best = j, most = claims[j];
  }
  return best;
}

/// The candidate of one of several key heads that hold different tokens.
template <class T>
struct HeadCandidate {
  Index slot = KvSlots<T>::empty_slot, position = 0;
  T claim = T(0);  ///< the largest number for a token that must go first

  HeadCandidate() = default;
  /// @param claims  [slots] that eviction_candidate() left.
  HeadCandidate(const KvSlots<T>& s, const EvictionRule& rule, Index of_slot, const T* claims)
      : slot(of_slot) {
    if (slot == KvSlots<T>::empty_slot) return;
    position = s.position[std::size_t(slot)], claim = claims[slot];
    if (rule.evidence() != Evidence::age &&
        ((s.marks[std::size_t(slot)] & KvSlots<T>::bad_key) != 0 || !simd::is_finite(&claim)))
      claim = std::numeric_limits<T>::max();
  }
  /// Is it evicted before the other one?
  bool before(const HeadCandidate& o) const {
    if (o.slot == KvSlots<T>::empty_slot || slot == KvSlots<T>::empty_slot)
      return slot != KvSlots<T>::empty_slot;
    return claim != o.claim ? claim > o.claim : position < o.position;
  }
};

/// Which of `heads` candidates is evicted first.
template <class T>
Index first_candidate(const HeadCandidate<T>* candidates, Index heads) {
  Index first = 0;
  for (Index head = 1; head < heads; ++head)
    if (candidates[head].before(candidates[first])) first = head;
  assert(candidates[first].slot != KvSlots<T>::empty_slot && "the budget exceeds what must stay");
  return first;
}

}  // namespace heed::inline HEED_ABI::detail
