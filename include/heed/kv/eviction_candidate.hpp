// SPDX-License-Identifier: MIT
/// @file
/// Finds the token to evict.
#pragma once

#include "heed/kv/eviction_rule.hpp"
#include "heed/kv/kv_slots.hpp"
#include "heed/simd/pack.hpp"

#include <algorithm>
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

/// May the token in a slot be evicted? Not if it is protected, or at a position behind `last`.
template <class T>
bool may_go(const KvSlots<T>& s, Index slot, Index last) {
  return s.position[std::size_t(slot)] <= last &&
         (s.marks[std::size_t(slot)] & KvSlots<T>::is_protected) == 0;
}
/// The numbers by which a rule judges the slots; null if it judges by age.
template <class T>
const T* evidence_of(const KvSlots<T>& s, const EvictionRule& rule) {
  return rule.scores_tokens()               ? s.received_weight.data()
         : rule.evidence() == Evidence::age ? nullptr
                                            : s.carry.data();
}
template <class T>
void claims_of(const KvSlots<T>& s, const EvictionRule& rule, T* claims) {
  const T* const weights = rule.scores_tokens() ? s.received_weight.data() : nullptr;
  rule.claims(HeldTokens<T>{s.position.data(), s.carry.data(), weights, s.slots}, claims);
}

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
  claims_of(s, rule, claims);
  const T* const evidence = evidence_of(s, rule);
  const auto older = [&](Index a, Index b) {
    return b == Slots::empty_slot || s.position[std::size_t(a)] < s.position[std::size_t(b)];
  };
  const auto is_candidate = [&](Index j) { return visible.includes(j, row) && may_go(s, j, last); };
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

/// The candidates of one part in the order in which they are evicted.
template <class T>
struct EvictionOrder {
  HeadCandidate<T>*next = nullptr, *end = nullptr;

  EvictionOrder() = default;
  /// @param claims  [slots] scratch.   @param order  [slots] memory for the candidates.
  EvictionOrder(const KvSlots<T>& s, const EvictionRule& rule, Index last, T* claims,
                HeadCandidate<T>* order)
      : next(order), end(order) {
    claims_of(s, rule, claims);
    for (Index j = 0; j < s.slots; ++j)
      if (s.holds(j) && may_go(s, j, last)) *end++ = {s, rule, j, claims};
    std::sort(next, end, [](const auto& a, const auto& b) { return a.before(b); });
  }
  HeadCandidate<T> front() const { return next < end ? *next : HeadCandidate<T>(); }
};

/// Calls evict(part, slot) for `count` candidates of all parts together, in order, or for as many
/// as there are.
template <class T, class Evict>
void evict_in_order(EvictionOrder<T>* parts, Index part_count, Index count, Evict&& evict) {
  for (; count > 0; --count) {
    Index first = 0;
    for (Index part = 1; part < part_count; ++part)
      if (parts[part].front().before(parts[first].front())) first = part;
    const Index slot = parts[first].front().slot;
    if (slot == KvSlots<T>::empty_slot) return;
    ++parts[first].next;
    evict(first, slot);
  }
}

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
