// SPDX-License-Identifier: MIT
/// @file
/// The loops of the forward pass: one loop nest for all variants.
#pragma once

#include "heed/engine/options.hpp"
#include "heed/engine/pack/kv_packer.hpp"
#include "heed/engine/prune/compacted_keys.hpp"
#include "heed/engine/schedule/plan.hpp"
#include "heed/engine/schedule/score_ring.hpp"
#include "heed/engine/tile/forward_tile.hpp"

#include <algorithm>
#include <optional>

namespace heed::inline HEED_ABI::detail {

/// One forward call, or the part of it that weights() repeats.
template <class T, class B, Stage V>
class ForwardPass {
  using Config = TileConfig<T, B>;
  using Bound = BoundOf<T, V>;
  static_assert(hook::well_formed<T, V, Bound>());
  using WorkerOf = Worker<T, B, Bound>;
  using QueryTileOf = QueryTile<T, B>;
  using Packed = typename Config::Packed;
  using Block = KvTile<T, Packed>;
  using Scratch = PackScratch<T, Packed>;
  /// Most variants have no stage that scans: the compiler is spared what only a scan needs.
  static constexpr bool may_scan = hook::scans_rows<Bound>;

 public:
  /// @param tensors  contains q, k and v; the variant's tensors are added.
  ForwardPass(const StoredTensor<T>& q, const StoredTensor<T>& k, const StoredTensor<T>& v,
              const V& variant, CallTensors* tensors = nullptr)
      : q_(q),
        k_(k),
        v_(v),
        variant_(variant),
        problem_(problem_of(common_shape(q, k, v), variant, tensors)) {
    k.check("k"), v.check("v");
  }

  const Problem& problem() const { return problem_; }

  WorkStats run(const View<T, 4>& out, const View<T, 3>& lse, const Options& options) {
    negligible_ = negligible_weight<T>(options.negligible);
    if (problem_.batch == 0 || problem_.heads == 0) return {};
    plan(options.executor.workers(problem_.batch * problem_.heads));
    const Index workers = options.executor.workers(max_tasks());
    prunes_ = scans_ && negligible_ > 0 && bounds_hold_;

    Workspace own;
    WorkerScratch* scratch = lay_out(options.workspace ? *options.workspace : own,
                                     [&](Arena& arena) { return layout(arena, workers); });

    if (plan_.kv_splits == 1) {
      options.executor(plan_.tasks, [&](Index task, Index worker) {
        QueryTileOf& query_tile = scratch[worker].query_tiles[0];
        attend_split(scratch[worker], task, query_tile);
        query_tile.finish(out, lse);
      });
    } else if (plan_.kv_splits > 1) {
      options.executor(plan_.tasks * plan_.kv_splits, [&](Index task, Index worker) {
        attend_split(scratch[worker], task, partial_tiles_[task]);
      });
      options.executor(plan_.tasks, [&](Index task, Index) {
        QueryTileOf& all = partial_tiles_[task * plan_.kv_splits];
        for (Index split = 1; split < plan_.kv_splits; ++split)
          all.merge(partial_tiles_[task * plan_.kv_splits + split]);
        all.finish(out, lse);
      });
    } else {
      pack(scratch, options.executor);
      options.executor(plan_.tasks, [&](Index task, Index worker) {
        if constexpr (may_scan)
          if (scans_) return attend_in_order(scratch[worker], task, out, lse);
        attend_rows(scratch[worker], task, out, lse);
      });
    }

    WorkStats stats;
    for (Index w = 0; w < workers; ++w) stats += scratch[w].worker.stats;
    return stats;
  }

