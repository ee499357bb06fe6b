// SPDX-License-Identifier: MIT
/// @file
/// One step of a cache: append, select, evict, attend.
#pragma once

#include "heed/kv/kv_evidence.hpp"

namespace heed::inline HEED_ABI::detail {

/// A step processes chunks of rows in order. Each chunk has three parallel passes:
/// 1. per sequence and part: append the tokens, compute the selecting head's scores, then row by
///    row update F and decide which tokens are evicted;
/// 2. per sequence and query tile: attend, with evicted tokens masked from their row on;
/// 3. per sequence and part: update received weights, evict after the rows if the options say so,
///    and free the slots of evicted tokens.
template <class T, class S, class Variant>
class KvCall : KvEvidence<T, S, Variant> {
  using Base = KvEvidence<T, S, Variant>;
  using Base::add_weights, Base::chunk_at, Base::demand, Base::each_page, Base::enter;
  using Base::angles_, Base::chunk_, Base::chunk_for, Base::start_, Base::step_, Base::worker_;
  using Base::config_, Base::in_, Base::members_, Base::out_, Base::part_, Base::problem_;
  using Base::evict_after_step, Base::evict_shared, Base::layout, Base::load_queries;
  using Base::part_of, Base::rows_at, Base::score_keys;
  using Base::slots, Base::tile_heads, Base::weigh_window, Base::window_start;
  using typename Base::Block, typename Base::Chunk, typename Base::Slots, typename Base::Tables;
  using typename Base::PartScratch, typename Base::Tile, typename Base::WorkerOf;
  using typename Base::WorkerScratch;

 public:
  using Base::Base;  ///< @throws ShapeError, ValueError

  /// @throws OutOfPages, std::bad_alloc: no sequence has changed then.
  WorkStats run(Workspace& workspace) {
    const Executor& executor = step_.executor;
    const Index batch = problem_.batch, parts = config_.parts(), tasks = batch * parts;
    const Index most_rows = std::clamp<Index>(problem_.queries, 1, config_.chunk);
    const Index query_tiles = problem_.heads / tile_heads(most_rows),
                workers = executor.workers(batch * std::max(query_tiles, parts));

    Index capacity = 0;
    for (Index b = 0; b < batch; ++b)
      for (Slots& s : members_[std::size_t(b)].parts) {
        const Index wanted = in_.adds ? demand(b).capacity(s) : s.capacity();
        reserve_slots(s, config_, wanted);
        capacity = std::max(capacity, wanted);
      }
    lay_out(workspace,
            [&](Arena& arena) { layout(arena, workers, round_up(capacity, Tile::block_keys)); });
    rows_at_once_ = most_rows;
    for (Index b = 0; b < batch; ++b) {
      start_[b] = *members_[std::size_t(b)].next - (in_.adds ? 0 : in_.rows_of(b));
      chunk_[b] = chunk_for(b);
      rows_at_once_ = std::min(rows_at_once_, chunk_[b]);
    }
    // A row may be behind all tokens held.
    if (config_.options.rotary) angles_ = config_.options.rotary->template angles<T>(capacity + 1);

    Index pages = 0;
    for (Index x = 0; x < tasks; ++x) {
      part_[x].pages = in_.adds ? demand(x / parts).pages(slots(x / parts, x % parts)) : 0;
      pages += part_[x].pages;
    }
    ReservedPages reserved(config_.pool.pages(), pages, step_.reserved);
    const Leftovers leftovers{part_, tasks, reserved};
    for (Index x = 0; x < tasks; ++x) {
      Slots& s = slots(x / parts, x % parts);
      part_[x].reserved = reserved.list().split(part_[x].pages);
      if (in_.adds) add_pages(s, config_, demand(x / parts).capacity(s), part_[x].reserved);
    }

    for (Index row = 0; row < problem_.queries; row += rows_at_once_) {
      if (config_.shares_budget() && in_.adds)
        executor(batch, [&](Index b, Index w) { evict_shared(worker_[w], b, row); });
      executor(tasks, [&](Index x, Index w) { select(worker_[w], x / parts, x % parts, row); });
      executor(batch * query_tiles, [&](Index task, Index w) {
        // The same in any batch.
        const Index b = task / query_tiles, heads = tile_heads(std::min(in_.rows_of(b), chunk_[b])),
                    head = task % query_tiles * heads;
        if (head < problem_.heads) attend(worker_[w], b, head, heads, row);
      });
      if (in_.adds)
        executor(tasks, [&](Index x, Index w) { commit(worker_[w], x / parts, x % parts, row); });
    }
    if (config_.options.evict.uses_window() && in_.adds)
      executor(batch, [&](Index b, Index) { evict_after_step(b); });
    WorkStats stats;
    for (Index w = 0; w < workers; ++w) stats += worker_[w].worker.stats;
    for (Index b = 0; b < batch && in_.adds; ++b) *members_[std::size_t(b)].next += in_.rows_of(b);
    return stats;
  }

 private:
  Index rows_at_once_ = 0;  ///< rows between two chunks

  /// Returns the pages that a step did not write.
  struct Leftovers {
    PartScratch* of;
    Index parts;
    ReservedPages& to;

    ~Leftovers() {
      for (Index x = 0; x < parts; ++x) to.give_back(of[x].reserved);
    }
  };

  /// Stores row `row` of the step as the token at `position`, and returns its slot.
  Index append(const WorkerScratch& scratch, Index b, Index part, Index row, Index position) const {
    return append_token(
        slots(b, part), config_, position, part_of(b, part).reserved, [&](Index head) {
          const Index key_head = part * config_.part_heads() + head;
          return std::pair(in_.row(in_.k, b, key_head, row, scratch.token),
                           in_.row(in_.v, b, key_head, row, scratch.token + problem_.dim));
        });
  }

