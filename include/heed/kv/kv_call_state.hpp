// SPDX-License-Identifier: MIT
/// @file
/// What a step of a cache works on: the sequences, the tensors of the call, and scratch.
#pragma once

#include "heed/engine/forward.hpp"
#include "heed/kv/kv_chunk.hpp"
#include "heed/kv/kv_demand.hpp"
#include "heed/kv/kv_page_reader.hpp"
#include "heed/kv/kv_step.hpp"
#include "heed/kv/kv_visibility.hpp"

namespace heed::inline HEED_ABI::detail {

/// A sequence in a step.
template <class T>
struct KvMember {
  std::optional<Index> budget;
  Index* next;
  std::span<KvSlots<T>> parts;
};

/// Checks a step, divides its scratch, and hands out the slots, tables and tiles of a sequence.
template <class T, class S, class Variant>
class KvCallState {
 protected:
  using B = Blocking<T>;
  using Config = KvConfig<T, S>;
  using Tile = TileConfig<T, B>;
  using Slots = KvSlots<T>;
  using Tables = KvTables<T>;
  using Chunk = KvChunk<T, S>;
  using Chain = decltype(std::declval<const Variant&>() | KvVisibility<T>());
  using Bound = BoundOf<T, Chain>;
  using WorkerOf = Worker<T, B, Bound>;
  using QueryTileOf = QueryTile<T, B>;
  using Block = KvTile<T>;

 public:
  /// @throws ShapeError, ValueError
  KvCallState(const Config& config, std::span<const KvMember<T>> members, const KvInputs<T>& in,
              const Variant& variant, const View<T, 4>& out, const KvStep<T>& step,
              CallTensors& tensors)
      : config_(config),
        members_(members),
        in_(in),
        variant_(variant),
        out_(out),
        step_(step),
        problem_(in_.check(config.shape, Index(members.size()), tensors)) {
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
    if (in_.packed()) written.batch = 1, written.queries = in_.q.dim(2);
    check_outputs(written, out, step.lse, tensors);
    check_evict_row();
    if (in_.parents) check_tree_is_kept();
    if (!in_.adds) check_rows_are_held();
    tensors.writes("evict_row", step.evict_row);
  }

 protected:
  struct WorkerScratch {
    WorkerOf worker;
    QueryTileOf query_tile;
    PageReader<T, S> reader;
    T *queries, *token;  ///< rows of q, and a row of k and v, widened to T
  };
  /// Per sequence and part.
  struct PartScratch {
    Tables tables;
    PageList reserved;  ///< pages that the step may write
    Index pages;        ///< how many they were at first
  };

  Slots& slots(Index b, Index part) const {
    return members_[std::size_t(b)].parts[std::size_t(part)];
  }
  PartScratch& part_of(Index b, Index part) const { return part_[b * config_.parts() + part]; }
  /// The rows of the chunk at `row` that a sequence has; none if it has no chunk there.
  Index rows_at(Index b, Index row) const {
    return row % chunk_[b] == 0 ? std::min(chunk_[b], in_.rows_of(b) - row) : 0;
  }
  /// The rows of a sequence that the step takes at once. Where keys are turned by their positions
  /// inside the cache, a row after which a token leaves sees all keys behind it turned otherwise.
  Index chunk_for(Index b) const {
    const KvOptions& o = config_.options;
    if (!o.rotary || !in_.adds || o.evict.uses_window()) return config_.chunk;
    if (o.score_bound) return 1;
    const auto& [budget, next, parts] = members_[std::size_t(b)];
    if (o.when == EvictWhen::chunk_end || !budget) return config_.chunk;
    for (const Slots& s : parts)
      if (s.count + in_.rows_of(b) > *budget) return 1;
    return config_.chunk;
  }
  Chunk chunk_at(Index b, Index part, Index row) const {
    const View<std::int64_t, 2>& all = step_.evict_row;
    View<std::int64_t, 1> evict_row;
    if (all) evict_row = {all.row(b * config_.parts() + part), {all.dim(1)}, {all.stride(1)}};
    return {config_,
            slots(b, part),
            part_of(b, part).tables,
            members_[std::size_t(b)].budget,
            evict_row,
            row,
            rows_at(b, row),
            start_[b]};
  }

