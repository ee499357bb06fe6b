// SPDX-License-Identifier: MIT
/// @file
/// The slots of a sequence: which token is where.
#pragma once

#include "heed/kv/kv_config.hpp"

#include <cassert>

namespace heed::inline HEED_ABI {

/// The slots of one sequence in one layer, for the key heads that hold the same tokens.
///
/// Tokens are in slots, in arbitrary order. A later token reuses a freed slot; tokens never move.
/// Keys and values are in pages, one per key head for each page() slots.
template <class T>
struct KvSlots {
  static constexpr Index empty_slot = -1;
  static constexpr std::uint8_t bad_key = 1;       ///< In marks: the key holds NaN or infinity.
  static constexpr std::uint8_t is_protected = 2;  ///< In marks: in KvOptions::protect.

  Index slots = 0;              ///< Slots that are or were in use: 0 … slots − 1.
  Index count = 0;              ///< Tokens held.
  Index first = empty_slot;     ///< The slot of position 0, or `empty_slot`.
  double dropped = 0;           ///< Bound on a row's weight lost to evictions by score_bound.
  Vector<Index> position;       ///< [capacity] of each slot's token, or `empty_slot`.
  Vector<Index> free;           ///< Empty slots below `slots`.
  Vector<T> carry;              ///< [capacity] −F of the next row, in log2 units.
  Vector<T> received_weight;    ///< [capacity] weights received, or similarities, if the rule
                                ///< needs them.
  Vector<std::uint8_t> marks;   ///< [capacity] bad_key and is_protected flags
  Vector<std::uint8_t> finite;  ///< [pages][key heads] 1: every value ever in the page was finite
  Vector<detail::Page> pages;   ///< [pages][key heads]

  Index capacity() const { return Index(position.size()); }
  bool holds(Index slot) const { return position[std::size_t(slot)] != empty_slot; }
  /// F of the next row for the token in `slot`, in natural units.
  T f(Index slot) const { return -carry[std::size_t(slot)] * simd::ln2<T>; }
  /// Bytes beside the pages.
  std::size_t bytes() const {
    return (carry.capacity() + received_weight.capacity()) * sizeof(T) +
           (position.capacity() + free.capacity()) * sizeof(Index) + marks.capacity() +
           finite.capacity() + pages.capacity() * sizeof(detail::Page);
  }
};

namespace detail {

/// Makes room for `capacity` slots, of which the pages come from add_pages(). Tokens keep their
/// slots. @throws std::bad_alloc: nothing has changed then.
template <class T, class S>
void reserve_slots(KvSlots<T>& s, const KvConfig<T, S>& config, Index capacity) {
  const std::size_t slots = std::size_t(capacity), pages = slots / std::size_t(config.pool.page()) *
                                                           std::size_t(config.part_heads());
  s.pages.reserve(pages), s.finite.reserve(pages);
  s.carry.reserve(slots), s.marks.reserve(slots), s.position.reserve(slots);
  s.free.reserve(slots);  // no allocation after tokens are appended
  if (config.options.evict.scores_tokens()) s.received_weight.reserve(slots);
}
/// Adds pages up to `capacity` slots, for which there is room. Does not allocate.
template <class T, class S>
void add_pages(KvSlots<T>& s, const KvConfig<T, S>& config, Index capacity, PageList& reserved) {
  const std::size_t slots = std::size_t(capacity), pages = slots / std::size_t(config.pool.page()) *
                                                           std::size_t(config.part_heads());
  if (slots <= s.position.size()) return;
  while (s.pages.size() < pages) s.pages.push_back(reserved.pop_blank());
  s.finite.resize(pages, std::uint8_t(1));
  s.carry.resize(slots), s.marks.resize(slots);
  s.position.resize(slots, KvSlots<T>::empty_slot);
  if (config.options.evict.scores_tokens()) s.received_weight.resize(slots);
}

/// The page of a slot and key head, and the slot's place in it.
template <class T, class S>
struct SlotPlace {
  Index page, slot;

