// SPDX-License-Identifier: MIT
/// @file
/// The loops of the backward pass: key blocks outermost, row blocks from last to first.
#pragma once

#include "heed/engine/options.hpp"
#include "heed/engine/prune/score_bounds.hpp"
#include "heed/engine/schedule/backward_operands.hpp"
#include "heed/engine/schedule/ordered_sums.hpp"

#include <numeric>

namespace heed::inline HEED_ABI {

namespace detail {

/// Checks the tensors beside q, k and v, and adds them to the tensors of the call.
template <class T>
void check_backward_tensors(const BackwardTensors<T>& x, const Shape& s, CallTensors& tensors) {
  check_output_dims<T>(s, x.out, {});
  expect_dims("lse", x.lse.dims(), {s.batch, s.heads, s.queries}, "one number per row of q");
  expect_dims("grad_out", x.grad_out.dims(), x.out.dims(), "the dimensions of out");
  if (x.grad_lse) expect_dims("grad_lse", x.grad_lse.dims(), x.lse.dims(), "the dimensions of lse");
  expect_dims("grad_q", x.grad_q.dims(), x.q.dims(), "the dimensions of q");
  expect_dims("grad_k", x.grad_k.dims(), x.k.dims(), "the dimensions of k");
  expect_dims("grad_v", x.grad_v.dims(), x.v.dims(), "the dimensions of v");
  expect_contiguous_rows("grad_out", x.grad_out);
  expect_contiguous_rows("grad_q", View<const T, 4>(x.grad_q));
  expect_contiguous_rows("grad_k", View<const T, 4>(x.grad_k));
  expect_contiguous_rows("grad_v", View<const T, 4>(x.grad_v));
  tensors.reads("out", x.out), tensors.reads("lse", x.lse);
  tensors.reads("grad_out", x.grad_out), tensors.reads("grad_lse", x.grad_lse);
  tensors.writes("grad_q", x.grad_q), tensors.writes("grad_k", x.grad_k);
  tensors.writes("grad_v", x.grad_v);
}

/// One backward call.
template <class T, class B, Stage V>
class BackwardPass {
  using Config = TileConfig<T, B>;
  using Bound = BoundOf<T, V>;
  static_assert(hook::well_formed<T, V, Bound>() && hook::has_adjoints<Bound>());
  using WorkerOf = GradientWorker<T, B, Bound>;
  using QueryTileOf = QueryTile<T, B>;
  /// Most variants have no stage that scans: the compiler is spared what only a scan needs.
  static constexpr bool may_scan = hook::scans_rows<Bound>;

 public:
  BackwardPass(const BackwardTensors<T>& x, const V& variant)
      : x_(x), variant_(variant), problem_(checked(x, variant)) {}

  WorkStats run(const Options& options) {
    negligible_ = negligible_weight<T>(options.negligible);
    check_bfloat16(options.bfloat16);
    if (problem_.batch == 0 || problem_.heads == 0) return clear_all();
    plan();
    const Index workers = options.executor.workers(
        problem_.batch * std::max({problem_.heads, problem_.key_heads, key_blocks_}));
    prunes_ = scans_ && negligible_ > 0 && bounds_hold_;
    Workspace own;
    WorkerScratch* scratch = lay_out(options.workspace ? *options.workspace : own,
                                     [&](Arena& arena) { return layout(arena, workers); });

    Bound& leader = scratch[0].worker.variant;
    hook::clear_gradients(leader);
    pack(leader, options.executor);
    const bool shares =
        hook::shares_gradients(leader) || (scans_ && hook::shares_gradients_over_keys(leader));
    const Executor executor = shares ? serial() : options.executor;
    if constexpr (may_scan)
      if (scans_) attend_in_order(scratch, executor);
    if (!scans_)
      executor(problem_.batch * problem_.key_heads,
               [&](Index task, Index w) { attend(scratch[w], task); });
    executor(problem_.batch * problem_.heads, [&](Index task, Index w) {
      operands_.finish_queries(scratch[w].worker.variant, task / problem_.heads,
                               task % problem_.heads);
    });
    operands_.finish_sinks(leader);

    WorkStats stats;
    for (Index w = 0; w < workers; ++w) stats += scratch[w].worker.stats;
    for (Index b = 0; prunes_ && b < problem_.batch; ++b)
      stats.dropped =
          std::max(stats.dropped, std::accumulate(pruned_weight_ + b * key_blocks_,
                                                  pruned_weight_ + (b + 1) * key_blocks_, 0.));
    return stats;
  }

