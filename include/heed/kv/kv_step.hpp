// SPDX-License-Identifier: MIT
/// @file
/// One step of a cache: append, select, evict, attend.
#pragma once

#include "heed/core/executor.hpp"
#include "heed/engine/forward.hpp"
#include "heed/kv/eviction_candidate.hpp"
#include "heed/kv/kv_sequence.hpp"
#include "heed/kv/kv_visibility.hpp"

#include <algorithm>
#include <span>

namespace heed::inline HEED_ABI {

/// Optional arguments of KvCache::step and KvBuffer::step. N is the number of rows, B of sequences.
template <class T>
struct KvStep {
  View<T, 3> lse{};                      ///< [B, H, N], overwritten; [1, H, N] if rows are packed.
  View<const std::int64_t, 1> tokens{};  ///< [B] number of the N rows that each sequence has.
  View<std::int64_t, 2> evict_row{};     ///< [B, ≥ positions] if token j is evicted, [b, j] is
                                         ///< set to the position of the first row that does not
                                         ///< see it; else it is left unchanged.
  Executor executor{};
  Workspace* workspace = nullptr;  ///< Scratch, which many caches can share; null: the cache's own.
};

namespace detail {

/// Queries, keys and values of the new tokens, [B, H, N, D]; or [1, H, N, D] if the rows of all
/// sequences are packed, those of sequence b from starts[b] to starts[b + 1].
template <class T>
struct KvInputs {
  StoredTensor<T> q, k, v;
  View<const std::int64_t, 1> starts{};  ///< [B + 1]; none: not packed
};

/// A step processes chunks of rows in order. Each chunk has three parallel passes:
/// 1. per sequence: append the tokens, compute the selecting head's scores, then row by row
///    update F and decide which tokens are evicted;
/// 2. per sequence and query tile: attend, with evicted tokens masked from their row on;
/// 3. per sequence: update received weights, evict after the rows if the options say so, and free
///    the slots of evicted tokens.
template <class T, class S, class Variant>
class KvCall {
  using B = Blocking<T>;
  using Config = KvConfig<T, S>;
  using Tile = TileConfig<T, B>;
  using Slots = KvSlots<T>;
  using Codec = simd::Codec<S>;
  using Chain = decltype(std::declval<const Variant&>() | KvVisibility<T>());
  using Bound = BoundOf<T, Chain>;
  using WorkerOf = Worker<T, B, Bound>;
  using QueryTileOf = QueryTile<T, B>;
  using KvTileOf = KvTile<T>;
  using Stored = RawKvBlock<T>;

 public:
  /// A sequence in a step.
  struct Member {
    std::optional<Index> budget;
    Index* next;
    std::span<Slots> parts;
  };

  /// @throws ShapeError, ValueError
  KvCall(const Config& config, std::span<const Member> members, const KvInputs<T>& in,
         const Variant& variant, const View<T, 4>& out, const KvStep<T>& step, CallTensors& tensors)
      : config_(config),
        options_(config.options),
        members_(members),
        in_(in),
        variant_(variant),
        out_(out),
        step_(step),
        problem_(common_shape(in.q, in.k, in.v)) {
    check(tensors);
    Problem placed = problem_;
    hook::place(variant, placed);
    if (placed.has_query_offset())
      throw ValueError("step: a stage puts row 0 at position ", placed.first_position(0),
                       "; where rows are is for the buffer to say");
    if (!placed.is_one_sequence())
      throw ValueError("step: a stage says where sequences begin; a buffer's begin at position 0");
    problem_.self_attention = true;
    problem_.tensors = &tensors;
    hook::check(variant, problem_);
    problem_.tensors = nullptr;
    Shape written = problem_;
    if (in_.starts) written.batch = 1, written.queries = in_.q.dim(2);
    check_outputs(written, out, step.lse, tensors);
    tensors.writes("evict_row", step.evict_row);
  }

