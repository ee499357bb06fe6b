// SPDX-License-Identifier: MIT
/// @file
/// What happens to the slots of a sequence while it takes a chunk of rows.
#pragma once

#include "heed/engine/work_stats.hpp"
#include "heed/kv/eviction_candidate.hpp"
#include "heed/score/votes.hpp"

#include <cassert>
#include <cmath>

namespace heed::inline HEED_ABI::detail {

/// Tables of one part of a sequence, for one chunk. Rows count from the start of the step.
template <class T>
struct KvTables {
  T *first_row, *end_row;   ///< [stride] a slot is visible in rows [first_row, end_row)
  T* offsets;               ///< [stride] position relative to row 0
  T* claims;                ///< [stride] eviction claims of the rule
  T* penalty;               ///< [chunk][stride] −F, if there is selection
  T* scores;                ///< [chunk][stride] of the selecting head, likewise
  T* window_penalty;        ///< [window][stride] −F of the step's last rows, likewise
  T* inside;                ///< [stride] position among the tokens held, if these turn keys
  Index* row_inside;        ///< [chunk or window] the same of rows
  T *cosines, *sines;       ///< [stride / panel][pairs][panel] of the tokens, likewise
  T* lse;                   ///< [heads][window] log-sum-exp of the last row or rows, in log2 units
  HeadCandidate<T>* order;  ///< [stride] for a rule that acts when the step ends
  Index* by_position;       ///< [stride] slots, likewise
  Index stride;             ///< slots, padded to key blocks
  Index window;             ///< rows whose weights count

  /// A row number past the end of any call.
  static constexpr T no_row = T(Index(1) << 30);

  KvTables() = default;
  KvTables(Index slots, Index chunk, Index heads, const KvOptions& o, Arena& arena)
      : stride(slots), window(o.evict.uses_window() ? o.evict.window().rows : 1) {
    const bool selects = o.select.has_value(), sorts = o.evict.uses_window();
    first_row = arena.take<T>(4 * stride);
    end_row = first_row + stride, offsets = end_row + stride, claims = offsets + stride;
    penalty = arena.take<T>(selects ? chunk * stride : 0);
    scores = arena.take<T>(selects ? chunk * stride : 0);
    window_penalty = arena.take<T>(selects && sorts ? window * stride : 0);
    const Index turned = o.rotary ? stride : 0, pairs = o.rotary ? o.rotary->dims() / 2 : 0;
    inside = arena.take<T>(turned);
    row_inside = arena.take<Index>(o.rotary ? std::max(chunk, window) : 0);
    cosines = arena.take<T>(turned * pairs), sines = arena.take<T>(turned * pairs);
    lse = arena.take<T>(heads * window);
    order = arena.take<HeadCandidate<T>>(sorts ? stride : 0);
    by_position = arena.take<Index>(sorts ? stride : 0);
  }
};

/// One part of a sequence, and a chunk of rows that it takes.
template <class T, class S>
struct KvChunk {
  using Slots = KvSlots<T>;

  const KvConfig<T, S>& config;
  Slots& s;
  const KvTables<T>& x;
  const std::optional<Index>& budget;
  View<std::int64_t, 1> evict_row;  ///< [positions], see KvStep; or none
  Index row, rows;                  ///< the chunk's first row in the step, and their number
  Index start;                      ///< position of the step's row 0

  const KvOptions& options() const { return config.options; }
  /// Does this part evict at that time? If heads share a budget, all of them do together.
  bool evicts(EvictWhen when) const {
    return budget && options().when == when && options().heads != KvHeads::shared &&
           !options().evict.uses_window();
  }

