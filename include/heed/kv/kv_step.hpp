// SPDX-License-Identifier: MIT
/// @file
/// KvBuffer::step: append, select, evict, attend. Included by kv_buffer.hpp.
#pragma once

#include "heed/kv/kv_buffer.hpp"

namespace heed::inline HEED_ABI {

/// A step processes chunks of rows in order. Each chunk has three parallel passes:
/// 1. per sequence: append the tokens, compute the selecting head's scores, then row by row
///    update F and decide which tokens are evicted;
/// 2. per sequence and query tile: attend, with evicted tokens masked from their row on;
/// 3. per sequence: update received weights, evict after the rows if the options say so, and free
///    the slots of evicted tokens.
template <class T, StorageOf<T> S>
template <class Variant>
class KvBuffer<T, S>::Call {
  using Chain = decltype(std::declval<const Variant&>() | detail::KvVisibility<T>());
  using Bound = BoundOf<T, Chain>;
  using WorkerOf = detail::Worker<T, B, Bound>;
  using QueryTileOf = detail::QueryTile<T, B>;
  using KvTileOf = detail::KvTile<T>;
  using Stored = detail::RawKvBlock<T>;

 public:
  struct Inputs {
    View<const T, 4> q, k, v;
  };

  Call(KvBuffer& buffer, const Inputs& in, const Variant& variant, const View<T, 4>& out,
       const Step& step)
      : buffer_(buffer), in_(in), variant_(variant), out_(out), step_(step), problem_{named(in)} {
    check();
    Problem placed = problem_;
    hook::place(variant, placed);
    if (placed.has_query_offset())
      throw ValueError("step: a stage puts row 0 at position ", placed.first_position(0),
                       "; where rows are is for the buffer to say");
    if (!placed.is_one_sequence())
      throw ValueError("step: a stage says where sequences begin; a buffer's begin at position 0");
    problem_.self_attention = true;
    problem_.tensors = &tensors_;
    hook::check(variant, problem_);
    problem_.tensors = nullptr;
    detail::check_outputs(problem_, out, step.lse, tensors_);
    tensors_.writes("evict_row", step.evict_row);
  }

  WorkStats run() {
    const Executor& executor = step_.executor;
    const Index batch = problem_.batch, chunk = buffer_.options_.chunk;
    const Index most_rows = std::clamp<Index>(problem_.queries, 1, chunk);
    tile_heads_ = std::clamp<Index>(Tile::block_rows / most_rows, 1, problem_.group());
    while (problem_.group() % tile_heads_ != 0) --tile_heads_;
    const Index query_tiles = problem_.heads / tile_heads_,
                workers = executor.workers(batch * query_tiles);

    Index capacity = 0;
    for (Index b = 0; b < batch; ++b) {
      KvSequence<T, S>& s = buffer_.state(b);
      const Index slots = s.slots + rows_of(b) - Index(s.free.size());
      if (!buffer_.options_.budget && slots > s.capacity())
        buffer_.grow(s,
                     detail::round_up(std::max(2 * s.capacity(), slots), Index(Tile::panel_keys)));
      s.free.reserve(std::size_t(s.capacity()));  // no allocation after tokens are appended
      capacity = std::max(capacity, s.capacity());
    }
    stride_ = detail::round_up(capacity, Tile::block_keys);
    detail::lay_out(buffer_.workspace_, [&](Arena& arena) { layout(arena, workers); });
    for (Index b = 0; b < batch; ++b) start_[b] = buffer_.state(b).next;

    for (Index row = 0; row < problem_.queries; row += chunk) {
      executor(batch, [&](Index b, Index w) { select_and_evict(worker_scratch_[w], b, row); });
      executor(batch * query_tiles, [&](Index task, Index w) {
        attend(worker_scratch_[w], task / query_tiles, task % query_tiles * tile_heads_, row);
      });
      executor(batch, [&](Index b, Index w) { commit(worker_scratch_[w], b, row); });
    }
    WorkStats stats;
    for (Index w = 0; w < workers; ++w) stats += worker_scratch_[w].worker.stats;
    return stats;
  }

 private:
  /// Per worker.
  struct WorkerScratch {
    WorkerOf worker;
    QueryTileOf query_tile;
    T *panels, *values;  ///< a key block widened to T, unless S is T
    Stored* stored;      ///< a key block to read unpacked, for few rows
  };
  /// Per sequence, for one chunk. Rows count from the start of the step.
  struct SequenceScratch {
    T *first_row, *end_row;  ///< [stride] a slot is visible in rows [first_row, end_row)
    T* offsets;              ///< [stride] position relative to row 0
    T* penalty;              ///< [chunk][stride] −F
    T* scores;               ///< [chunk][stride] of the selecting head
    T* lse;                  ///< [heads] log-sum-exp of the last row, in log2 units
    T* claims;               ///< [stride] eviction claims of the rule
  };