  /// @throws OutOfPages, std::bad_alloc: no sequence has changed then.
  WorkStats run(Workspace& workspace) {
    const Executor& executor = step_.executor;
    const Index batch = problem_.batch, parts = config_.parts(), chunk = options_.chunk;
    const Index most_rows = std::clamp<Index>(problem_.queries, 1, chunk);
    tile_heads_ = std::clamp<Index>(Tile::block_rows / most_rows, 1, problem_.group());
    while (problem_.group() % tile_heads_ != 0) --tile_heads_;
    const Index query_tiles = problem_.heads / tile_heads_,
                workers = executor.workers(batch * std::max(query_tiles, parts));

    const Index tasks = batch * parts;
    Index capacity = 0;
    for (Index b = 0; b < batch; ++b)
      for (Slots& s : members_[std::size_t(b)].parts) {
        const Index wanted = capacity_after(s, b);
        reserve_slots(s, config_, wanted);
        capacity = std::max(capacity, wanted);
      }
    stride_ = round_up(capacity, Tile::block_keys);
    lay_out(workspace, [&](Arena& arena) { layout(arena, workers); });
    for (Index b = 0; b < batch; ++b) start_[b] = *members_[std::size_t(b)].next;

    Index pages = 0;
    for (Index x = 0; x < tasks; ++x) {
      const Slots& s = slots(x / parts, x % parts);
      part_scratch_[x].pages = pages_for(s, x / parts);
      pages += part_scratch_[x].pages;
    }
    ReservedPages reserved(config_.pool.pages(), pages);
    const Leftovers leftovers{part_scratch_, tasks, reserved};
    for (Index x = 0; x < tasks; ++x) {
      Slots& s = slots(x / parts, x % parts);
      part_scratch_[x].reserved = reserved.list().split(part_scratch_[x].pages);
      add_pages(s, config_, capacity_after(s, x / parts), part_scratch_[x].reserved);
    }

    for (Index row = 0; row < problem_.queries; row += chunk) {
      executor(tasks, [&](Index x, Index w) {
        select_and_evict(worker_scratch_[w], x / parts, x % parts, row);
      });
      executor(batch * query_tiles, [&](Index task, Index w) {
        attend(worker_scratch_[w], task / query_tiles, task % query_tiles * tile_heads_, row);
      });
      executor(tasks,
               [&](Index x, Index w) { commit(worker_scratch_[w], x / parts, x % parts, row); });
    }
    for (Index b = 0; b < batch; ++b) *members_[std::size_t(b)].next += rows_of(b);
    WorkStats stats;
    for (Index w = 0; w < workers; ++w) stats += worker_scratch_[w].worker.stats;
    return stats;
  }

 private:
  /// A row number past the end of any call.
  static constexpr T no_row = T(Index(1) << 30);

  /// Per worker.
  struct WorkerScratch {
    WorkerOf worker;
    QueryTileOf query_tile;
    T *panels, *values;  ///< a key block widened to T, unless S is T
    T *queries, *token;  ///< rows of q, and a row of k and v, widened to T
    Stored* stored;      ///< a key block to read unpacked, for few rows
  };
  /// Per sequence and part, for one chunk. Rows count from the start of the step.
  struct PartScratch {
    T *first_row, *end_row;  ///< [stride] a slot is visible in rows [first_row, end_row)
    T* offsets;              ///< [stride] position relative to row 0
    T* penalty;              ///< [chunk][stride] −F
    T* scores;               ///< [chunk][stride] of the selecting head
    T* lse;                  ///< [heads] log-sum-exp of the last row, in log2 units
    T* claims;               ///< [stride] eviction claims of the rule
    PageList reserved;       ///< pages that the step may write
    Index pages;             ///< how many they were at first
  };
  /// Returns the pages that a step did not write.
  struct Leftovers {
    PartScratch* of;
    Index parts;
    ReservedPages& to;

    ~Leftovers() {
      for (Index x = 0; x < parts; ++x) to.give_back(of[x].reserved);
    }
  };

