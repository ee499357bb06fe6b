// SPDX-License-Identifier: MIT
/// @file
/// The memory that new tokens of a sequence need.
#pragma once

#include "heed/kv/kv_slots.hpp"

namespace heed::inline HEED_ABI::detail {

/// What one part of a sequence needs to take `rows` tokens in one step.
template <class T, class S>
struct KvDemand {
  const KvConfig<T, S>& config;
  const std::optional<Index>& budget;  ///< of the sequence
  Index rows;

  /// The slots that a part needs, in whole pages.
  Index capacity(const KvSlots<T>& s) const {
    Index wanted = s.slots + rows - std::min(Index(s.free.size()), rows);
    if (budget && !config.exceeds_budget())
      wanted = std::min(wanted, std::max(s.slots, config.slots_for(*budget, rows)));
    return std::max(s.capacity(), round_up(wanted, config.pool.page()));
  }
  /// Pages that a part may take: to grow, and in place of shared ones. A row writes the slot of its
  /// token, and the end moves tokens out of the slots that the budget does not need.
  Index pages(const KvSlots<T>& s) const {
    const Index slots = capacity(s),
                moved = rows > 0 && budget
                            ? std::max<Index>(0, slots - config.slots_for(*budget, 1))
                            : 0;
    return slots / config.pool.page() * config.part_heads() - Index(s.pages.size()) +
           pages_to_copy(s, config, config.exceeds_budget() ? max_bytes : rows + moved,
                         config.options.score_bound || (budget && s.count + rows > *budget));
  }
};

}  // namespace heed::inline HEED_ABI::detail