 private:
  static Problem checked(const BackwardTensors<T>& x, const V& variant) {
    CallTensors tensors;
    tensors.reads("q", x.q), tensors.reads("k", x.k), tensors.reads("v", x.v);
    const Problem s = problem_of(common_shape(x.q, x.k, x.v), variant, &tensors, true);
    check_backward_tensors(x, s, tensors);
    return s;
  }

  /// Without batch entries or heads, all gradients are zero.
  WorkStats clear_all() {
    Workspace workspace;
    Bound variant =
        lay_out(workspace, [&](Arena& arena) { return bound<T>(variant_, problem_, arena); });
    hook::clear_gradients(variant);
    for (const View<T, 4>& x : {x_.grad_q, x_.grad_k, x_.grad_v})
      for (Index b = 0; b < x.dim(0); ++b)
        for (Index h = 0; h < x.dim(1); ++h)
          for (Index n = 0; n < x.dim(2); ++n) std::fill_n(x.row(b, h, n), x.dim(3), T(0));
    return {};
  }

  /// One thread's scratch.
  struct WorkerScratch {
    WorkerOf worker;
    QueryTileOf* query_tiles;  ///< [heads of a task][row blocks]
    QueryTileOf* selectors;    ///< [row blocks]
    KvGradients<T> grads;
    T* grad_projection_keys;  ///< [block_keys][columns]
    T* scan_states;           ///< [row blocks][block_keys] scan state at the start of row blocks
    T* key_bias;              ///< the result of hook::monotone_key_bias()
    Index batch;              ///< the batch entry that the members belong to, or −1
  };

  void plan() {
    const ScanUse use = ScanUse::of<T>(variant_, problem_);
    scans_ = use.scans, bounds_hold_ = use.prunable;
    blocks_ = (problem_.queries + Config::block_rows - 1) / Config::block_rows;
    key_blocks_ = (problem_.keys + Config::block_keys - 1) / Config::block_keys;
    task_heads_ = scans_ ? problem_.heads : problem_.group();
  }

  WorkerScratch* layout(Arena& arena, Index workers) {
    WorkerScratch* scratch = arena.take<WorkerScratch>(workers);
    for (Index w = 0; w < workers; ++w) {
      Bound variant = bound<T>(variant_, problem_, arena);
      if (w == 0) layout_shared(variant, arena);
      WorkerOf worker(problem_, std::move(variant), arena);
      WorkerScratch own{std::move(worker),
                        arena.take<QueryTileOf>(task_heads_ * blocks_),
                        arena.take<QueryTileOf>(scans_ ? blocks_ : 0),
                        operands_.key_gradients(scans_ ? problem_.key_heads : 1, arena),
                        arena.take<T>(Config::block_keys * projection_.columns()),
                        arena.take<T>(scans_ ? blocks_ * Config::block_keys : 0),
                        nullptr,
                        -1};
      for (Index s = 0; s < task_heads_ * blocks_; ++s) {
        const QueryTileOf query_tile = QueryTileOf::scoring(problem_.dim, arena);
        if (!arena.measuring()) new (own.query_tiles + s) QueryTileOf(query_tile);
      }
      for (Index s = 0; scans_ && s < blocks_; ++s) {
        const QueryTileOf query_tile =
            QueryTileOf::scoring(projection_ ? projection_.dim() : problem_.dim, arena);
        if (!arena.measuring()) new (own.selectors + s) QueryTileOf(query_tile);
      }
      if (!arena.measuring()) new (scratch + w) WorkerScratch(std::move(own));
    }
    return scratch;
  }

  void layout_shared([[maybe_unused]] const Bound& variant, Arena& arena) {
    operands_ = BackwardOperands<T, B>(x_, problem_, arena);
    if constexpr (may_scan) {
      if (scans_) {
        order_ = OrderedSums(problem_.batch * blocks_, arena);
        if (const Projection<T> own = hook::OwnProjection::of<T>(variant); own.queries)
          projection_ = ProjectionOperands<T, B>(as_one_head(own.queries), as_one_head(own.keys),
                                                 problem_, arena);
      }
      if (prunes_) {
        bounds_ = ScoreBounds<T>(problem_, negligible_, Config::block_rows, arena);
        pruned_weight_ = arena.take<double>(problem_.batch * key_blocks_);
      }
    }
  }

  void pack(const Bound& variant, const Executor& executor) {
    operands_.pack(variant, executor);
    if constexpr (may_scan) {
      if (projection_) projection_.pack(executor);
      if (prunes_)
        bounds_.compute_norms(x_.q, x_.k, variant, executor, [](Index) -> T* { return nullptr; });
    }
  }