  void check(CallTensors& tensors) {
    const KvShape& s = config_.shape;
    const Index batch = Index(members_.size()), rows = problem_.queries;
    const Index leading = in_.starts ? 1 : batch;
    expect_dims("q", in_.q.dims(), {leading, s.heads, rows, s.dim}, "the buffer's");
    expect_dims("k", in_.k.dims(), {leading, s.key_heads, rows, s.dim}, "the buffer's");
    expect_dims("v", in_.v.dims(), {leading, s.key_heads, rows, s.value_dim}, "the buffer's");
    in_.k.check("k"), in_.v.check("v");
    problem_.batch = batch;
    if (in_.starts) check_starts(tensors);
    if (step_.tokens) {
      if (in_.starts) throw ValueError("step: packed rows have starts, and no tokens beside them");
      expect_dims("tokens", step_.tokens.dims(), {batch}, "one number per sequence");
    }
    tensors.reads("tokens", step_.tokens);
    expect_counts("tokens", step_.tokens, rows);
    for (Index b = 0; b < batch; ++b) {
      const Index end = *members_[std::size_t(b)].next + rows_of(b);
      if (step_.evict_row && (step_.evict_row.dim(0) != batch || step_.evict_row.dim(1) < end))
        throw ShapeError("evict_row is ", step_.evict_row.dims(), ", needs [", batch, ", ", end,
                         "] or wider");
    }
    // Row numbers are compared as T, which represents all integers up to here.
    constexpr Index most = Index(1) << std::numeric_limits<T>::digits;
    if (rows >= most)
      throw ValueError("step: at most ", most - 1, " rows at once, there are ", rows);
  }
  /// Checks the starts of packed rows, and sets the number of rows to the longest sequence's.
  void check_starts(CallTensors& tensors) {
    const Index batch = problem_.batch, rows = problem_.queries;
    tensors.reads("starts", in_.starts);
    expect_dims("starts", in_.starts.dims(), {batch + 1}, "one more than there are sequences");
    problem_.queries = 0;
    for (Index b = 0; b < batch; ++b) {
      const Index first = Index(in_.starts(b)), end = Index(in_.starts(b + 1));
      if (first > end || (b == 0 && first != 0))
        throw ValueError("starts[", b, "] is ", first, ", starts[", b + 1, "] is ", end,
                         ": they begin with 0 and never fall");
      problem_.queries = std::max(problem_.queries, end - first);
    }
    if (in_.starts(batch) != rows)
      throw ValueError("starts[", batch, "] is ", in_.starts(batch), ", there are ", rows,
                       " packed rows");
  }

  Slots& slots(Index b, Index part) const {
    return members_[std::size_t(b)].parts[std::size_t(part)];
  }
  PartScratch& scratch_of(Index b, Index part) const {
    return part_scratch_[b * config_.parts() + part];
  }
  const std::optional<Index>& budget(Index b) const { return members_[std::size_t(b)].budget; }

  Index rows_of(Index b) const {
    return in_.starts     ? Index(in_.starts(b + 1) - in_.starts(b))
           : step_.tokens ? Index(step_.tokens(b))
                          : problem_.queries;
  }
  /// A row of q, k or v; `scratch` holds one, unless it is stored as T.
  const T* input(const StoredTensor<T>& x, Index b, Index head, Index row, T* scratch) const {
    return in_.starts ? x.row(0, head, Index(in_.starts(b)) + row, scratch)
                      : x.row(b, head, row, scratch);
  }
  /// The rows of one sequence; the batch index is without effect if rows are packed.
  template <std::size_t Rank>
  View<T, Rank> outputs(const View<T, Rank>& x, Index b) const {
    if (!in_.starts || !x) return x;
    Dims<Rank> dims = x.dims(), strides = x.strides();
    dims[0] = problem_.batch, dims[2] = rows_of(b), strides[0] = 0;
    return {x.data() + Index(in_.starts(b)) * strides[2], dims, strides};
  }