  /// Writes the softmax weights of rows [row, row + rows) of one head, with known lse, to out
  /// [rows, Nk].
  void softmax_weights(const View<const T, 3>& lse, Index batch, Index head, Index row, Index rows,
                       const View<T, 2>& out) {
    plan(1, Config::block_rows);
    plan_.kv_splits = 0;  // pack in advance, even for few rows
    Workspace workspace;
    WorkerScratch& own = *lay_out(workspace, [&](Arena& arena) { return layout(arena, 1); });
    pack(&own, serial());

    for (Index i = 0; i < rows; ++i)
      for (Index j = 0; j < problem_.keys; ++j) out(i, j) = T(0);
    WorkerOf& worker = own.worker;
    hook::begin(worker.variant, batch, false);
    // A scan must start at the first row. Without one, only the row blocks of the requested rows
    // are needed.
    const Index start = scans_ ? 0 : row / plan_.block_rows * plan_.block_rows;
    for (Index i = start; i < row + rows; i += plan_.block_rows) {
      const Index count = std::min(plan_.block_rows, problem_.queries - i);
      QueryTileOf& query_tile = own.query_tiles[0];
      load(own, query_tile, batch, head, 1, i, count);
      for (Index r = 0; r < count; ++r)
        query_tile.state.set_natural_lse(r, lse(batch, head, i + r));
      if constexpr (may_scan)
        if (scans_) load_selector(own, batch, i, count);
      each_key_block(own, 1, [&](const Block& selecting, Index first, Index last) {
        if constexpr (may_scan)
          if (scans_) worker.score_and_scan(own.selector, selecting, projects());
        if (i + count <= row) return;
        worker.softmax_from_lse(query_tile, WorkerOf::block(store(batch, head), first, last),
                                [&](Index r, const KeyRange& keys, const T* weights) {
                                  if (const Index at = i + r - row; 0 <= at && at < rows)
                                    for (Index j = keys.first; j < keys.last; ++j)
                                      out(at, j) = weights[j - keys.first];
                                });
      });
    }
    hook::end(worker.variant);
  }

 private:
  /// One thread's scratch.
  struct WorkerScratch {
    WorkerOf worker;
    QueryTileOf selector;
    QueryTileOf* query_tiles;
    CompactedKeys<T, B> compacted;
    KvPacker<T, B> packer;
    Scratch pack_scratch;            ///< holds one panel
    Index partition = 0, round = 0;  ///< set by attend_in_order(), see scan()
    bool publishes = false;
  };

  /// @param most_rows  of a query tile; none: as many as suit the problem.
  void plan(Index workers, std::optional<Index> most_rows = {}) {
    const ScanUse use = ScanUse::of<T>(variant_, problem_);
    scans_ = use.scans, bounds_hold_ = use.prunable;
    // Smaller blocks are more often masked completely.
    if (hook::MaskOfBlock::in<Bound> && !most_rows) most_rows = Config::block_rows;
    plan_ = Plan::of<Config>(problem_, scans_, workers, most_rows);
  }
  /// The largest number of tasks in one executor call that uses scratch per worker.
  Index max_tasks() const {
    const Index key_blocks = (problem_.keys + Config::block_keys - 1) / Config::block_keys,
                bounds = plan_.blocks + problem_.keys / plan_.block_rows + 1;
    return std::max({plan_.tasks * std::max<Index>(plan_.kv_splits, 1),
                     problem_.batch * problem_.key_heads * key_blocks, problem_.batch * bounds});
  }
  bool projects() const { return may_scan && projection_.queries; }