  SlotPlace(const KvConfig<T, S>& config, Index head, Index of_slot)
      : page(of_slot / config.pool.page() * config.part_heads() + head),
        slot(of_slot % config.pool.page()) {}
};

/// Makes the slot's pages writable: a page that other sequences share is copied.
template <class T, class S>
void own_pages(KvSlots<T>& s, const KvConfig<T, S>& config, Index slot, PageList& reserved) {
  for (Index head = 0; head < config.part_heads(); ++head) {
    Page& page = s.pages[std::size_t(SlotPlace<T, S>(config, head, slot).page)];
    if (page.is_shared()) page = reserved.pop_copy(page);
  }
}
/// Pages that a step which writes `rows` slots may have to copy, because other sequences share
/// them. If no slot is free and none is freed, only the page that is not full can be among them.
template <class T, class S>
Index pages_to_copy(const KvSlots<T>& s, const KvConfig<T, S>& config, Index rows, bool frees) {
  if (!frees && s.free.empty()) {
    if (rows == 0 || s.slots == s.capacity()) return 0;
    Index shared = 0;
    for (Index head = 0; head < config.part_heads(); ++head)
      shared += s.pages[std::size_t(SlotPlace<T, S>(config, head, s.slots).page)].is_shared();
    return shared;
  }
  Index shared = 0;
  for (const Page& page : s.pages) shared += page.is_shared();
  return std::min(shared, product_of(rows, config.part_heads()));
}

/// Sets the marks of a token: keeps bad_key, and looks up is_protected in the options.
template <class T, class S>
void mark_token(KvSlots<T>& s, const KvConfig<T, S>& config, Index slot, std::uint8_t marks) {
  const bool stays = config.is_protected(s.position[std::size_t(slot)]);
  s.marks[std::size_t(slot)] =
      std::uint8_t((marks & KvSlots<T>::bad_key) | (stays ? KvSlots<T>::is_protected : 0));
}

/// Takes a free slot, or the next one, for the token at `position`, whose numbers are not stored
/// yet.
template <class T, class S>
Index take_slot(KvSlots<T>& s, const KvConfig<T, S>& config, Index position, PageList& reserved) {
  Index slot = s.slots;
  if (!s.free.empty()) {
    slot = s.free.back();
    s.free.pop_back();
  } else {
    ++s.slots;
  }
  assert(slot < s.capacity());
  own_pages(s, config, slot, reserved);
  if (position == 0) s.first = slot;
  s.position[std::size_t(slot)] = position;
  s.carry[std::size_t(slot)] = T(0);
  if (!s.received_weight.empty()) s.received_weight[std::size_t(slot)] = T(0);
  ++s.count;
  return slot;
}
/// Frees a slot. The count is the caller's.
template <class T>
void free_slot(KvSlots<T>& s, Index slot) {
  s.position[std::size_t(slot)] = KvSlots<T>::empty_slot;
  s.marks[std::size_t(slot)] = 0;
  if (s.first == slot) s.first = KvSlots<T>::empty_slot;
  s.free.push_back(slot);
}

/// False if a number of the encoded key overflowed to infinity in S.
template <class T, class S>
bool key_fits([[maybe_unused]] const KvConfig<T, S>& config, [[maybe_unused]] const S* key) {
  using Stored = simd::Codec<S>;
  if constexpr (!std::is_same_v<S, T> && Stored::group == simd::no_scale)
    for (Index i = 0; i < simd::units<S>(config.shape.dim); ++i)
      for (Index n = 0; n < Stored::numbers; ++n)
        if (const T x = Stored::template number<T>(key[i * KvPool<T, S>::slot_multiple], n);
            !simd::is_finite(&x))
          return false;
  return true;
}
/// Stores a token's key and value of one key head. Returns false if the key is not finite.
template <class T, class S>
bool store_token(KvSlots<T>& s, const KvConfig<T, S>& config, Index head, Index slot, const T* key,
                 const T* value) {
  using Stored = simd::Codec<S>;
  constexpr Index beside = KvPool<T, S>::slot_multiple;
  const auto& layout = config.layout();
  const SlotPlace<T, S> at(config, head, slot);
  const Page& page = s.pages[std::size_t(at.page)];
  S *to_key = layout.key_of(page, at.slot), *to_value = layout.value_of(page, at.slot);
  T* value_scale = layout.value_scale_of(page, at.slot);
  Stored::encode(key, layout.dim, to_key, beside, layout.key_scale_of(page, at.slot), beside);
  Stored::encode(value, layout.value_dim, to_value, 1, value_scale, 1);
  s.finite[std::size_t(at.page)] &= Stored::finite(to_value, layout.value_dim, value_scale);
  return simd::all_finite(key, 0, 1, layout.dim) && key_fits(config, to_key);
}

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

/// Returns the pages behind the last token to the pool.
template <class T, class S>
void release_pages(KvSlots<T>& s, const KvConfig<T, S>& config) {
  const Index before = s.slots;
  while (s.slots > 0 && !s.holds(s.slots - 1)) --s.slots;
  if (s.slots < before)
    s.free.erase(
        std::remove_if(s.free.begin(), s.free.end(), [&](Index slot) { return slot >= s.slots; }),
        s.free.end());
  const Index slots = round_up(s.slots, config.pool.page());
  if (slots == s.capacity()) return;
  const std::size_t n = std::size_t(slots),
                    pages = std::size_t(slots / config.pool.page() * config.part_heads());
  s.pages.erase(s.pages.begin() + std::ptrdiff_t(pages), s.pages.end());
  s.finite.resize(pages), s.position.resize(n), s.carry.resize(n), s.marks.resize(n);
  if (!s.received_weight.empty()) s.received_weight.resize(n);
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
    for (Index head = 0; head < to_config.part_heads(); ++head)
      copy_token(from, from_config, j, to, to_config, slot, head);
  }
  to.count = to.slots;
  return to;
}

}  // namespace detail
}  // namespace heed::inline HEED_ABI