  /// The capacity that a part needs for this step.
  Index capacity_after(const Slots& s, Index b) const {
    Index wanted = s.slots + rows_of(b) - std::min(Index(s.free.size()), rows_of(b));
    if (budget(b)) wanted = std::min(wanted, std::max(s.slots, config_.slots_for(*budget(b))));
    return std::max(s.capacity(), round_up(wanted, config_.pool.page()));
  }
  /// Pages that a part may take in this step.
  Index pages_for(const Slots& s, Index b) const {
    return capacity_after(s, b) / config_.pool.page() * config_.part_heads() -
           Index(s.pages.size()) + pages_to_copy(s, config_, rows_of(b));
  }

  void layout(Arena& arena, Index workers) {
    worker_scratch_ = arena.take<WorkerScratch>(workers);
    for (Index w = 0; w < workers; ++w) {
      WorkerOf worker(problem_, bound<T>(variant_ | KvVisibility<T>(), problem_, arena), arena);
      const QueryTileOf query_tile(problem_.dim, problem_.value_dim, arena);
      constexpr Index widened = std::is_same_v<S, T> ? 0 : Tile::block_keys;
      T* panels = arena.take<T>(widened * problem_.dim);
      T* values = arena.take<T>(widened * columns());
      T* queries = arena.take<T>(in_.q.in_place() ? 0 : Tile::group_rows * problem_.dim);
      T* token = arena.take<T>(
          in_.k.in_place() && in_.v.in_place() ? 0 : problem_.dim + problem_.value_dim);
      Stored* stored = arena.take<Stored>(1);
      if (arena.measuring()) continue;
      new (worker_scratch_ + w)
          WorkerScratch{std::move(worker), query_tile, panels, values, queries, token, stored};
    }
    start_ = arena.take<Index>(problem_.batch);
    const Index parts = problem_.batch * config_.parts();
    part_scratch_ = arena.take<PartScratch>(parts);
    for (Index x = 0; x < parts; ++x) {
      T* tables = arena.take<T>(4 * stride_);
      const Index scores = options_.select ? options_.chunk * stride_ : 0;
      T* penalty = arena.take<T>(scores);
      T* of_selecting = arena.take<T>(scores);
      T* lse = arena.take<T>(problem_.heads);
      if (!arena.measuring())
        part_scratch_[x] = {tables,
                            tables + stride_,
                            tables + 2 * stride_,
                            penalty,
                            of_selecting,
                            lse,
                            tables + 3 * stride_,
                            {},
                            0};
    }
  }
  Index columns() const { return config_.layout().columns; }

  /// Binds a worker to a sequence.
  void enter(WorkerOf& worker, Index b, Index part) const {
    const PartScratch& x = scratch_of(b, part);
    worker.problem = problem_;
    worker.problem.keys = slots(b, part).slots;
    worker.problem.set_query_offset(start_[b]);
    worker.offsets = x.offsets;
    hook::link<hook::links<Bound> - 1>(worker.variant) = {
        {}, x.first_row, x.end_row, options_.select ? x.penalty : nullptr, x.scores, stride_};
    hook::begin(worker.variant, b, true);
  }

  void load_queries(WorkerScratch& scratch, Index b, Index head, Index heads, Index row,
                    Index rows) const {
    scratch.query_tile.set_rows(scratch.worker.problem, scratch.worker.variant, b, head, heads, row,
                                rows);
    scratch.query_tile.pack(
        [&](const Row& r, Index place) {
          return input(in_.q, r.batch, r.head, r.index, scratch.queries + place * problem_.dim);
        },
        [&](const Row& r) {
          return hook::query_factor(scratch.worker.variant, simd::log2e<T>, r);
        });
  }