  /// Heads of a query tile of so many rows a head, at most a row block.
  Index tile_heads(Index rows) const {
    Index heads =
        std::clamp<Index>(Tile::block_rows / std::max<Index>(rows, 1), 1, problem_.group());
    while (problem_.group() % heads != 0) --heads;
    return heads;
  }
  /// The first of the step's last rows, of which a rule takes the weights when the step ends.
  Index window_start(Index b) const {
    const Index rows = in_.rows_of(b);
    return rows - std::min(rows, config_.options.evict.window().rows);
  }

  /// What the parts of a sequence need for this step.
  KvDemand<T, S> demand(Index b) const {
    return {config_, members_[std::size_t(b)].budget, in_.rows_of(b)};
  }

  void layout(Arena& arena, Index workers, Index stride) {
    worker_ = arena.take<WorkerScratch>(workers);
    for (Index w = 0; w < workers; ++w) {
      WorkerOf worker(problem_, bound<T>(variant_ | KvVisibility<T>(), problem_, arena), arena);
      const QueryTileOf query_tile(problem_.dim, problem_.value_dim, arena);
      const PageReader<T, S> reader(config_, arena);
      const bool as_given = in_.q.in_place() && !config_.options.rotary;
      T* queries = arena.take<T>(as_given ? 0 : Tile::group_rows * problem_.dim);
      T* token = arena.take<T>(
          in_.k.in_place() && in_.v.in_place() ? 0 : problem_.dim + problem_.value_dim);
      if (!arena.measuring())
        new (worker_ + w) WorkerScratch{std::move(worker), query_tile, reader, queries, token};
    }
    start_ = arena.take<Index>(problem_.batch), chunk_ = arena.take<Index>(problem_.batch);
    const Index parts = problem_.batch * config_.parts(),
                chunk = std::clamp<Index>(problem_.queries, 1, config_.chunk);
    part_ = arena.take<PartScratch>(parts);
    candidates_ = arena.take<HeadCandidate<T>>(config_.shares_budget() ? parts : 0);
    orders_ = arena.take<EvictionOrder<T>>(config_.options.evict.uses_window() ? parts : 0);
    for (Index x = 0; x < parts; ++x) {
      const Tables tables(stride, chunk, problem_.heads, config_.options, arena);
      if (!arena.measuring()) part_[x] = {tables, {}, 0};
    }
  }

  /// Binds a worker to a sequence, for the rows of the chunk.
  void enter(WorkerOf& worker, Index b, Index part) const {
    enter(worker, b, part, part_of(b, part).tables.penalty);
  }
  /// The same for rows whose penalties lie elsewhere.
  void enter(WorkerOf& worker, Index b, Index part, const T* penalty) const {
    const Tables& x = part_of(b, part).tables;
    worker.problem = problem_;
    worker.problem.keys = slots(b, part).slots;
    worker.problem.set_query_offset(config_.options.rotary ? 0 : start_[b]);
    worker.offsets = config_.options.rotary ? x.inside : x.offsets;
    hook::link<hook::links<Bound> - 1>(worker.variant) = {
        {},       x.first_row, x.end_row, config_.options.select && in_.adds ? penalty : nullptr,
        x.scores, x.stride};
    hook::begin(worker.variant, b, true);
  }