  WorkerScratch* layout(Arena& arena, Index workers) {
    WorkerScratch* scratch = arena.take<WorkerScratch>(workers);
    for (Index w = 0; w < workers; ++w) {
      Bound variant = bound<T>(variant_, problem_, arena);
      if constexpr (may_scan)
        projection_ = scans_ ? hook::OwnProjection::of<T>(variant) : Projection<T>{};
      const bool scales_values = hook::value_factor.acts_in(variant);
      const Index widest =
          std::max({problem_.dim, problem_.value_dim, projects() ? projection_.queries.dim(2) : 0});
      const Scratch pack_scratch(std::max<Index>(Config::panel_keys, Config::group_rows), widest,
                                 q_.in_place() && k_.in_place(), arena);
      KvPacker<T, B> packer;
      if (plan_.kv_splits > 0) {
        packer = KvPacker<T, B>(k_, v_, scales_values, pack_scratch, arena);
        if (w == 0 && plan_.kv_splits > 1)
          partial_tiles_ = query_tiles_of(plan_.tasks * plan_.kv_splits, arena);
      } else if (w == 0) {
        keys_ = PackedPanels<T, Packed>(k_, Config::panel_keys, Config::block_keys, arena);
        values_ = PackedRows<T, Packed>(v_, scales_values, Config::block_keys, arena);
        if constexpr (may_scan) {
          if (prunes_) bounds_ = ScoreBounds<T>(problem_, negligible_, plan_.block_rows, arena);
          if (projects())
            selecting_keys_ = PackedPanels<T, Packed>(
                as_one_head(projection_.keys), Config::panel_keys, Config::block_keys, arena);
          if (plan_.head_partitions > 1) make_score_rings(arena);
        }
      }
      WorkerOf worker(problem_, std::move(variant), arena);
      QueryTileOf selector;
      if (scans_)
        selector = QueryTileOf(projects() ? projection_.queries.dim(2) : problem_.dim, 0, arena);
      QueryTileOf* query_tiles =
          query_tiles_of(plan_.kv_splits > 1 ? 0 : plan_.worker_tiles, arena);
      CompactedKeys<T, B> compacted;
      if (may_scan && prunes_) {
        const Index heads = plan_.worker_tiles * plan_.tile_heads, group = problem_.group();
        // The key heads of the worker's own heads, and that of the selecting head.
        compacted = CompactedKeys<T, B>(
            problem_, std::min((heads + group - 2) / group + 2, problem_.key_heads), arena);
      }
      if (!arena.measuring())
        new (scratch + w) WorkerScratch{std::move(worker), selector, query_tiles,
                                        compacted,         packer,   pack_scratch};
    }
    return scratch;
  }
  void make_score_rings(Arena& arena) {
    score_rings_ = arena.take<ScoreRing<T>>(problem_.batch);
    for (Index b = 0; b < problem_.batch; ++b) {
      const Index rows = round_up(plan_.block_rows, Config::group_rows);
      const ScoreRing<T> scores(plan_.head_partitions, rows * Config::block_keys, arena);
      if (!arena.measuring()) new (score_rings_ + b) ScoreRing<T>(scores);
    }
  }
  QueryTileOf* query_tiles_of(Index count, Arena& arena) const {
    QueryTileOf* query_tiles = arena.take<QueryTileOf>(count);
    for (Index s = 0; s < count; ++s) {
      const QueryTileOf query_tile(problem_.dim, problem_.value_dim, arena,
                                   plan_.tile_heads * plan_.block_rows);
      if (!arena.measuring()) new (query_tiles + s) QueryTileOf(query_tile);
    }
    return query_tiles;
  }

  void load(WorkerScratch& own, QueryTileOf& query_tile, Index batch, Index head, Index heads,
            Index row, Index rows) {
    const Bound& variant = own.worker.variant;
    query_tile.set_rows(problem_, variant, batch, head, heads, row, rows);
    query_tile.pack(
        [&](const Row& r, Index i) {
          return q_.row(r.batch, r.head, r.index, own.pack_scratch.rows + i * problem_.dim);
        },
        [&](const Row& r) { return hook::query_factor(variant, simd::log2e<T>, r); },
        own.pack_scratch);
  }

  void load_selector(WorkerScratch& own, Index batch, Index row, Index rows) {
    const Index head = hook::selecting_head(own.worker.variant);
    if (!projects()) return load(own, own.selector, batch, head, 1, row, rows);
    const View<const T, 3>& q = projection_.queries;
    const T scale = simd::log2e<T> / std::sqrt(T(q.dim(2)));
    own.selector.set_rows(problem_, own.worker.variant, batch, head, 1, row, rows);
    own.selector.pack([&](const Row& r, Index) { return q.row(r.batch, r.index); },
                      [&](const Row&) { return scale; }, own.pack_scratch);
  }

  PackedKv<T, Packed> selecting_store(Index batch, Index head) const {
    return projects() ? selecting_keys_.store(batch, 0) : store(batch, head);
  }

  PackedKv<T, Packed> store(Index batch, Index head) const {
    const Index key_head = problem_.key_head(head);
    return keys_.store(batch, key_head, values_(batch, key_head));
  }

  void pack(const WorkerScratch* scratch, const Executor& executor) {
    const Bound& variant = scratch[0].worker.variant;
    executor(keys_.tasks(), [&](Index task, Index worker) {
      keys_.pack(
          task, [&](Index b, Index g, Index j) { return hook::key_factor(variant, T(1), b, g, j); },
          scratch[worker].pack_scratch);
    });
    executor(values_.tasks(), [&](Index task, Index worker) {
      values_.pack(
          task,
          [&](Index b, Index g, Index j) { return hook::value_factor(variant, T(1), b, g, j); },
          scratch[worker].pack_scratch.rows);
    });
    if constexpr (may_scan) {
      if (projects())
        executor(selecting_keys_.tasks(), [&](Index task, Index worker) {
          selecting_keys_.pack(
              task, [](Index, Index, Index) { return T(1); }, scratch[worker].pack_scratch);
        });
      if (prunes_)
        bounds_.compute_norms(q_, k_, variant, executor,
                              [&](Index worker) { return scratch[worker].pack_scratch.rows; });
    }
  }