  Shape named(const Inputs& in) {
    tensors_.reads("q", in.q), tensors_.reads("k", in.k), tensors_.reads("v", in.v);
    return common_shape(in.q, in.k, in.v);
  }

  void check() {
    const KvShape& s = buffer_.shape_;
    expect_dims("q", in_.q.dims(), {s.batch, s.heads, problem_.queries, s.dim}, "the buffer's");
    expect_dims("k", in_.k.dims(), {s.batch, s.key_heads, problem_.queries, s.dim}, "the buffer's");
    expect_dims("v", in_.v.dims(), {s.batch, s.key_heads, problem_.queries, s.value_dim},
                "the buffer's");
    if (step_.tokens)
      expect_dims("tokens", step_.tokens.dims(), {s.batch}, "one number per sequence");
    tensors_.reads("tokens", step_.tokens);
    detail::expect_counts("tokens", step_.tokens, problem_.queries);
    for (Index b = 0; b < s.batch; ++b) {
      if (step_.evict_row && (step_.evict_row.dim(0) != s.batch ||
                              step_.evict_row.dim(1) < buffer_.state(b).next + rows_of(b)))
        throw ShapeError("evict_row is ", step_.evict_row.dims(), ", needs [", s.batch, ", ",
                         buffer_.state(b).next + rows_of(b), "] or wider");
    }
    // Row numbers are compared as T, which represents all integers up to here.
    constexpr Index most = Index(1) << std::numeric_limits<T>::digits;
    if (problem_.queries >= most)
      throw ValueError("step: at most ", most - 1, " rows at once, there are ", problem_.queries);
  }

  Index rows_of(Index b) const { return step_.tokens ? Index(step_.tokens(b)) : problem_.queries; }

  void layout(Arena& arena, Index workers) {
    worker_scratch_ = arena.take<WorkerScratch>(workers);
    for (Index w = 0; w < workers; ++w) {
      WorkerOf worker(problem_, bound<T>(variant_ | detail::KvVisibility<T>(), problem_, arena),
                      arena);
      const QueryTileOf query_tile(problem_.dim, problem_.value_dim, arena);
      constexpr Index widened = std::is_same_v<S, T> ? 0 : Tile::block_keys;
      T* panels = arena.take<T>(widened * problem_.dim);
      T* values = arena.take<T>(widened * buffer_.columns_);
      Stored* stored = arena.take<Stored>(1);
      if (arena.measuring()) continue;
      new (worker_scratch_ + w)
          WorkerScratch{std::move(worker), query_tile, panels, values, stored};
    }
    start_ = arena.take<Index>(problem_.batch);
    sequence_scratch_ = arena.take<SequenceScratch>(problem_.batch);
    for (Index b = 0; b < problem_.batch; ++b) {
      T* tables = arena.take<T>(4 * stride_);
      T* penalty = arena.take<T>(buffer_.options_.chunk * stride_);
      T* scores = arena.take<T>(buffer_.options_.chunk * stride_);
      T* lse = arena.take<T>(problem_.heads);
      if (!arena.measuring())
        sequence_scratch_[b] = {tables, tables + stride_,    tables + 2 * stride_, penalty, scores,
                                lse,    tables + 3 * stride_};
    }
  }

  /// Binds a worker to a sequence.
  void enter(WorkerOf& worker, Index b) const {
    const KvSequence<T, S>& s = buffer_.state(b);
    const SequenceScratch& x = sequence_scratch_[b];
    worker.problem = problem_;
    worker.problem.keys = s.slots;
    worker.problem.set_query_offset(start_[b]);
    worker.offsets = x.offsets;
    hook::link<hook::links<Bound> - 1>(worker.variant) = {
        {},       x.first_row, x.end_row, buffer_.options_.select ? x.penalty : nullptr,
        x.scores, stride_};
    hook::begin(worker.variant, b, true);
  }

  void load_queries(WorkerScratch& scratch, Index b, Index head, Index heads, Index row,
                    Index rows) const {
    scratch.query_tile.set_rows(scratch.worker.problem, scratch.worker.variant, b, head, heads, row,
                                rows);
    scratch.query_tile.pack(
        [&](const Row& r, Index) { return in_.q.row(r.batch, r.head, r.index); },
        [&](const Row& r) {
          return hook::query_factor(scratch.worker.variant, simd::log2e<T>, r);
        });
  }