  /// Calls visit(KV tile) for each page of a key head. The query tile's row count selects the
  /// tile's format. Values are widened only if with_values is true.
  template <class Visit>
  void each_page(const WorkerScratch& scratch, Index b, Index key_head, bool with_values,
                 Visit&& visit) const {
    const Index part = key_head / config_.part_heads(), head = key_head % config_.part_heads();
    const Slots& s = slots(b, part);
    const auto& layout = config_.layout();
    const Index dim = problem_.dim;
    for (Index first = 0; first < s.slots; first += layout.slots) {
      const Index last = std::min(first + layout.slots, s.slots);
      const Index at = SlotPlace<T, S>(config_, head, first).page;
      const Page& page = s.pages[std::size_t(at)];
      const S* panels = layout.keys_of(page);
      const S* values = layout.values_of(page);
      const std::uint8_t* finite = s.finite.data() + at;
      if (scratch.query_tile.count <= max_gemv_rows) {
        const Scales scale = scales(page);
        constexpr bool groups = simd::has_groups<S>;
        *scratch.stored = {.keys = panels,
                           .values = values,
                           .key_stride = Tile::panel_keys * simd::units<S>(dim),
                           .value_stride = simd::units<S>(columns()),
                           .key_scale = scale.keys,
                           .value_scale = groups ? nullptr : scale.values,
                           .key_groups = {},
                           .value_groups = {groups ? scale.values : nullptr, scale.value_stride},
                           .dot = Stored::template dot_panels<Tile::panel_vectors, S>,
                           .add = Stored::template add_rows<S>};
        visit(KvTileOf{first, last, nullptr, {}, scratch.stored});
      } else if constexpr (std::is_same_v<S, T>) {
        visit(KvTileOf{first, last, panels, {values, columns(), finite}});
      } else {
        widen(scratch, page, last - first, with_values);
        visit(KvTileOf{first, last, scratch.panels, {scratch.values, columns(), finite}});
      }
    }
  }
  /// Scales of a page's slots; null if S has no scales.
  struct Scales {
    const T *keys = nullptr, *values = nullptr;
    Index value_stride = 0;  ///< between slots
  };
  Scales scales(const Page& page) const {
    if (Codec::group == simd::no_scale) return {};
    const auto& layout = config_.layout();
    return {layout.key_scales_of(page), layout.value_scales_of(page),
            simd::scales<S>(problem_.value_dim)};
  }
  /// Widens the first keys of a page into scratch.panels and, if with_values is true, their values
  /// into scratch.values.
  void widen(const WorkerScratch& scratch, const Page& page, Index keys, bool with_values) const {
    const auto& layout = config_.layout();
    const Index dim = problem_.dim;
    for (Index j = 0; j < keys; j += Tile::panel_keys)
      simd::widen_panel(layout.key_of(page, j), dim, Index(Tile::panel_keys),
                        Codec::group == simd::no_scale ? nullptr : layout.key_scale_of(page, j),
                        scratch.panels + j * dim);
    for (Index j = 0; j < keys && with_values; ++j)
      simd::widen(layout.value_of(page, j), columns(),
                  Codec::group == simd::no_scale ? nullptr : layout.value_scale_of(page, j),
                  scratch.values + j * columns());
  }

  /// Stores row `row` of the step as the token at `position`, and returns its slot.
  Index append(const WorkerScratch& scratch, Index b, Index part, Index row, Index position) const {
    Slots& s = slots(b, part);
    const Index slot = take_slot(s, config_, position, scratch_of(b, part).reserved);
    bool good_key = true;
    for (Index head = 0; head < config_.part_heads(); ++head) {
      const Index key_head = part * config_.part_heads() + head;
      const T* key = input(in_.k, b, key_head, row, scratch.token);
      const T* value = input(in_.v, b, key_head, row, scratch.token + problem_.dim);
      good_key &= store_token(s, config_, head, slot, key, value);
    }
    mark_token(s, config_, slot, good_key ? std::uint8_t(0) : Slots::bad_key);
    return slot;
  }