  /// Sets the tables so that each row of the step sees the tokens held up to its own position.
  void begin() const {
    std::fill_n(x.first_row, x.stride, x.no_row), std::fill_n(x.end_row, x.stride, x.no_row);
    std::fill_n(x.offsets, x.stride, x.no_row);
    for (Index j = 0; j < s.slots; ++j)
      if (s.holds(j)) {
        x.offsets[j] = T(s.position[std::size_t(j)] - start);
        x.first_row[j] = std::max(x.offsets[j], T(0));
      }
  }
  /// If the budget is used up, a token goes for the first row: before it is appended, so that it is
  /// no candidate and can reuse the slot.
  void make_room() const {
    if (evicts(EvictWhen::before_row) && s.count == *budget) evict_now(candidate());
  }
  /// The slot of the token to evict before the first row, or `empty_slot`.
  Index candidate() const { return candidate(start + row, T(row)); }
  void evict_now(Index slot) const {
    assert(slot != Slots::empty_slot && "the budget exceeds what must stay");
    log(slot, start + row);
    free_slot(s, slot);
    x.first_row[slot] = x.offsets[slot] = x.no_row;
    --s.count;
  }
  /// Row r sees no slot of the chunk's tree but those of the tokens it descends from.
  template <class Inputs>
  void see_tree(const Inputs& in, Index b, Index slot, Index r) const {
    Index last = r;  // the last token that descends from it
    while (last + 1 < rows) {
      Index above = last + 1;
      while (above > r) above = in.parent(b, above);
      if (above != r) break;
      ++last;
    }
    x.offsets[slot] = T(in.depth(b, r));
    x.end_row[slot] = T(last + 1);
  }
  /// Finds where the tokens held and the rows [first, first + count) of the step are inside the
  /// cache, and takes the cosines and sines of the tokens from `angles`.
  template <class Inputs>
  void place_inside(const Inputs& in, Index b, Index first, Index count,
                    const KvAngles<T>& angles) const {
    const Index origin = start + first;  // the position of the first of these rows
    Index before = 0;
    std::fill_n(x.row_inside, count, Index(0));
    for (Index j = 0; j < s.slots; ++j) {
      const Index n = s.position[std::size_t(j)] - origin;
      before += s.holds(j) && n < 0;
      if (n >= 0 && n + 1 < count) x.row_inside[n + 1] = 1;
    }
    x.row_inside[0] += before;
    for (Index r = 1; r < count; ++r)
      x.row_inside[r] =
          in.parents ? before + in.depth(b, r) : x.row_inside[r - 1] + x.row_inside[r];
    std::fill(x.inside + s.slots, x.inside + x.stride, T(0));
    for (Index first_slot = 0; first_slot < s.slots; first_slot += simd::width<T>) {
      Index at[std::size_t(simd::width<T>)] = {};
      bool in_order = true;
      for (Index lane = 0; lane < std::min(simd::width<T>, s.slots - first_slot); ++lane) {
        const Index j = first_slot + lane, n = s.position[std::size_t(j)] - origin;
        at[lane] = in.parents && n >= 0 ? x.row_inside[n] : s.inside[std::size_t(j)];
        x.inside[j] = T(at[lane]);
      }
      for (Index lane = 1; lane < simd::width<T>; ++lane) in_order &= at[lane] == at[0] + lane;
      take_angles(first_slot, at, in_order, angles);
    }
  }
  /// The token of row r was appended to this slot.
  void appended(Index r, Index slot) const { x.first_row[slot] = x.offsets[slot] = T(row + r); }

  /// Goes through the rows: evicts and updates F. `held` tokens were held before the chunk. Keeps
  /// the penalties of rows from `window_start` on for a rule that weighs them when the step ends.
  void descend(Index held, Index window_start, WorkStats& stats) const {
    s.count = held;
    for (Index r = 0; r < rows; ++r) {
      const T at = T(row + r);
      const Index current = start + row + r;
      ++s.count;
      if (evicts(EvictWhen::before_row) && s.count > *budget)
        mark_evicted(candidate(current, at), at, current);
      if (options().select) update_f(r, at);
      if (options().select && options().evict.uses_window() && row + r >= window_start)
        std::copy_n(x.penalty + r * x.stride, x.stride,
                    x.window_penalty + (row + r - window_start) * x.stride);
      if (options().score_bound) evict_negligible(at + 1, current, stats);
      if (evicts(EvictWhen::after_row) && !options().evict.scores_tokens() && s.count > *budget)
        mark_evicted(candidate(current, at), at + 1, current + 1);
    }
  }

  /// Replaces each weight by the largest of the `kernel` tokens around it, by position.
  void spread_weights(Index kernel) const {
    Index count = 0;
    for (Index j = 0; j < s.slots; ++j)
      if (s.holds(j)) x.by_position[count++] = j;
    std::sort(x.by_position, x.by_position + count, [&](Index a, Index b) {
      return s.position[std::size_t(a)] < s.position[std::size_t(b)];
    });
    for (Index n = 0; n < count; ++n)
      x.claims[n] = s.received_weight[std::size_t(x.by_position[n])];
    for (Index n = 0; n < count; ++n) {
      const Index first = std::max<Index>(n - kernel / 2, 0),
                  last = std::min(n + kernel / 2, count - 1);
      T most = x.claims[first];
      for (Index near = first + 1; near <= last; ++near) most = std::max(most, x.claims[near]);
      s.received_weight[std::size_t(x.by_position[n])] = most;
    }
  }
  EvictionOrder<T> order() const {
    const Index last = start + row - 1 - options().recent_tokens(budget);
    return {s, options().evict, last, x.claims, x.order};
  }