  /// Calls visit(KV tile) for each key block of a key head. The query tile's row count selects the
  /// tile's format. Values are widened only if with_values is true.
  template <class Visit>
  void each_key_block(const WorkerScratch& scratch, Index b, Index key_head, bool with_values,
                      Visit&& visit) const {
    const KvSequence<T, S>& s = buffer_.state(b);
    const Index capacity = s.capacity(), columns = buffer_.columns_, dim = problem_.dim;
    for (Index first = 0; first < s.slots; first += Tile::block_keys) {
      const Index last = std::min(first + Tile::block_keys, s.slots),
                  at = key_head * capacity + first;
      const S* panels = s.panels.data() + at * simd::units<S>(dim);
      const S* values = s.values.data() + at * simd::units<S>(columns);
      const std::uint8_t* finite =
          s.finite.data() + key_head * key_blocks(capacity) + first / Tile::block_keys;
      if (scratch.query_tile.count <= detail::max_gemv_rows) {
        const Scales scale = scales(s, at);
        constexpr bool groups = simd::has_groups<S>;
        *scratch.stored = {.keys = panels,
                           .values = values,
                           .key_stride = Tile::panel_keys * simd::units<S>(dim),
                           .value_stride = simd::units<S>(columns),
                           .key_scale = scale.keys,
                           .value_scale = groups ? nullptr : scale.values,
                           .key_groups = {},
                           .value_groups = {groups ? scale.values : nullptr, scale.value_stride},
                           .dot = Stored::template dot_panels<Tile::panel_vectors, S>,
                           .add = Stored::template add_rows<S>};
        visit(KvTileOf{first, last, nullptr, {}, scratch.stored});
      } else if constexpr (std::is_same_v<S, T>) {
        visit(KvTileOf{first, last, panels, {values, columns, finite}});
      } else {
        widen(scratch, s, at, last - first, with_values);
        visit(KvTileOf{first, last, scratch.panels, {scratch.values, columns, finite}});
      }
    }
  }
  /// Scales of consecutive slots; null if S has no scales.
  struct Scales {
    const T *keys = nullptr, *values = nullptr;
    Index value_stride = 0;  ///< between slots
  };
  /// @param at  storage index of the first slot, a multiple of panel_keys.
  Scales scales(const KvSequence<T, S>& s, Index at) const {
    if (simd::Codec<S>::group == simd::no_scale) return {};
    const Index stride = simd::scales<S>(problem_.value_dim);
    return {s.key_scales.data() + at * simd::scales<S>(problem_.dim),
            s.value_scales.data() + at * stride, stride};
  }
  /// Widens a key block into scratch.panels and, if with_values is true, scratch.values.
  /// @param at  storage index of its first slot.
  void widen(const WorkerScratch& scratch, const KvSequence<T, S>& s, Index at, Index keys,
             bool with_values) const {
    const Index dim = problem_.dim, columns = buffer_.columns_;
    for (Index j = 0; j < keys; j += Tile::panel_keys)
      simd::widen_panel(s.panels.data() + (at + j) * simd::units<S>(dim), dim,
                        Index(Tile::panel_keys), scales(s, at + j).keys, scratch.panels + j * dim);
    for (Index j = 0; j < keys && with_values; ++j)
      simd::widen(s.values.data() + (at + j) * simd::units<S>(columns), columns,
                  scales(s, at + j).values, scratch.values + j * columns);
  }

