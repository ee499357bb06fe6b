// SPDX-License-Identifier: MIT
/// @file
/// Evidence and evictions of a step that concern more than one row or one key head.
#pragma once

#include "heed/kv/kv_call_state.hpp"
#include "heed/kv/kv_repack.hpp"

namespace heed::inline HEED_ABI::detail {

/// Computes the weights and similarities that rules judge by, and evicts where a rule acts when the
/// step ends or where key heads share a budget.
template <class T, class S, class Variant>
class KvEvidence : protected KvCallState<T, S, Variant> {
 protected:
  using Base = KvCallState<T, S, Variant>;
  using Base::angles_, Base::tile_heads;
  using Base::Base, Base::chunk_at, Base::each_page, Base::enter, Base::load_queries, Base::part_of;
  using Base::candidates_, Base::config_, Base::in_, Base::members_, Base::orders_, Base::problem_;
  using Base::rows_at, Base::slots, Base::window_start;
  using typename Base::Block, typename Base::Chunk, typename Base::Slots, typename Base::Tables;
  using typename Base::WorkerScratch;

  /// Computes what a rule needs that judges keys.
  void score_keys(const WorkerScratch& scratch, const Chunk& chunk) const {
    if (config_.options.evict.uses_keys() && chunk.budget && chunk.s.count >= *chunk.budget)
      scratch.reader.similarities(chunk.s, chunk.x.claims, chunk.s.received_weight.data());
  }

  /// Computes the weights that the step's last rows give to the tokens held.
  void weigh_window(WorkerScratch& scratch, const Chunk& chunk, Index b, Index part) const {
    chunk.begin();
    std::fill(chunk.s.received_weight.begin(), chunk.s.received_weight.end(), T(0));
    const Index first = window_start(b);
    if (config_.options.rotary) chunk.place_inside(in_, b, first, in_.rows_of(b) - first, *angles_);
    add_weights(scratch, chunk, b, part, first, in_.rows_of(b) - first);
    chunk.spread_weights(config_.options.evict.window().kernel);
  }
  /// Evicts what a rule judges when the step ends, and moves the rest together.
  void evict_after_step(Index b) const {
    const Index parts = config_.parts(), end = in_.rows_of(b);
    const auto& budget = members_[std::size_t(b)].budget;
    if (!budget || end == 0) return;
    const bool shared = config_.options.heads == KvHeads::shared;
    Index excess = -product_of(*budget, parts);
    for (Index part = 0; part < parts; ++part) {
      const Chunk chunk = chunk_at(b, part, end);
      EvictionOrder<T>& order = orders_[b * parts + part];
      order = chunk.order();
      excess += chunk.s.count;
      if (shared) continue;
      evict_in_order(&order, 1, chunk.s.count - *budget,
                     [&](Index, Index slot) { chunk.evict_now(slot); });
    }
    if (shared)
      evict_in_order(orders_ + b * parts, parts, excess,
                     [&](Index part, Index slot) { chunk_at(b, part, end).evict_now(slot); });
    for (Index part = 0; part < parts; ++part) {
      Slots& s = slots(b, part);
      trim(s, config_, round_up(s.count, config_.pool.page()), part_of(b, part).reserved);
    }
  }

  /// Makes room for one row of all key heads: the tokens with the largest claims go.
  void evict_shared(WorkerScratch& scratch, Index b, Index row) const {
    if (rows_at(b, row) <= 0) return;
    const Index parts = config_.parts();
    Index held = 0;
    for (Index part = 0; part < parts; ++part) {
      const Chunk chunk = chunk_at(b, part, row);
      chunk.begin();
      held += chunk.s.count;
    }
    const auto& budget = members_[std::size_t(b)].budget;
    if (!budget || held + parts <= product_of(*budget, parts)) return;
    for (Index part = 0; part < parts; ++part) {
      if (config_.options.evict.uses_keys()) {
        const Chunk chunk = chunk_at(b, part, row);
        scratch.reader.similarities(chunk.s, chunk.x.claims, chunk.s.received_weight.data());
      }
      find_candidate(b, part, row);
    }
    for (; held + parts > product_of(*budget, parts); --held) {
      const Index part = first_candidate(candidates_ + b * parts, parts);
      chunk_at(b, part, row).evict_now(candidates_[b * parts + part].slot);
      find_candidate(b, part, row);
    }
  }
  void find_candidate(Index b, Index part, Index row) const {
    const Chunk chunk = chunk_at(b, part, row);
    candidates_[b * config_.parts() + part] = {chunk.s, config_.options.evict, chunk.candidate(),
                                               chunk.x.claims};
  }

  /// Adds the row's softmax weights to the received weights. A head whose row is NaN is skipped,
  /// because its weights carry no information.
  void add_weights(WorkerScratch& scratch, const Chunk& chunk, Index b, Index part, Index row,
                   Index rows) const {
    const T kept = T(config_.options.evict.weights_kept());
    const Index heads = config_.part_heads() * problem_.group(), together = tile_heads(rows);
    Vector<T>& received = chunk.s.received_weight;
    bool first = true;
    const Tables& x = chunk.x;
    enter(scratch.worker, b, part,
          config_.options.evict.uses_window() ? x.window_penalty : x.penalty);
    for (Index h = part * heads; h < (part + 1) * heads; h += together) {
      const auto lse = [&](Index r) { return x.lse + (h + r / rows) * x.window + r % rows; };
      Index counted = 0;
      for (Index r = 0; r < together * rows; ++r) counted += simd::is_finite(lse(r));
      if (counted == 0) continue;
      if (first && kept != T(1))
        for (Index j = 0; j < chunk.s.slots; ++j) received[std::size_t(j)] *= kept;
      first = false;
      load_queries(scratch, b, h, together, row, rows);
      for (Index r = 0; r < together * rows; ++r) scratch.query_tile.state.set_lse(r, *lse(r));
      each_page(scratch, b, problem_.key_head(h), false, [&](const Block& block) {
        scratch.worker.softmax_from_lse(scratch.query_tile, block,
                                        [&](Index r, const KeyRange& keys, const T* weights) {
                                          if (!simd::is_finite(lse(r))) return;
                                          for (Index j = keys.first; j < keys.last; ++j)
                                            received[std::size_t(j)] += weights[j - keys.first];
                                        });
      });
    }
    hook::end(scratch.worker.variant);
  }
};

}  // namespace heed::inline HEED_ABI::detail