  /// Appends the chunk's tokens and determines which slots each of its rows sees.
  void select_and_evict(WorkerScratch& scratch, Index b, Index part, Index row) const {
    const KvOptions& o = options_;
    const Index rows = std::min(o.chunk, rows_of(b) - row);
    if (rows <= 0) return;
    Slots& s = slots(b, part);
    const PartScratch& x = scratch_of(b, part);
    const Index next = start_[b] + row;

    std::fill_n(x.first_row, stride_, no_row), std::fill_n(x.end_row, stride_, no_row);
    std::fill_n(x.offsets, stride_, no_row);
    for (Index j = 0; j < s.slots; ++j)
      if (s.holds(j)) {
        x.first_row[j] = T(row);
        x.offsets[j] = T(s.position[std::size_t(j)] - start_[b]);
      }
    // Evict before appending: the new token is never a candidate, and can reuse the slot.
    if (budget(b) && o.when == EvictWhen::before_row && s.count == *budget(b)) {
      const Index evicted = eviction_candidate(s, x, next, T(row));
      log(b, s.position[std::size_t(evicted)], next);
      free_slot(s, evicted);
      x.first_row[evicted] = x.offsets[evicted] = no_row;
      --s.count;
    }
    const Index held = s.count;
    for (Index r = 0; r < rows; ++r) {
      const Index slot = append(scratch, b, part, row + r, next + r);
      x.first_row[slot] = x.offsets[slot] = T(row + r);
    }

    enter(scratch.worker, b, part);
    if (o.select) {
      load_queries(scratch, b, o.select->head, 1, row, rows);
      each_page(scratch, b, problem_.key_head(o.select->head), false, [&](const KvTileOf& block) {
        scratch.worker.score_and_scan(scratch.query_tile, block, false);
      });
    }
    hook::end(scratch.worker.variant);
    s.count = held;
    for (Index r = 0; r < rows; ++r) {
      const T at = T(row + r);
      const Index current = next + r;
      ++s.count;
      if (budget(b) && o.when == EvictWhen::before_row && s.count > *budget(b))
        mark_evicted(s, x, b, eviction_candidate(s, x, current, at), at, current);
      if (o.select) update_f(s, x, r, at);
      if (o.score_bound) evict_negligible(scratch, s, x, b, at + 1, current);
      if (budget(b) && o.when == EvictWhen::after_row && !o.evict.uses_weights() &&
          s.count > *budget(b))
        mark_evicted(s, x, b, eviction_candidate(s, x, current, at), at + 1, current + 1);
    }
  }