  static bool overlap(const KeyRange& a, const KvTile<T>& b) {
    return a.first < b.last && b.first < a.last;
  }

  /// Without a scan: processes the heads of one key head.
  void attend(WorkerScratch& own, Index task) {
    const Index b = task / problem_.key_heads, g = task % problem_.key_heads;
    WorkerOf& worker = own.worker;
    hook::begin(worker.variant, b, false);
    for (Index h = 0; h < task_heads_; ++h)
      operands_.set_query_tiles(worker.variant, own.query_tiles + h * blocks_, b,
                                g * task_heads_ + h);
    for (Index first = 0; first < problem_.keys; first += Config::block_keys) {
      operands_.clear(own.grads);
      const KvTileGrad<T> keys = operands_.kv_tile_grad(own.grads, b, g, first);
      hook::begin_gradients(worker.variant, keys.keys.first, keys.keys.last - keys.keys.first);
      for (Index i = blocks_; i-- > 0;)
        for (Index h = 0; h < task_heads_; ++h) {
          QueryTileOf& query_tile = own.query_tiles[h * blocks_ + i];
          if (overlap(query_tile.key_range, keys.keys))
            worker.tile(query_tile, operands_.query_tile_grad(b, g * task_heads_ + h, i), keys);
        }
      operands_.finish_keys(worker.variant, b, g, keys);
      hook::end_gradients(worker.variant, keys.keys.first, keys.keys.last - keys.keys.first);
    }
    hook::end(worker.variant);
  }

  /// With a scan: processes key blocks in parallel, staggered, because all of them add to the query
  /// gradients. The blocks start in order, so that none waits for a block that has not started.
  void attend_in_order(WorkerScratch* scratch, const Executor& executor) {
    std::atomic<Index> next{0};
    const Index tasks = problem_.batch * key_blocks_;
    executor(executor.workers(tasks), [&](Index, Index w) {
      WorkerScratch& own = scratch[w];
      for (Index task; (task = next.fetch_add(1, std::memory_order_relaxed)) < tasks;)
        attend_key_block(own, task / key_blocks_, task % key_blocks_);
      end_batch(own);
    });
    if (projection_)
      projection_.finish_queries(hook::GradOwnProjection::of<T>(scratch[0].worker.variant));
  }

  void begin_batch(WorkerScratch& own, Index b) {
    if (own.batch == b) return;
    end_batch(own);
    own.batch = b;
    Bound& variant = own.worker.variant;
    hook::begin(variant, b, false);
    for (Index h = 0; h < problem_.heads; ++h)
      operands_.set_query_tiles(variant, own.query_tiles + h * blocks_, b, h);
    const Index selecting = hook::selecting_head(variant);
    if (projection_)
      projection_.set_query_tiles(variant, own.selectors, b, selecting);
    else
      operands_.set_query_tiles(variant, own.selectors, b, selecting);
    own.key_bias = prunes_ && values_are_finite(b)
                       ? hook::monotone_key_bias(variant, bounds_.least())
                       : nullptr;
  }
  void end_batch(WorkerScratch& own) {
    if (own.batch >= 0) hook::end(own.worker.variant);
    own.batch = -1;
  }
  bool values_are_finite(Index b) const {
    bool all = true;
    for (Index g = 0; g < problem_.key_heads; ++g)
      all &= simd::all_finite(x_.v.row(b, g, 0), x_.v.stride(2), problem_.keys, problem_.value_dim);
    return all;
  }

