// SPDX-License-Identifier: MIT
/// @file
/// The slots of a sequence: which token is where.
#pragma once

#include "heed/kv/kv_config.hpp"

#include <algorithm>
#include <cassert>
#include <utility>

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

  Index slots = 0;             ///< Slots that are or were in use: 0 … slots − 1.
  Index count = 0;             ///< Tokens held.
  Index first = empty_slot;    ///< The slot of position 0, or `empty_slot`.
  double dropped = 0;          ///< Bound on a row's weight lost to evictions by score_bound.
  Vector<Index> position;      ///< [capacity] of each slot's token, or `empty_slot`.
  Vector<Index> free;          ///< Empty slots below `slots`.
  Vector<T> carry;             ///< [capacity] −F of the next row, in log2 units.
  Vector<T> received_weight;   ///< [capacity] weights received, or similarities, if the rule
                               ///< needs them.
  Vector<Index> inside;        ///< [capacity] tokens held before this one, if keys are turned by it
  Vector<std::uint8_t> marks;  ///< [capacity] bad_key and is_protected flags
  Vector<std::uint8_t> finite;  ///< [pages][key heads] 1: every value ever in the page was finite
  Vector<detail::Page> pages;   ///< [pages][key heads]

  Index capacity() const { return Index(position.size()); }
  bool holds(Index slot) const { return position[std::size_t(slot)] != empty_slot; }
  /// F of the next row for the token in `slot`, in natural units.
  T f(Index slot) const { return -carry[std::size_t(slot)] * simd::ln2<T>; }
  /// Bytes beside the pages.
  std::size_t bytes() const {
    return (carry.capacity() + received_weight.capacity()) * sizeof(T) +
           (position.capacity() + free.capacity() + inside.capacity()) * sizeof(Index) +
           marks.capacity() + finite.capacity() + pages.capacity() * sizeof(detail::Page);
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
  if (config.options.rotary) s.inside.reserve(slots);
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
  if (config.options.rotary) s.inside.resize(slots);
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
  if (!s.inside.empty()) s.inside[std::size_t(slot)] = s.count;
  ++s.count;
  return slot;
}
/// The slots that hold tokens, by position. @throws std::bad_alloc
template <class T>
Vector<Index> slots_by_position(const KvSlots<T>& s) {
  Vector<Index> order;
  order.reserve(std::size_t(s.count));
  for (Index j = 0; j < s.slots; ++j)
    if (s.holds(j)) order.push_back(j);
  std::sort(order.begin(), order.end(), [&](Index a, Index b) {
    return s.position[std::size_t(a)] < s.position[std::size_t(b)];
  });
  return order;
}
/// Frees a slot. The count is the caller's, and so is what is inside the cache before the others.
template <class T>
void vacate_slot(KvSlots<T>& s, Index slot) {
  s.position[std::size_t(slot)] = KvSlots<T>::empty_slot;
  s.marks[std::size_t(slot)] = 0;
  if (!s.inside.empty()) s.inside[std::size_t(slot)] = 0;  // it may index a table of angles
  if (s.first == slot) s.first = KvSlots<T>::empty_slot;
  s.free.push_back(slot);
}
/// Frees a slot. The count is the caller's.
template <class T>
void free_slot(KvSlots<T>& s, Index slot) {
  if (!s.inside.empty()) {
    const Index gone = std::exchange(s.inside[std::size_t(slot)], 0);
    for (Index& inside : s.inside) inside -= inside > gone;
  }
  vacate_slot(s, slot);
}
/// Counts anew how many tokens are held before each. @throws std::bad_alloc
template <class T>
void count_inside(KvSlots<T>& s) {
  if (s.inside.empty()) return;
  Index n = 0;
  for (const Index slot : slots_by_position(s)) s.inside[std::size_t(slot)] = n++;
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

/// Stores the token at `position`, and returns its slot. numbers(head) gives its key and value of a
/// key head of the part.
template <class T, class S, class Numbers>
Index append_token(KvSlots<T>& s, const KvConfig<T, S>& config, Index position, PageList& reserved,
                   Numbers&& numbers) {
  const Index slot = take_slot(s, config, position, reserved);
  bool good_key = true;
  for (Index head = 0; head < config.part_heads(); ++head) {
    const auto [key, value] = numbers(head);
    good_key &= store_token(s, config, head, slot, key, value);
  }
  mark_token(s, config, slot, good_key ? std::uint8_t(0) : KvSlots<T>::bad_key);
  return slot;
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
  if (!s.inside.empty()) s.inside.resize(n);
}

}  // namespace detail
}  // namespace heed::inline HEED_ABI