  /// Appends the chunk's tokens and determines which slots each of its rows sees.
  void select(WorkerScratch& scratch, Index b, Index part, Index row) const {
    const Index rows = rows_at(b, row);
    if (rows <= 0) return;
    const Chunk chunk = chunk_at(b, part, row);
    if (!in_.adds) {
      chunk.begin();
      if (config_.options.rotary) chunk.place_inside(in_, b, row, rows, *angles_);
      return;
    }
    if (!config_.shares_budget()) {
      chunk.begin();
      score_keys(scratch, chunk);
      chunk.make_room();
    }
    const Index held = chunk.s.count;
    for (Index r = 0; r < rows; ++r) {
      const Index slot = append(scratch, b, part, row + r, start_[b] + row + r);
      chunk.appended(r, slot);
      if (in_.parents) chunk.see_tree(in_, b, slot, r);
    }
    if (config_.options.rotary) chunk.place_inside(in_, b, row, rows, *angles_);

    enter(scratch.worker, b, part);
    if (const auto& select = config_.options.select) {
      load_queries(scratch, b, select->head, 1, row, rows);
      each_page(scratch, b, problem_.key_head(select->head), false, [&](const Block& block) {
        scratch.worker.score_and_scan(scratch.query_tile, block, false);
      });
    }
    hook::end(scratch.worker.variant);
    chunk.descend(held, window_start(b), scratch.worker.stats);
  }

  void attend(WorkerScratch& scratch, Index b, Index head, Index heads, Index row) const {
    const Index rows = rows_at(b, row), key_head = problem_.key_head(head),
                part = key_head / config_.part_heads();
    if (!in_.packed())
      zero_rows(b, head, heads, std::max(row, in_.rows_of(b)), row + rows_at_once_);
    if (rows <= 0) return;
    enter(scratch.worker, b, part);
    load_queries(scratch, b, head, heads, row, rows);
    scratch.query_tile.reset(scratch.worker.variant);
    const auto& select = config_.options.select;
    const bool selected = in_.adds && select && select->head == head && heads == 1;
    each_page(scratch, b, key_head, true, [&](const Block& block) {
      if (selected) load_scores(scratch.worker, part_of(b, part).tables, block, rows);
      scratch.worker.attend(scratch.query_tile, block, selected);
    });
    hook::end(scratch.worker.variant);
    scratch.query_tile.finish(in_.rows_in(out_, b), in_.rows_in(step_.lse, b));
    const Tables& x = part_of(b, part).tables;
    const Index first = config_.options.evict.uses_window() ? window_start(b) : row;
    if (!in_.adds) return;
    if (config_.options.evict.uses_weights() || config_.options.evict.uses_window())
      for (Index h = 0; h < heads; ++h)
        for (Index r = std::max<Index>(first - row, 0); r < rows; ++r)
          x.lse[(head + h) * x.window + row + r - first] =
              scratch.query_tile.state.log2_lse(h * rows + r);
  }
  /// Hands the selecting head's scores of a block to the worker, which need not compute them again.
  static void load_scores(WorkerOf& worker, const Tables& x, const Block& block, Index rows) {
    const Index keys = block.last - block.first;
    for (Index r = 0; r < rows; ++r) {
      T* const scores = worker.scores() + r * Tile::block_keys;
      std::copy_n(x.scores + r * x.stride + block.first, keys, scores);
      std::fill(scores + keys, scores + Tile::block_keys, masked<T>);
    }
  }

  /// Writes out = 0, lse = −∞ in rows [first, last) of a tile's heads: rows past the last token.
  void zero_rows(Index b, Index head, Index heads, Index first, Index last) const {
    for (Index h = head; h < head + heads; ++h)
      for (Index i = first; i < std::min(last, problem_.queries); ++i) {
        std::fill_n(out_.row(b, h, i), problem_.value_dim, T(0));
        if (step_.lse) step_.lse(b, h, i) = -std::numeric_limits<T>::infinity();
      }
  }

  /// After the rows have attended: adds received weights, evicts late, frees evicted slots. After
  /// the last chunk, moves tokens together, so that the pages of a long chunk return to the pool.
  void commit(WorkerScratch& scratch, Index b, Index part, Index row) const {
    const Index rows = rows_at(b, row);
    if (rows <= 0) return;
    const Chunk chunk = chunk_at(b, part, row);
    if (in_.parents) std::fill_n(chunk.x.end_row, chunk.x.stride, chunk.x.no_row);
    const bool ends = row + rows == in_.rows_of(b);
    if (config_.options.evict.uses_weights()) add_weights(scratch, chunk, b, part, row, rows);
    if (config_.options.when != EvictWhen::before_row) score_keys(scratch, chunk);
    chunk.end();
    if (config_.options.evict.uses_window() && ends && chunk.budget)
      weigh_window(scratch, chunk, b, part);
    if (!ends || !chunk.budget || config_.options.evict.uses_window()) return;
    // Not at each step of heads that share a budget: what a head gives up it may soon need again.
    const Index page = config_.pool.page(), count = chunk.s.count;
    const Index kept = !config_.shares_budget() ? config_.slots_for(*chunk.budget, 1)
                       : chunk.s.slots - count > page + page / 2 ? round_up(count, page)
                                                                 : chunk.s.slots;
    trim(chunk.s, config_, kept, part_of(b, part).reserved);
  }
};

}  // namespace heed::inline HEED_ABI::detail