  /// Computes the penalty −F of row r for every slot, and updates the carry.
  void update_f(Slots& s, const PartScratch& x, Index r, T at) const {
    const SelectOptions& o = *options_.select;
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
    const Index rows = std::min(options_.chunk, rows_of(b) - row);
    if (!in_.starts) zero_rows(b, head, row + std::max<Index>(rows, 0), row + options_.chunk);
    if (rows <= 0) return;
    const Index key_head = problem_.key_head(head), part = key_head / config_.part_heads();
    enter(scratch.worker, b, part);
    load_queries(scratch, b, head, tile_heads_, row, rows);
    scratch.query_tile.reset(scratch.worker.variant);
    each_page(scratch, b, key_head, true,
              [&](const KvTileOf& block) { scratch.worker.attend(scratch.query_tile, block); });
    hook::end(scratch.worker.variant);
    scratch.query_tile.finish(outputs(out_, b), outputs(step_.lse, b));
    if (options_.evict.uses_weights())
      for (Index h = 0; h < tile_heads_; ++h)  // one row per head: the chunk is 1
        scratch_of(b, part).lse[head + h] = scratch.query_tile.state.log2_lse(h);
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
  void commit(WorkerScratch& scratch, Index b, Index part, Index row) const {
    const KvOptions& o = options_;
    const Index rows = std::min(o.chunk, rows_of(b) - row);
    if (rows <= 0) return;
    Slots& s = slots(b, part);
    const PartScratch& x = scratch_of(b, part);
    const T end = T(row + rows);
    const Index current = start_[b] + row + rows - 1;

    if (o.evict.uses_weights()) add_weights(scratch, s, x, b, part, row, rows);
    const bool late = o.when == EvictWhen::chunk_end ||
                      (o.when == EvictWhen::after_row && o.evict.uses_weights());
    while (late && budget(b) && s.count > *budget(b))
      mark_evicted(s, x, b, eviction_candidate(s, x, current, end), end, current + 1);
    for (Index j = 0; j < s.slots; ++j)
      if (s.holds(j) && x.end_row[j] != no_row) free_slot(s, j);
  }

  /// Adds the row's softmax weights to the received weights. A head whose row is NaN is skipped,
  /// because its weights carry no information.
  void add_weights(WorkerScratch& scratch, Slots& s, const PartScratch& x, Index b, Index part,
                   Index row, Index rows) const {
    const T kept = T(options_.evict.weights_kept());
    const Index heads = config_.part_heads() * problem_.group();
    bool first = true;
    enter(scratch.worker, b, part);
    for (Index h = part * heads; h < (part + 1) * heads; ++h) {
      const T* const lse = x.lse + h;
      if (!simd::is_finite(lse)) continue;
      if (first && kept != T(1))
        for (Index j = 0; j < s.slots; ++j) s.received_weight[std::size_t(j)] *= kept;
      first = false;
      load_queries(scratch, b, h, 1, row, rows);
      scratch.query_tile.state.set_lse(0, *lse);
      each_page(scratch, b, problem_.key_head(h), false, [&](const KvTileOf& block) {
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
  Index eviction_candidate(const Slots& s, const PartScratch& x, Index current, T row) const {
    return detail::eviction_candidate(s, options_.evict, current - config_.recent,
                                      VisibleRows<T>{x.first_row, x.end_row}, row, x.claims);
  }

  /// Evicts tokens whose weight is negligible in every row after `current`. The bound e^(2b − F)
  /// holds because a row's own key is unmasked and its score is at least −b, b = score_bound.
  void evict_negligible(WorkerScratch& scratch, Slots& s, const PartScratch& x, Index b, T at,
                        Index current) const {
    const double lead = 2 * *options_.score_bound * simd::log2e<double>,
                 least = std::log2(config_.negligible) - 20;  // 2^-20, about 10^-6
    for (Index j = 0; j < s.slots; ++j) {
      const Index position = s.position[std::size_t(j)];
      const double weight = lead + double(s.carry[std::size_t(j)]);  // log2
      if (position == Slots::empty_slot || position > current - config_.recent ||
          x.end_row[j] != no_row || !(weight < least) ||
          (s.marks[std::size_t(j)] & Slots::is_protected) != 0)
        continue;
      s.dropped += std::exp2(weight);
      mark_evicted(s, x, b, j, at, current + 1);
    }
    WorkStats& stats = scratch.worker.stats;
    stats.dropped = std::max(stats.dropped, s.dropped);
  }

  void log(Index b, Index position, Index row) const {
    if (step_.evict_row) step_.evict_row(b, position) = row;
  }
  /// Masks a slot from row `at` on. The slot is freed after the chunk.
  void mark_evicted(Slots& s, const PartScratch& x, Index b, Index slot, T at, Index row) const {
    log(b, s.position[std::size_t(slot)], row);
    x.end_row[slot] = at;
    --s.count;
  }

  const Config& config_;
  const KvOptions& options_;
  std::span<const Member> members_;
  KvInputs<T> in_;
  const Variant& variant_;
  View<T, 4> out_;
  const KvStep<T>& step_;
  Problem problem_;
  Index tile_heads_ = 1, stride_ = 0;
  WorkerScratch* worker_scratch_ = nullptr;
  PartScratch* part_scratch_ = nullptr;  ///< [B][parts]
  Index* start_ = nullptr;               ///< [B] position of row 0
};

}  // namespace detail
}  // namespace heed::inline HEED_ABI