  /// The key block of the last key before `end`.
  static Index block_before(Index end) { return (end - 1) / Config::block_keys; }

  /// Calls visit(block) for blocks [first, last). Those from `turn` on run from last to first: each
  /// row then starts with its newest keys, and its running maximum is rarely rescaled where scores
  /// favour recent keys. The others follow from the first on, the fastest order to read memory.
  template <class Visit>
  static void in_order(Index first, Index turn, Index last, Visit&& visit) {
    if (first >= last) return;
    turn = std::clamp(turn, first, last);
    for (Index block = last; block-- > turn;) visit(block);
    for (Index block = first; block < turn; ++block) visit(block);
  }

  /// Calls visit(selecting block, first, last) for the key blocks that a query tile or the selector
  /// sees. With a selection, all blocks run from last to first, because the oldest keys are masked
  /// most. Else see in_order(). If keys were pruned, the blocks start at CompactedKeys::boundary(),
  /// the start of a panel.
  template <class Visit>
  void each_key_block(WorkerScratch& own, Index query_tiles, Visit&& visit) {
    KeyRange range{problem_.keys, 0};
    const auto widen = [&](const KeyRange& r) {
      if (r.first < r.last) range = {std::min(range.first, r.first), std::max(range.last, r.last)};
    };
    for (Index s = 0; s < query_tiles; ++s) widen(own.query_tiles[s].key_range);
    PackedKv<T, Packed> selecting;
    if constexpr (may_scan)
      if (scans_) {
        widen(own.selector.key_range);
        if (hook::visits_masked_tiles(own.worker.variant)) range = {0, problem_.keys};
        selecting = selecting_store(own.selector.rows[0].batch, own.selector.head);
      }
    const Index boundary = own.compacted.boundary();
    range.first = std::max(range.first, boundary);
    if (range.first >= range.last) return;
    const Index lowest = (range.first - boundary) / Config::block_keys,
                turn = scans_ ? lowest : block_before(own.query_tiles[0].first_end());
    in_order(lowest, turn, (range.last - boundary - 1) / Config::block_keys + 1, [&](Index block) {
      const Index first = boundary + block * Config::block_keys,
                  last = std::min(first + Config::block_keys, problem_.keys);
      visit(WorkerOf::block(selecting, first, last), first, last);
    });
  }

  /// Without a scan: processes one query tile.
  void attend_rows(WorkerScratch& own, Index task, const View<T, 4>& out, const View<T, 3>& lse) {
    const Index query_tiles = plan_.query_tiles;
    // The last rows run first: under a causal mask they see the most keys, and short tasks at the
    // end balance the load.
    const Index block = plan_.blocks - 1 - task / query_tiles % plan_.blocks,
                batch = task / query_tiles / plan_.blocks,
                head = task % query_tiles * plan_.tile_heads, row = block * plan_.block_rows,
                rows = std::min(plan_.block_rows, problem_.queries - row);
    WorkerOf& worker = own.worker;
    QueryTileOf& query_tile = own.query_tiles[0];
    hook::begin(worker.variant, batch, true);
    load(own, query_tile, batch, head, plan_.tile_heads, row, rows);
    query_tile.reset(worker.variant);
    const PackedKv<T, Packed> keys = store(batch, head);
    each_key_block(own, 1, [&](const Block&, Index first, Index last) {
      worker.attend(query_tile, WorkerOf::block(keys, first, last));
    });
    query_tile.finish(out, lse);
    hook::end(worker.variant);
  }