  /// Processes all heads on one key block. A first sweep down the rows computes the selecting
  /// head's scores and saves the scan state at the start of each row block. It ends at the first
  /// row block that gives the keys no weight. From there, all heads go back up.
  void attend_key_block(WorkerScratch& own, Index b, Index index) {
    begin_batch(own, b);
    WorkerOf& worker = own.worker;
    Bound& variant = worker.variant;
    operands_.clear(own.grads);
    std::fill_n(own.grad_projection_keys, Config::block_keys * projection_.columns(), T(0));
    const Index first = index * Config::block_keys;
    const KvTile<T> block =
        projection_ ? projection_.keys(b, 0, first)
                    : operands_.keys(b, problem_.key_head(hook::selecting_head(variant)), first);
    const Index keys = block.last - first;
    const Index live_blocks = scan_rows(own, b, block);
    if (prunes_)
      pruned_weight_[b * key_blocks_ + index] =
          live_blocks < blocks_ ? weight(own, b, live_blocks, block) : 0;

    hook::begin_gradients(variant, first, keys);
    for (Index i = blocks_; i-- > 0;) {
      order_.wait(b * blocks_ + i, index);
      if (i < live_blocks && is_visible(own, i, block)) {
        if (i + 1 < live_blocks) {  // else the state is still that of scan_rows()
          hook::restore_scan(variant, first, keys, own.scan_states + i * Config::block_keys);
          worker.score_and_scan(own.selectors[i], block, bool(projection_));
        }
        attend_tile(own, b, block, i);
      }
      order_.release(b * blocks_ + i);
    }
    for (Index g = 0; g < problem_.key_heads; ++g)
      operands_.finish_keys(variant, b, g, operands_.kv_tile_grad(own.grads, b, g, first));
    hook::end_gradients(variant, first, keys);
    if (projection_)
      projection_.finish_keys(hook::GradOwnProjection::of<T>(variant), b,
                              projection_.kv_tile_grad(own.grad_projection_keys, b, 0, first));
  }

  /// True if any of these rows sees the key block.
  bool is_visible(const WorkerScratch& own, Index i, const KvTile<T>& block) const {
    bool any =
        hook::visits_masked_tiles(own.worker.variant) || overlap(own.selectors[i].key_range, block);
    for (Index h = 0; h < problem_.heads; ++h)
      any |= overlap(own.query_tiles[h * blocks_ + i].key_range, block);
    return any;
  }
  /// True if selection has masked all these keys for good, from this row block on.
  bool is_dead(const WorkerScratch& own, Index b, Index i, const KvTile<T>& block) const {
    if (own.key_bias == nullptr) return false;
    for (Index j = block.first; j < block.last; ++j)
      if (!bounds_.is_dead(b, i, j, own.key_bias[j])) return false;
    return true;
  }
  double weight(const WorkerScratch& own, Index b, Index i, const KvTile<T>& block) const {
    double sum = 0;
    for (Index j = block.first; j < block.last; ++j)
      sum += bounds_.weight(b, i, j, own.key_bias[j]);
    return sum;
  }

  /// Saves the scan state at the start of each row block in WorkerScratch::scan_states. Returns the
  /// first row block from which on the keys are dead.
  Index scan_rows(WorkerScratch& own, Index b, const KvTile<T>& block) {
    WorkerOf& worker = own.worker;
    Index i = 0;
    for (; i < blocks_ && !is_dead(own, b, i, block); ++i) {
      if (!is_visible(own, i, block)) continue;
      hook::save_scan(worker.variant, block.first, block.last - block.first,
                      own.scan_states + i * Config::block_keys);
      worker.score_and_scan(own.selectors[i], block, bool(projection_));
    }
    return i;
  }

  /// Processes all heads on one tile, the selecting head last.
  void attend_tile(WorkerScratch& own, Index b, const KvTile<T>& block, Index i) {
    WorkerOf& worker = own.worker;
    hook::clear_scan_gradient(worker.variant);
    const Index selecting = projection_ ? -1 : hook::selecting_head(worker.variant);
    const auto keys_of = [&](Index h) {
      return operands_.kv_tile_grad(own.grads, b, problem_.key_head(h), block.first);
    };
    for (Index h = 0; h < problem_.heads; ++h) {
      QueryTileOf& query_tile = own.query_tiles[h * blocks_ + i];
      if (h != selecting && overlap(query_tile.key_range, block))
        worker.tile(query_tile, operands_.query_tile_grad(b, h, i), keys_of(h));
    }
    if (selecting >= 0)
      worker.selecting_tile(own.selectors[i], own.query_tiles[selecting * blocks_ + i],
                            operands_.query_tile_grad(b, selecting, i), keys_of(selecting));
    else
      worker.selecting_tile(own.selectors[i], projection_.query_tile_grad(b, 0, i),
                            projection_.kv_tile_grad(own.grad_projection_keys, b, 0, block.first));
  }

  BackwardTensors<T> x_;
  const V& variant_;
  Problem problem_;
  bool scans_ = false, bounds_hold_ = false, prunes_ = false;
  double negligible_ = 0;
  Index blocks_ = 0, key_blocks_ = 0, task_heads_ = 1;
  BackwardOperands<T, B> operands_;
  ProjectionOperands<T, B> projection_;
  OrderedSums order_;
  ScoreBounds<T> bounds_;
  double* pruned_weight_ = nullptr;  ///< [B][key blocks] bound of the weight that rows lose of each
};

}  // namespace detail
}  // namespace heed::inline HEED_ABI
