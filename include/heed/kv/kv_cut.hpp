// SPDX-License-Identifier: MIT
/// @file
/// Evicts what exceeds a budget, at once.
#pragma once

#include "heed/core/workspace.hpp"
#include "heed/kv/eviction_candidate.hpp"
#include "heed/kv/kv_page_reader.hpp"
#include "heed/kv/kv_repack.hpp"

#include <span>

namespace heed::inline HEED_ABI::detail {

/// Evicts tokens of the parts of a sequence, by the rule, until K are left, and packs the rest into
/// as few pages as may be. @throws OutOfPages, std::bad_alloc
template <class T, class S>
void evict_to(const KvConfig<T, S>& config, std::span<KvSlots<T>> all, Index next, Index budget) {
  const KvOptions& options = config.options;
  Index capacity = 0, held = 0;
  for (const KvSlots<T>& s : all) capacity = std::max(capacity, s.capacity()), held += s.count;
  const Index parts = config.parts(), last = next - 1 - options.recent_tokens(budget);
  Workspace workspace;
  lay_out(workspace, [&](Arena& arena) {
    T* const claims = arena.take<T>(capacity);
    auto* const candidates = arena.take<HeadCandidate<T>>(capacity * parts);
    auto* const orders = arena.take<EvictionOrder<T>>(parts);
    const PageReader<T, S> reader(config, arena);
    if (arena.measuring()) return;
    for (Index part = 0; part < parts; ++part) {
      KvSlots<T>& s = all[std::size_t(part)];
      s.free.reserve(std::size_t(s.capacity()));
      if (options.evict.uses_keys()) reader.similarities(s, claims, s.received_weight.data());
      orders[part] = {s, options.evict, last, claims, candidates + part * capacity};
    }
    const auto evict = [&](Index part, Index slot) {
      KvSlots<T>& s = all[std::size_t(part)];
      vacate_slot(s, slot), --s.count;
    };
    if (options.heads == KvHeads::shared)
      return evict_in_order(orders, parts, held - product_of(budget, parts), evict);
    for (Index part = 0; part < parts; ++part)
      evict_in_order(orders + part, 1, all[std::size_t(part)].count - budget,
                     [&](Index, Index slot) { evict(part, slot); });
  });
  for (KvSlots<T>& s : all) {
    count_inside(s);
    if (round_up(s.count, config.pool.page()) < s.capacity()) s = repacked(s, config, config);
  }
}

}  // namespace heed::inline HEED_ABI::detail