  /// Processes all rows of a query tile on one split of the keys that they see. run() merges the
  /// splits.
  void attend_split(WorkerScratch& own, Index task, QueryTileOf& query_tile) {
    const Index tile_index = task / plan_.kv_splits, split = task % plan_.kv_splits,
                query_tiles = plan_.query_tiles, batch = tile_index / query_tiles,
                head = tile_index % query_tiles * plan_.tile_heads;
    WorkerOf& worker = own.worker;
    hook::begin(worker.variant, batch, true);
    load(own, query_tile, batch, head, plan_.tile_heads, 0, problem_.queries);
    query_tile.reset(worker.variant, split == 0);
    const Index first_block = query_tile.key_range.first / Config::block_keys,
                blocks = (query_tile.key_range.last + Config::block_keys - 1) / Config::block_keys -
                         first_block;
    in_order(first_block + blocks * split / plan_.kv_splits, block_before(query_tile.first_end()),
             first_block + blocks * (split + 1) / plan_.kv_splits, [&](Index block) {
               const Index first = block * Config::block_keys;
               worker.attend(query_tile,
                             own.packer(worker.variant, batch, problem_.key_head(head), first,
                                        std::min(first + Config::block_keys, problem_.keys),
                                        query_tile.count));
             });
    hook::end(worker.variant);
  }

  /// Processes a partition of the heads of one batch entry, from the first row to the last.
  void attend_in_order(WorkerScratch& own, Index task, const View<T, 4>& out,
                       const View<T, 3>& lse) {
    const Index batch = task / plan_.head_partitions, partition = task % plan_.head_partitions,
                query_tiles = plan_.query_tiles,
                from = query_tiles * partition / plan_.head_partitions,
                to = query_tiles * (partition + 1) / plan_.head_partitions;
    WorkerOf& worker = own.worker;
    hook::begin(worker.variant, batch, partition == 0);
    own.compacted.begin();
    const Heads heads{from * plan_.tile_heads, to * plan_.tile_heads};
    own.partition = partition, own.round = 0;
    own.publishes = heads.has(hook::selecting_head(worker.variant));
    T* const key_bias = prunes_ && values_are_finite(batch)
                            ? hook::monotone_key_bias(worker.variant, bounds_.least())
                            : nullptr;
    for (Index row = 0; row < problem_.queries; row += plan_.block_rows) {
      const Index rows = std::min(plan_.block_rows, problem_.queries - row);
      if (key_bias) prune(own, key_bias, batch, row, heads);
      load_selector(own, batch, row, rows);
      for (Index s = from; s < to; ++s) {
        QueryTileOf& query_tile = own.query_tiles[s - from];
        load(own, query_tile, batch, s * plan_.tile_heads, plan_.tile_heads, row, rows);
        query_tile.reset(worker.variant);
      }
      each_key_block(own, to - from, [&](const Block& selecting, Index first, Index last) {
        scan(own, selecting, projects());
        for (Index s = from; s < to; ++s) {
          QueryTileOf& query_tile = own.query_tiles[s - from];
          const bool selected =
              !projects() && query_tile.heads == 1 && query_tile.head == own.selector.head;
          worker.attend(query_tile, WorkerOf::block(store(batch, query_tile.head), first, last),
                        selected);
        }
      });
      ++own.round;
      if (own.compacted.count() > 0) attend_compacted(own, to - from, heads);
      ++own.round;
      for (Index s = from; s < to; ++s) own.query_tiles[s - from].finish(out, lse);
    }
    hook::end(worker.variant);
    if (plan_.head_partitions > 1) score_rings_[batch].detach(partition);
  }

  /// Scans a key block with the selecting head's scores. The partition of the selecting head
  /// computes them and publishes them to the others. The sequence number increases from call to
  /// call: each row block has two rounds, for the keys from boundary() on and for the compacted
  /// keys, and in a round the last key block comes first.
  void scan(WorkerScratch& own, const Block& block, bool projected) {
    WorkerOf& worker = own.worker;
    if (plan_.head_partitions == 1) return worker.score_and_scan(own.selector, block, projected);
    ScoreRing<T>& ring = score_rings_[own.selector.rows[0].batch];
    const Index count = WorkerOf::score_count(own.selector),
                blocks = (problem_.keys + Config::block_keys - 1) / Config::block_keys,
                sequence = (own.round + 1) * blocks - 1 - block.first / Config::block_keys;
    if (own.publishes) {
      worker.compute_scores(own.selector, block, projected);
      ring.publish(sequence, worker.scores(), count);
    } else if (!ring.try_get(own.partition, sequence, worker.scores(), count)) {
      worker.compute_scores(own.selector, block, projected);
    }
    worker.scan(own.selector, block);
  }