  /// Appends the chunk's tokens and determines which slots each of its rows sees.
  void select_and_evict(WorkerScratch& scratch, Index b, Index row) {
    const KvOptions& o = buffer_.options_;
    const Index rows = std::min(o.chunk, rows_of(b) - row);
    if (rows <= 0) return;
    KvSequence<T, S>& s = buffer_.state(b);
    const SequenceScratch& x = sequence_scratch_[b];

    std::fill_n(x.first_row, stride_, no_row), std::fill_n(x.end_row, stride_, no_row);
    std::fill_n(x.offsets, stride_, no_row);
    for (Index j = 0; j < s.slots; ++j)
      if (s.position[std::size_t(j)] != empty_slot) {
        x.first_row[j] = T(row);
        x.offsets[j] = T(s.position[std::size_t(j)] - start_[b]);
      }
    // Evict before appending: the new token is never a candidate, and can reuse the slot.
    if (o.budget && o.when == EvictWhen::before_row && s.count == *o.budget) {
      const Index evicted = eviction_candidate(s, b, s.next, T(row));
      log(b, s.position[std::size_t(evicted)], s.next);
      buffer_.release(s, evicted);
      x.first_row[evicted] = x.offsets[evicted] = no_row;
      --s.count;
    }
    const Index held = s.count;
    for (Index r = 0; r < rows; ++r) {
      const Index slot = buffer_.append(s, in_.k, in_.v, b, row + r);
      x.first_row[slot] = x.offsets[slot] = T(row + r);
    }

    enter(scratch.worker, b);
    if (o.select) {
      load_queries(scratch, b, o.select->head, 1, row, rows);
      each_key_block(scratch, b, problem_.key_head(o.select->head), false,
                     [&](const KvTileOf& block) {
                       scratch.worker.score_and_scan(scratch.query_tile, block, false);
                     });
    }
    hook::end(scratch.worker.variant);
    s.count = held;
    for (Index r = 0; r < rows; ++r) {
      const T at = T(row + r);
      const Index current = start_[b] + row + r;
      ++s.count;
      if (o.budget && o.when == EvictWhen::before_row && s.count > *o.budget)
        mark_evicted(s, b, eviction_candidate(s, b, current, at), at, current);
      if (o.select) update_f(s, x, r, at);
      if (o.score_bound) evict_negligible(scratch, s, b, at + 1, current);
      if (o.budget && o.when == EvictWhen::after_row && !o.evict.uses_weights() &&
          s.count > *o.budget)
        mark_evicted(s, b, eviction_candidate(s, b, current, at), at + 1, current + 1);
    }
  }

  /// Computes the penalty −F of row r for every slot, and updates the carry.
  void update_f(KvSequence<T, S>& s, const SequenceScratch& x, Index r, T at) const {
    const SelectOptions& o = *buffer_.options_.select;
    const Batch<T> zero(T(0));
    T* penalty = x.penalty + r * stride_;
    for (Index j = 0; j < s.slots; j += simd::width<T>) {
      T* carry = &s.carry[std::size_t(j)];
      // The scores of empty and evicted slots may be NaN. They must not reach F.
      const Mask<T> held = (simd::load(x.first_row + j) <= Batch<T>(at)) &
                           (Batch<T>(at) < simd::load(x.end_row + j));
      const Mask<T> voted = held & detail::voted_on<T>(o, s.first - j);
      const detail::Votes<T> cast{o, simd::load(x.offsets + j), voted};
      const auto row = cast.descend(simd::load(carry), simd::load(x.scores + r * stride_ + j), at);
      simd::select(held, row.penalty, zero).store_unaligned(penalty + j);
      simd::select(held, row.carry, zero).store_unaligned(carry);
    }
  }

  void attend(WorkerScratch& scratch, Index b, Index head, Index row) const {
    const Index rows = std::min(buffer_.options_.chunk, rows_of(b) - row);
    zero_rows(b, head, row + std::max<Index>(rows, 0), row + buffer_.options_.chunk);
    if (rows <= 0) return;
    enter(scratch.worker, b);
    load_queries(scratch, b, head, tile_heads_, row, rows);
    scratch.query_tile.reset(scratch.worker.variant);
    each_key_block(scratch, b, problem_.key_head(head), true, [&](const KvTileOf& block) {
      scratch.worker.attend(scratch.query_tile, block);
    });
    hook::end(scratch.worker.variant);
    scratch.query_tile.finish(out_, step_.lse);
    if (buffer_.options_.evict.uses_weights())
      for (Index h = 0; h < tile_heads_; ++h)  // one row per head: the chunk is 1
        sequence_scratch_[b].lse[head + h] = scratch.query_tile.state.log2_lse(h);
  }

  /// Writes out = 0, lse = −∞ in rows [first, last) of a tile's heads: rows past the last token.
  void zero_rows(Index b, Index head, Index first, Index last) const {
    for (Index h = head; h < head + tile_heads_; ++h)
      for (Index i = first; i < std::min(last, problem_.queries); ++i) {
        std::fill_n(out_.row(b, h, i), problem_.value_dim, T(0));
        if (step_.lse) step_.lse(b, h, i) = -std::numeric_limits<T>::infinity();
      }
  }

