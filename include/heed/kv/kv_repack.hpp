// SPDX-License-Identifier: MIT
/// @file
/// Moves tokens together, so that they take fewer pages.
#pragma once

#include "heed/kv/kv_slots.hpp"

namespace heed::inline HEED_ABI::detail {

/// Copies a token's numbers of one key head, as they are stored.
template <class T, class S>
void copy_token(const KvSlots<T>& from, const KvConfig<T, S>& from_config, Index from_slot,
                KvSlots<T>& to, const KvConfig<T, S>& to_config, Index to_slot, Index head) {
  constexpr Index beside = KvPool<T, S>::slot_multiple;
  const auto &a = from_config.layout(), &b = to_config.layout();
  const SlotPlace<T, S> at(from_config, head, from_slot), to_at(to_config, head, to_slot);
  const Page &page = from.pages[std::size_t(at.page)], &to_page = to.pages[std::size_t(to_at.page)];
  const auto copy = [](const auto* x, auto* y, Index count, Index step) {
    for (Index i = 0; i < count; ++i) y[i * step] = x[i * step];
  };
  copy(a.key_of(page, at.slot), b.key_of(to_page, to_at.slot), simd::units<S>(a.dim), beside);
  copy(a.key_scale_of(page, at.slot), b.key_scale_of(to_page, to_at.slot), simd::scales<S>(a.dim),
       beside);
  copy(a.value_of(page, at.slot), b.value_of(to_page, to_at.slot), simd::units<S>(a.columns), 1);
  copy(a.value_scale_of(page, at.slot), b.value_scale_of(to_page, to_at.slot),
       simd::scales<S>(a.value_dim), 1);
  to.finite[std::size_t(to_at.page)] &= from.finite[std::size_t(at.page)];
}

/// Moves tokens behind the first `slots` slots to free ones among these, and releases the pages
/// behind them. No more tokens are held than that. Does not allocate.
template <class T, class S>
void trim(KvSlots<T>& s, const KvConfig<T, S>& config, Index slots, PageList& reserved) {
  if (s.capacity() <= slots) return;
  assert(s.count <= slots);
  s.free.erase(
      std::remove_if(s.free.begin(), s.free.end(), [&](Index slot) { return slot >= slots; }),
      s.free.end());
  for (Index from = slots; from < s.slots; ++from) {
    if (!s.holds(from)) continue;
    const Index to = s.free.back();
    s.free.pop_back();
    own_pages(s, config, to, reserved);
    for (Index head = 0; head < config.part_heads(); ++head)
      copy_token(s, config, from, s, config, to, head);
    const auto move = [&](auto& of_slots) {
      of_slots[std::size_t(to)] = of_slots[std::size_t(from)];
    };
    move(s.position), move(s.carry), move(s.marks);
    if (!s.received_weight.empty()) move(s.received_weight);
    if (!s.inside.empty()) move(s.inside);
    if (s.first == from) s.first = to;
  }
  s.slots = std::min(s.slots, slots);
  release_pages(s, config);
}

/// A copy of the tokens in pages of its own, compacted to the first slots in slot order.
/// @throws OutOfPages, std::bad_alloc
template <class T, class S>
KvSlots<T> repacked(const KvSlots<T>& from, const KvConfig<T, S>& from_config,
                    const KvConfig<T, S>& to_config) {
  KvSlots<T> to;
  const Index capacity = round_up(from.count, to_config.pool.page());
  reserve_slots(to, to_config, capacity);
  ReservedPages reserved(to_config.pool.pages(),
                         capacity / to_config.pool.page() * to_config.part_heads());
  add_pages(to, to_config, capacity, reserved.list());
  to.dropped = from.dropped;
  for (Index j = 0; j < from.slots; ++j) {
    if (!from.holds(j)) continue;
    const Index slot = to.slots++;
    to.position[std::size_t(slot)] = from.position[std::size_t(j)];
    if (from.first == j) to.first = slot;
    to.carry[std::size_t(slot)] = from.carry[std::size_t(j)];
    to.marks[std::size_t(slot)] = from.marks[std::size_t(j)];
    if (!to.received_weight.empty())
      to.received_weight[std::size_t(slot)] = from.received_weight[std::size_t(j)];
    if (!to.inside.empty()) to.inside[std::size_t(slot)] = from.inside[std::size_t(j)];
    for (Index head = 0; head < to_config.part_heads(); ++head)
      copy_token(from, from_config, j, to, to_config, slot, head);
  }
  to.count = to.slots;
  return to;
}

}  // namespace heed::inline HEED_ABI::detail
