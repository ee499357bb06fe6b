// SPDX-License-Identifier: MIT
/// @file
/// One step of a cache: append, select, evict, attend.
#pragma once

#include "heed/engine/forward.hpp"
#include "heed/kv/kv_chunk.hpp"
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

/// A step processes chunks of rows in order. Each chunk has three parallel passes:
/// 1. per sequence and part: append the tokens, compute the selecting head's scores, then row by
///    row update F and decide which tokens are evicted;
/// 2. per sequence and query tile: attend, with evicted tokens masked from their row on;
/// 3. per sequence and part: update received weights, evict after the rows if the options say so,
///    and free the slots of evicted tokens.
template <class T, class S, class Variant>
class KvCall {
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
  KvCall(const Config& config, std::span<const KvMember<T>> members, const KvInputs<T>& in,
         const Variant& variant, const View<T, 4>& out, const KvStep<T>& step, CallTensors& tensors)
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

  /// @throws OutOfPages, std::bad_alloc: no sequence has changed then.
  WorkStats run(Workspace& workspace) {
    const Executor& executor = step_.executor;
    const Index batch = problem_.batch, parts = config_.parts(), tasks = batch * parts;
    const Index most_rows = std::clamp<Index>(problem_.queries, 1, config_.chunk);
    const Index query_tiles = problem_.heads / tile_heads(problem_.queries),
                workers = executor.workers(batch * std::max(query_tiles, parts));

    Index capacity = 0;
    for (Index b = 0; b < batch; ++b)
      for (Slots& s : members_[std::size_t(b)].parts) {
        const Index wanted = capacity_for(s, b);
        reserve_slots(s, config_, wanted);
        capacity = std::max(capacity, wanted);
      }
    lay_out(workspace,
            [&](Arena& arena) { layout(arena, workers, round_up(capacity, Tile::block_keys)); });
    for (Index b = 0; b < batch; ++b)
      start_[b] = *members_[std::size_t(b)].next - (in_.adds ? 0 : in_.rows_of(b));

    Index pages = 0;
    for (Index x = 0; x < tasks; ++x) {
      part_[x].pages = pages_for(slots(x / parts, x % parts), x / parts);
      pages += part_[x].pages;
    }
    ReservedPages reserved(config_.pool.pages(), pages);
    const Leftovers leftovers{part_, tasks, reserved};
    for (Index x = 0; x < tasks; ++x) {
      Slots& s = slots(x / parts, x % parts);
      part_[x].reserved = reserved.list().split(part_[x].pages);
      add_pages(s, config_, capacity_for(s, x / parts), part_[x].reserved);
    }

    for (Index row = 0; row < problem_.queries; row += most_rows) {
      if (shares_budget() && in_.adds)
        executor(batch, [&](Index b, Index w) { evict_shared(worker_[w], b, row); });
      executor(tasks, [&](Index x, Index w) { select(worker_[w], x / parts, x % parts, row); });
      executor(batch * query_tiles, [&](Index task, Index w) {
        const Index b = task / query_tiles, heads = tile_heads(in_.rows_of(b)),
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
  /// Returns the pages that a step did not write.
  struct Leftovers {
    PartScratch* of;
    Index parts;
    ReservedPages& to;

    ~Leftovers() {
      for (Index x = 0; x < parts; ++x) to.give_back(of[x].reserved);
    }
  };

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

  Slots& slots(Index b, Index part) const {
    return members_[std::size_t(b)].parts[std::size_t(part)];
  }
  PartScratch& part_of(Index b, Index part) const { return part_[b * config_.parts() + part]; }
  /// The rows of the chunk at `row` that a sequence has.
  Index rows_at(Index b, Index row) const { return std::min(config_.chunk, in_.rows_of(b) - row); }
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

  /// The slots that a part needs during this step, in whole pages.
  Index capacity_for(const Slots& s, Index b) const {
    if (!in_.adds) return s.capacity();
    const Index rows = in_.rows_of(b);
    Index wanted = s.slots + rows - std::min(Index(s.free.size()), rows);
    if (const auto& budget = members_[std::size_t(b)].budget; budget && !exceeds_budget())
      wanted = std::min(wanted, std::max(s.slots, config_.slots_for(*budget, rows)));
    return std::max(s.capacity(), round_up(wanted, config_.pool.page()));
  }
  /// Pages that a part may take in this step: to grow, and in place of shared ones. A row writes
  /// the slot of its token, and the end moves tokens out of the slots that the budget does not
  /// need.
  Index pages_for(const Slots& s, Index b) const {
    if (!in_.adds) return 0;
    const auto& budget = members_[std::size_t(b)].budget;
    const Index capacity = capacity_for(s, b), rows = in_.rows_of(b),
                moved = rows > 0 && budget
                            ? std::max<Index>(0, capacity - config_.slots_for(*budget, 1))
                            : 0;
    return capacity / config_.pool.page() * config_.part_heads() - Index(s.pages.size()) +
           pages_to_copy(s, config_, exceeds_budget() ? max_bytes : rows + moved);
  }

  void layout(Arena& arena, Index workers, Index stride) {
    worker_ = arena.take<WorkerScratch>(workers);
    for (Index w = 0; w < workers; ++w) {
      WorkerOf worker(problem_, bound<T>(variant_ | KvVisibility<T>(), problem_, arena), arena);
      const QueryTileOf query_tile(problem_.dim, problem_.value_dim, arena);
      const PageReader<T, S> reader(config_, arena);
      T* queries = arena.take<T>(in_.q.in_place() ? 0 : Tile::group_rows * problem_.dim);
      T* token = arena.take<T>(
          in_.k.in_place() && in_.v.in_place() ? 0 : problem_.dim + problem_.value_dim);
      if (!arena.measuring())
        new (worker_ + w) WorkerScratch{std::move(worker), query_tile, reader, queries, token};
    }
    start_ = arena.take<Index>(problem_.batch);
    const Index parts = problem_.batch * config_.parts(),
                chunk = std::clamp<Index>(problem_.queries, 1, config_.chunk);
    part_ = arena.take<PartScratch>(parts);
    candidates_ = arena.take<HeadCandidate<T>>(shares_budget() ? parts : 0);
    orders_ = arena.take<EvictionOrder<T>>(config_.options.evict.uses_window() ? parts : 0);
    for (Index x = 0; x < parts; ++x) {
      const Tables tables(stride, chunk, problem_.heads, config_.options, arena);
      if (!arena.measuring()) part_[x] = {tables, {}, 0};
    }
  }

  /// Binds a worker to a sequence.
  void enter(WorkerOf& worker, Index b, Index part) const {
    const Tables& x = part_of(b, part).tables;
    worker.problem = problem_;
    worker.problem.keys = slots(b, part).slots;
    worker.problem.set_query_offset(start_[b]);
    worker.offsets = x.offsets;
    hook::link<hook::links<Bound> - 1>(worker.variant) = {
        {},       x.first_row, x.end_row, config_.options.select && in_.adds ? x.penalty : nullptr,
        x.scores, x.stride};
    hook::begin(worker.variant, b, true);
  }

  void load_queries(WorkerScratch& scratch, Index b, Index head, Index heads, Index row,
                    Index rows) const {
    scratch.query_tile.set_rows(scratch.worker.problem, scratch.worker.variant, b, head, heads, row,
                                rows);
    if (in_.parents)  // padding rows repeat the last one
      for (Index r = 0; r < scratch.query_tile.groups() * Tile::group_rows; ++r) {
        Row& at = scratch.query_tile.rows[r];
        at.position = start_[b] + in_.depth(b, at.index);
      }
    scratch.query_tile.pack(
        [&](const Row& r, Index place) {
          return in_.row(in_.q, r.batch, r.head, r.index, scratch.queries + place * problem_.dim);
        },
        [&](const Row& r) {
          return hook::query_factor(scratch.worker.variant, simd::log2e<T>, r);
        });
  }
  template <class Visit>
  void each_page(const WorkerScratch& scratch, Index b, Index key_head, bool with_values,
                 Visit&& visit) const {
    const Index heads = config_.part_heads();
    scratch.reader.each_page(slots(b, key_head / heads), key_head % heads,
                             scratch.query_tile.count <= max_gemv_rows, with_values, visit);
  }

  /// Stores row `row` of the step as the token at `position`, and returns its slot.
  Index append(const WorkerScratch& scratch, Index b, Index part, Index row, Index position) const {
    Slots& s = slots(b, part);
    const Index slot = take_slot(s, config_, position, part_of(b, part).reserved);
    bool good_key = true;
    for (Index head = 0; head < config_.part_heads(); ++head) {
      const Index key_head = part * config_.part_heads() + head;
      const T* key = in_.row(in_.k, b, key_head, row, scratch.token);
      const T* value = in_.row(in_.v, b, key_head, row, scratch.token + problem_.dim);
      good_key &= store_token(s, config_, head, slot, key, value);
    }
    mark_token(s, config_, slot, good_key ? std::uint8_t(0) : Slots::bad_key);
    return slot;
  }

  /// Appends the chunk's tokens and determines which slots each of its rows sees.
  void select(WorkerScratch& scratch, Index b, Index part, Index row) const {
    const Index rows = rows_at(b, row);
    if (rows <= 0) return;
    const Chunk chunk = chunk_at(b, part, row);
    if (!shares_budget() && in_.adds) {
      chunk.begin();
      score_keys(scratch, chunk);
      chunk.make_room();
    }
    if (!in_.adds) return chunk.see_by_position();
    const Index held = chunk.s.count;
    for (Index r = 0; r < rows; ++r) {
      const Index slot = append(scratch, b, part, row + r, start_[b] + row + r);
      chunk.appended(r, slot);
      if (in_.parents) chunk.see_tree(in_, b, slot, r);
    }

    enter(scratch.worker, b, part);
    if (const auto& select = config_.options.select) {
      load_queries(scratch, b, select->head, 1, row, rows);
      each_page(scratch, b, problem_.key_head(select->head), false, [&](const Block& block) {
        scratch.worker.score_and_scan(scratch.query_tile, block, false);
      });
    }
    hook::end(scratch.worker.variant);
    chunk.descend(held, scratch.worker.stats);
  }

  /// Heads of a query tile of a sequence of so many rows: the same in any batch.
  Index tile_heads(Index rows) const {
    const Index chunk = std::clamp<Index>(rows, 1, config_.chunk);
    Index heads = std::clamp<Index>(Tile::block_rows / chunk, 1, problem_.group());
    while (problem_.group() % heads != 0) --heads;
    return heads;
  }
  void attend(WorkerScratch& scratch, Index b, Index head, Index heads, Index row) const {
    const Index rows = rows_at(b, row), key_head = problem_.key_head(head),
                part = key_head / config_.part_heads();
    if (!in_.packed())
      zero_rows(b, head, heads, row + std::max<Index>(rows, 0), row + config_.chunk);
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
  /// The first of the step's last rows, of which a rule takes the weights when the step ends.
  Index window_start(Index b) const {
    const Index rows = in_.rows_of(b);
    return rows - std::min(rows, config_.options.evict.window().rows);
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
    if (config_.options.evict.uses_window() && ends && chunk.budget)
      weigh_window(scratch, chunk, b, part);
    if (config_.options.when != EvictWhen::before_row) score_keys(scratch, chunk);
    chunk.end();
    if (!ends || !chunk.budget || config_.options.evict.uses_window()) return;
    // Not at each step of heads that share a budget: what a head gives up it may soon need again.
    const Index page = config_.pool.page(), count = chunk.s.count;
    const Index slots = !shares_budget() ? config_.slots_for(*chunk.budget, 1)
                        : chunk.s.slots - count > page + page / 2 ? round_up(count, page)
                                                                  : chunk.s.slots;
    trim(chunk.s, config_, slots, part_of(b, part).reserved);
  }

  /// Computes what a rule needs that judges keys.
  void score_keys(const WorkerScratch& scratch, const Chunk& chunk) const {
    if (config_.options.evict.uses_keys() && chunk.budget && chunk.s.count >= *chunk.budget)
      scratch.reader.similarities(chunk.s, chunk.x.claims, chunk.s.received_weight.data());
  }

  /// Computes the weights that the step's last rows give to the tokens held.
  void weigh_window(WorkerScratch& scratch, const Chunk& chunk, Index b, Index part) const {
    chunk.see_by_position();
    std::fill(chunk.s.received_weight.begin(), chunk.s.received_weight.end(), T(0));
    const Index first = window_start(b);
    add_weights(scratch, chunk, b, part, first, in_.rows_of(b) - first);
    chunk.spread_weights(config_.options.evict.window().kernel);
  }
  /// Evicts what a rule judges when the step ends, and moves the rest together.
  void evict_after_step(Index b) const {
    const Index parts = config_.parts(), end = in_.rows_of(b);
    const auto& budget = members_[std::size_t(b)].budget;
    if (!budget || end == 0) return;
    const bool shared = config_.options.heads == KvHeads::shared;
    Index excess = -*budget * parts;
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

  /// Do heads share the budget row by row?
  bool shares_budget() const {
    return config_.options.heads == KvHeads::shared && !config_.options.evict.uses_window();
  }
  /// May a part hold more tokens than its budget during a step?
  bool exceeds_budget() const { return shares_budget() || config_.options.evict.uses_window(); }
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
    if (!budget || held + parts <= *budget * parts) return;
    for (Index part = 0; part < parts; ++part) {
      if (config_.options.evict.uses_keys()) {
        const Chunk chunk = chunk_at(b, part, row);
        scratch.reader.similarities(chunk.s, chunk.x.claims, chunk.s.received_weight.data());
      }
      find_candidate(b, part, row);
    }
    for (; held + parts > *budget * parts; --held) {
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
    const Index heads = config_.part_heads() * problem_.group();
    Vector<T>& received = chunk.s.received_weight;
    bool first = true;
    enter(scratch.worker, b, part);
    for (Index h = part * heads; h < (part + 1) * heads; ++h) {
      const T* const lse = chunk.x.lse + h * chunk.x.window;
      if (std::none_of(lse, lse + rows, [](const T& x) { return simd::is_finite(&x); })) continue;
      if (first && kept != T(1))
        for (Index j = 0; j < chunk.s.slots; ++j) received[std::size_t(j)] *= kept;
      first = false;
      load_queries(scratch, b, h, 1, row, rows);
      for (Index r = 0; r < rows; ++r) scratch.query_tile.state.set_lse(r, lse[r]);
      each_page(scratch, b, problem_.key_head(h), false, [&](const Block& block) {
        scratch.worker.softmax_from_lse(scratch.query_tile, block,
                                        [&](Index r, const KeyRange& keys, const T* weights) {
                                          if (!simd::is_finite(lse + r)) return;
                                          for (Index j = keys.first; j < keys.last; ++j)
                                            received[std::size_t(j)] += weights[j - keys.first];
                                        });
      });
    }
    hook::end(scratch.worker.variant);
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
  Index* start_ = nullptr;                  ///< [B] position of row 0
};

}  // namespace heed::inline HEED_ABI::detail