  /// After the rows have attended: adds received weights, evicts late, frees evicted slots.
  void commit(WorkerScratch& scratch, Index b, Index row) const {
    const KvOptions& o = buffer_.options_;
    const Index rows = std::min(o.chunk, rows_of(b) - row);
    if (rows <= 0) return;
    KvSequence<T, S>& s = buffer_.state(b);
    const SequenceScratch& x = sequence_scratch_[b];
    const T end = T(row + rows);
    const Index current = start_[b] + row + rows - 1;

    if (o.evict.uses_weights()) add_weights(scratch, s, b, row, rows);
    const bool late = o.when == EvictWhen::chunk_end ||
                      (o.when == EvictWhen::after_row && o.evict.uses_weights());
    while (late && o.budget && s.count > *o.budget)
      mark_evicted(s, b, eviction_candidate(s, b, current, end), end, current + 1);
    for (Index j = 0; j < s.slots; ++j)
      if (s.position[std::size_t(j)] != empty_slot && x.end_row[j] != no_row) buffer_.release(s, j);
  }

  /// Adds the row's softmax weights to the received weights. A head whose row is NaN is skipped,
  /// because its weights carry no information.
  void add_weights(WorkerScratch& scratch, KvSequence<T, S>& s, Index b, Index row,
                   Index rows) const {
    const T kept = T(buffer_.options_.evict.weights_kept());
    bool first = true;
    enter(scratch.worker, b);
    for (Index h = 0; h < problem_.heads; ++h) {
      const T* const lse = sequence_scratch_[b].lse + h;
      if (!simd::is_finite(lse)) continue;
      if (first && kept != T(1))
        for (Index j = 0; j < s.slots; ++j) s.received_weight[std::size_t(j)] *= kept;
      first = false;
      load_queries(scratch, b, h, 1, row, rows);
      scratch.query_tile.state.set_lse(0, *lse);
      each_key_block(scratch, b, problem_.key_head(h), false, [&](const KvTileOf& block) {
        scratch.worker.softmax_from_lse(
            scratch.query_tile, block, [&](Index, const KeyRange& keys, const T* weights) {
              for (Index j = keys.first; j < keys.last; ++j)
                s.received_weight[std::size_t(j)] += weights[j - keys.first];
            });
      });
    }
    hook::end(scratch.worker.variant);
  }

  /// The slot of the token to evict, among those visible in `row`, which is at position `current`.
  Index eviction_candidate(const KvSequence<T, S>& s, Index b, Index current, T row) const {
    const SequenceScratch& x = sequence_scratch_[b];
    return detail::eviction_candidate(s, buffer_.options_.evict, current - buffer_.recent_,
                                      detail::VisibleRows<T>{x.first_row, x.end_row}, row,
                                      x.claims);
  }

  /// Evicts tokens whose weight is negligible in every row after `current`. The bound e^(2b − F)
  /// holds because a row's own key is unmasked and its score is at least −b, b = score_bound.
  void evict_negligible(WorkerScratch& scratch, KvSequence<T, S>& s, Index b, T at,
                        Index current) const {
    const KvOptions& o = buffer_.options_;
    const double lead = 2 * *o.score_bound * simd::log2e<double>,
                 least = std::log2(buffer_.negligible_) - 20;  // 2^-20, about 10^-6
    for (Index j = 0; j < s.slots; ++j) {
      const Index position = s.position[std::size_t(j)];
      const double weight = lead + double(s.carry[std::size_t(j)]);  // log2
      if (position == empty_slot || position > current - buffer_.recent_ ||
          sequence_scratch_[b].end_row[j] != no_row || !(weight < least) ||
          (s.marks[std::size_t(j)] & KvSequence<T, S>::is_protected) != 0)
        continue;
      s.dropped += std::exp2(weight);
      mark_evicted(s, b, j, at, current + 1);
    }
    WorkStats& stats = scratch.worker.stats;
    stats.dropped = std::max(stats.dropped, s.dropped);
  }

  void log(Index b, Index position, Index row) const {
    if (step_.evict_row) step_.evict_row(b, position) = row;
  }
  /// Masks a slot from row `at` on. The slot is freed after the chunk.
  void mark_evicted(KvSequence<T, S>& s, Index b, Index slot, T at, Index row) const {
    log(b, s.position[std::size_t(slot)], row);
    sequence_scratch_[b].end_row[slot] = at;
    --s.count;
  }

  KvBuffer& buffer_;
  Inputs in_;
  const Variant& variant_;
  View<T, 4> out_;
  const Step& step_;
  detail::CallTensors tensors_;
  Problem problem_;
  Index tile_heads_ = 1, stride_ = 0;
  WorkerScratch* worker_scratch_ = nullptr;
  SequenceScratch* sequence_scratch_ = nullptr;
  Index* start_ = nullptr;  ///< [B] position of row 0
};

}  // namespace heed::inline HEED_ABI