  /// After the rows have attended: evicts late, and frees the slots of evicted tokens.
  void end() const {
    const T after = T(row + rows);
    const Index current = start + row + rows - 1;
    const bool late = options().when == EvictWhen::chunk_end ||
                      (options().when == EvictWhen::after_row && options().evict.scores_tokens());
    while (late && budget && s.count > *budget)
      mark_evicted(candidate(current, after), after, current + 1);
    for (Index j = 0; j < s.slots; ++j)
      if (s.holds(j) && x.end_row[j] != x.no_row) free_slot(s, j);
  }

 private:
  /// Puts the cosines and sines of a register of slots, at positions at[lane], where keys are read.
  void take_angles(Index slot, const Index* at, bool in_order, const KvAngles<T>& angles) const {
    constexpr Index beside = KvPool<T, S>::slot_multiple;
    const Index pairs = angles.pairs(), to = slot / beside * beside * pairs + slot % beside;
    T *const cosines = x.cosines + to, *const sines = x.sines + to;
    for (Index i = 0; i < pairs && in_order; ++i) {
      const RotaryRow<T> of = angles.of(i);
      simd::load(of.cosine + at[0]).store_unaligned(cosines + i * beside);
      simd::load(of.sine + at[0]).store_unaligned(sines + i * beside);
    }
    for (Index lane = 0; lane < simd::width<T> && !in_order; ++lane) {
      const RotaryRow<T> of = angles.at(at[lane]);
      for (Index i = 0; i < pairs; ++i) {
        cosines[i * beside + lane] = of.cosine[i];
        sines[i * beside + lane] = of.sine[i];
      }
    }
  }

  /// The slot of the token to evict, among those visible in `at`, which is at position `current`.
  Index candidate(Index current, T at) const {
    return eviction_candidate(s, options().evict, current - options().recent_tokens(budget),
                              VisibleRows<T>{x.first_row, x.end_row}, at, x.claims);
  }

  /// Computes the penalty −F of row r for every slot, and updates the carry. Masks the scores of
  /// slots that the row does not see.
  void update_f(Index r, T at) const {
    const SelectOptions& o = *options().select;
    const Batch<T> zero(T(0));
    T *const penalty = x.penalty + r * x.stride, *const scores = x.scores + r * x.stride;
    for (Index j = 0; j < s.slots; j += simd::width<T>) {
      T* carry = &s.carry[std::size_t(j)];
      // The scores of empty and evicted slots may be NaN. They must not reach F.
      const Mask<T> held = (simd::load(x.first_row + j) <= Batch<T>(at)) &
                           (Batch<T>(at) < simd::load(x.end_row + j));
      const Mask<T> voted = held & voted_on<T>(o, s.first - j);
      const Votes<T> cast{o, simd::load(x.offsets + j), voted};
      const Batch<T> score = simd::load(scores + j);
      const auto next = cast.descend(simd::load(carry), score, at);
      simd::select(held, next.penalty, zero).store_unaligned(penalty + j);
      simd::select(held, next.carry, zero).store_unaligned(carry);
      simd::select(held, score, Batch<T>(masked<T>)).store_unaligned(scores + j);
    }
  }

  /// Evicts tokens that are dead in every row after `current`, see DeadKeys: the lead is 2b,
  /// because scores are between −b and b, b = score_bound.
  void evict_negligible(T at, Index current, WorkStats& stats) const {
    const double lead = 2 * *options().score_bound * simd::log2e<double>;
    const Index last = current - options().recent_tokens(budget);
    for (Index j = 0; j < s.slots; ++j) {
      const Index position = s.position[std::size_t(j)];
      const double bias = double(s.carry[std::size_t(j)]);
      if (position == Slots::empty_slot || position > last || x.end_row[j] != x.no_row ||
          !config.dead.contain(lead, bias) || (s.marks[std::size_t(j)] & Slots::is_protected) != 0)
        continue;
      s.dropped += config.dead.weight(lead, bias);
      mark_evicted(j, at, current + 1);
    }
    stats.dropped = std::max(stats.dropped, s.dropped);
  }

  void log(Index slot, Index first_without) const {
    if (evict_row) evict_row(s.position[std::size_t(slot)]) = first_without;
  }
  /// Masks a slot from row `at` on. The slot is freed after the chunk.
  void mark_evicted(Index slot, T at, Index first_without) const {
    assert(slot != Slots::empty_slot && "the budget exceeds what must stay");
    log(slot, first_without);
    x.end_row[slot] = at;
    --s.count;
  }
};

}  // namespace heed::inline HEED_ABI::detail