  /// Query heads [first, last) of a task.
  struct Heads {
    Index first, last;
    bool has(Index head) const { return first <= head && head < last; }
  };

  /// The slot of a head's compacted keys: first the key heads of the task in order, then that of
  /// the selecting head if the task does not have it.
  Index slot(Index head, const Heads& heads) const {
    const Index g = problem_.key_head(head), first = problem_.key_head(heads.first),
                last = problem_.key_head(heads.last - 1);
    return first <= g && g <= last ? g - first : last + 1 - first;
  }

  /// A precondition for pruning: the NaN of a pruned value would be lost, and Rows::from() lets
  /// blocks start at any row only if all blocks are finite.
  bool values_are_finite(Index batch) const {
    bool all = true;
    for (Index g = 0; g < problem_.key_heads; ++g)
      for (Index first = 0; first < problem_.keys; first += Config::block_keys)
        all &= values_(batch, g).finite[first / Config::block_keys] != 0;
    return all;
  }

  /// Runs before a row block: prunes the keys that are masked for good, of those in panels before
  /// the panel of its first row.
  void prune(WorkerScratch& own, T* key_bias, Index batch, Index row, const Heads& heads) {
    const Index end = (problem_.position(batch, row)) / Config::panel_keys * Config::panel_keys;
    if (!own.compacted.prune(end, key_bias, bounds_, batch, row / plan_.block_rows)) return;
    WorkStats& stats = own.worker.stats;
    stats.dropped = std::max(stats.dropped, own.compacted.pruned_weight());
    for (Index h = heads.first; h < heads.last; h += problem_.group() - h % problem_.group())
      pack_compacted(own, batch, h, heads);
    const Index selecting = hook::selecting_head(own.worker.variant);
    if (!heads.has(selecting)) pack_compacted(own, batch, selecting, heads);
  }

  /// Not inlined: all tasks pack the selecting head's keys by the same machine code, and so to the
  /// same bits.
  [[gnu::noinline]] void pack_compacted(WorkerScratch& own, Index batch, Index head,
                                        const Heads& heads) {
    const Index g = problem_.key_head(head);
    own.compacted.pack(
        slot(head, heads), k_, batch, g,
        [&](Index key) { return hook::key_factor(own.worker.variant, T(1), batch, g, key); },
        values_(batch, g), own.pack_scratch);
  }

  /// Processes the live keys before CompactedKeys::boundary(), which every row sees.
  void attend_compacted(WorkerScratch& own, Index query_tiles, const Heads& heads) {
    WorkerOf& worker = own.worker;
    const Index count = worker.problem.keys = own.compacted.count();
    own.selector.set_all_visible(count);
    for (Index s = 0; s < query_tiles; ++s) own.query_tiles[s].set_all_visible(count);
    const PackedKv<T, Packed> selecting = own.compacted.store(slot(own.selector.head, heads));
    for (Index first = (count - 1) / Config::block_keys * Config::block_keys; first >= 0;
         first -= Config::block_keys) {
      const Index last = std::min(first + Config::block_keys, count);
      scan(own, WorkerOf::block(selecting, first, last), false);
      for (Index s = 0; s < query_tiles; ++s) {
        QueryTileOf& query_tile = own.query_tiles[s];
        worker.attend(
            query_tile,
            WorkerOf::block(own.compacted.store(slot(query_tile.head, heads)), first, last),
            query_tile.heads == 1 && query_tile.head == own.selector.head);
      }
    }
    worker.problem.keys = problem_.keys;
  }

  StoredTensor<T> q_, k_, v_;
  const V& variant_;
  Problem problem_;
  PackedPanels<T, Packed> keys_, selecting_keys_;
  PackedRows<T, Packed> values_;
  Projection<T> projection_;
  ScoreBounds<T> bounds_;
  bool scans_ = false, bounds_hold_ = false, prunes_ = false;
  double negligible_ = 0;
  Plan plan_;
  QueryTileOf* partial_tiles_ = nullptr;  ///< [tasks][kv_splits]
  ScoreRing<T>* score_rings_ = nullptr;   ///< [batch]
};

}  // namespace heed::inline HEED_ABI::detail