  void load_queries(WorkerScratch& scratch, Index b, Index head, Index heads, Index row,
                    Index rows) const {
    scratch.query_tile.set_rows(scratch.worker.problem, scratch.worker.variant, b, head, heads, row,
                                rows);
    const auto& rotary = config_.options.rotary;
    if (in_.parents || rotary) {
      const Tables& x = part_of(b, problem_.key_head(head) / config_.part_heads()).tables;
      // Padding rows repeat the last one.
      for (Index r = 0; r < scratch.query_tile.groups() * Tile::group_rows; ++r) {
        Row& at = scratch.query_tile.rows[r];
        at.position = rotary ? x.row_inside[at.index - row] : start_[b] + in_.depth(b, at.index);
      }
    }
    scratch.query_tile.pack(
        [&](const Row& r, Index place) {
          T* const own = scratch.queries + place * problem_.dim;
          const T* const q = in_.row(in_.q, r.batch, r.head, r.index, own);
          return rotary ? turned(q, r.position, own) : q;
        },
        [&](const Row& r) {
          return hook::query_factor(scratch.worker.variant, simd::log2e<T>, r);
        });
  }
  template <class Visit>
  void each_page(const WorkerScratch& scratch, Index b, Index key_head, bool with_values,
                 Visit&& visit) const {
    const Index heads = config_.part_heads();
    const Tables& x = part_of(b, key_head / heads).tables;
    const RotaryRow<T> turns =
        config_.options.rotary ? RotaryRow<T>{x.cosines, x.sines} : RotaryRow<T>{};
    scratch.reader.each_page(slots(b, key_head / heads), key_head % heads,
                             scratch.query_tile.count <= max_gemv_rows, with_values, turns, visit);
  }
  /// A query turned by its position inside the cache, in `to`.
  const T* turned(const T* q, Index position, T* to) const {
    if (q != to) std::copy_n(q, problem_.dim, to);
    const RotaryRow<T> row = angles_->at(position);
    const Index half = angles_->pairs();
    if (config_.options.rotary->pairs() == RotaryPairs::half_split)
      turn_row<RotaryPairs::half_split>(to, row, half, T(1));
    else
      turn_row<RotaryPairs::interleaved>(to, row, half, T(1));
    return to;
  }

  const Config& config_;
  std::span<const KvMember<T>> members_;
  KvInputs<T> in_;
  const Variant& variant_;
  View<T, 4> out_;
  const KvStep<T>& step_;
  Problem problem_;
  WorkerScratch* worker_ = nullptr;
  PartScratch* part_ = nullptr;             ///< [B][parts]
  EvictionOrder<T>* orders_ = nullptr;      ///< [B][parts], for a rule that acts when the step ends
  HeadCandidate<T>* candidates_ = nullptr;  ///< [B][parts], if heads share a budget
  Index *start_ = nullptr, *chunk_ = nullptr;  ///< [B] position of row 0; rows at once
  Shared<const KvAngles<T>> angles_;  ///< of positions inside the cache, if these turn keys

 private:
  void check_evict_row() const {
    if (!step_.evict_row) return;
    const Index lists = problem_.batch * config_.parts();
    Index end = 0;
    for (Index b = 0; b < problem_.batch; ++b)
      end = std::max(end, *members_[std::size_t(b)].next + in_.rows_of(b));
    if (step_.evict_row.dim(0) != lists || step_.evict_row.dim(1) < end)
      throw ShapeError("evict_row is ", step_.evict_row.dims(), ", needs [", lists, ", ", end,
                       "] or wider");
  }

  /// Drafts cannot evict: their votes and weights count only if they are accepted.
  void check_tree_is_kept() const {
    const KvOptions& o = config_.options;
    if (o.select || o.evict.uses_weights() || o.evict.uses_window())
      throw ValueError(
          "step: the new tokens are a tree, whose rows may not all stay, but they would ",
          o.select ? "vote" : "give weights that count");
    for (Index b = 0; b < problem_.batch; ++b) {
      const Index rows = in_.rows_of(b);
      if (rows > config_.chunk)
        throw ValueError("step: a tree of ", rows, " tokens, must be at most ", config_.chunk,
                         ", the rows processed at once");
      const auto& budget = members_[std::size_t(b)].budget;
      for (const Slots& s : members_[std::size_t(b)].parts)
        if (budget && s.count + rows > *budget)
          throw ValueError("step: a tree of ", rows, " tokens beside ", s.count,
                           " held, the budget is ", *budget);
    }
  }
  void check_rows_are_held() const {
    for (Index b = 0; b < problem_.batch; ++b)
      if (const Index tokens = *members_[std::size_t(b)].next; in_.rows_of(b) > tokens)
        throw ValueError("attend: sequence ", b, " has ", tokens, " tokens, there are ",
                         in_.rows_of(b), " rows");
  }
};

}  // namespace heed::inline HEED_ABI::detail
