// SPDX-License-Identifier: MIT
/// @file
/// The loops of the backward pass: key blocks outermost, rows the other way.
#pragma once

#include "heed/engine/options.hpp"
#include "heed/engine/prune/score_bounds.hpp"
#include "heed/engine/schedule/backward_operands.hpp"
#include "heed/engine/schedule/ordered_sums.hpp"

#include <numeric>

namespace heed::inline HEED_ABI {

namespace detail {

/// One backward call.
template <class T, class B, Stage V>
class BackwardPass {
  using Tile = Tiles<T, B>;
  using Bound = BoundOf<T, V>;
  static_assert(hook::well_formed<T, V, Bound>() && hook::has_adjoints<Bound>());
  using WorkerOf = GradientWorker<T, B, Bound>;
  using StripOf = Strip<T, B>;

 public:
  BackwardPass(const BackwardTensors<T>& x, const V& variant)
      : x_(x), variant_(variant), problem_(checked(x, variant)) {}

  Visited run(const Options& options) {
    negligible_ = negligible_weight<T>(options.negligible);
    check_bfloat16(options.bfloat16);
    if (problem_.batch == 0 || problem_.heads == 0) return clear_all();
    plan();
    const Index workers = options.executor.workers(
        problem_.batch * std::max({problem_.heads, problem_.key_heads, key_blocks_}));
    drops_ = carries_ && negligible_ > 0 && bounds_hold_;
    Arena measure;
    layout(measure, workers);
    Workspace own;
    Workspace& workspace = options.workspace ? *options.workspace : own;
    Arena arena(workspace.reserve(measure.used()));
    Lane* lanes = layout(arena, workers);

    Bound& leader = lanes[0].worker.variant;
    hook::clear_gradients(leader);
    pack(leader, options.executor);
    const bool shares =
        hook::shares_gradients(leader) || (carries_ && hook::shares_gradients_over_keys(leader));
    const Executor executor = shares ? serial() : options.executor;
    if (carries_)
      attend_in_turns(lanes, executor);
    else
      executor(problem_.batch * problem_.key_heads,
               [&](Index task, Index w) { attend(lanes[w], task); });
    executor(problem_.batch * problem_.heads, [&](Index task, Index w) {
      sides_.finish_queries(lanes[w].worker.variant, task / problem_.heads, task % problem_.heads);
    });
    sides_.finish_sinks(leader);

    Visited visited;
    for (Index w = 0; w < workers; ++w) visited += lanes[w].worker.visited;
    for (Index b = 0; drops_ && b < problem_.batch; ++b)
      visited.dropped = std::max(
          visited.dropped,
          std::accumulate(dropped_ + b * key_blocks_, dropped_ + (b + 1) * key_blocks_, 0.));
    return visited;
  }

 private:
  static Problem checked(const BackwardTensors<T>& x, const V& variant) {
    CallTensors tensors;
    tensors.reads("q", x.q), tensors.reads("k", x.k), tensors.reads("v", x.v);
    const Problem s = problem_of(common_shape(x.q, x.k, x.v), variant, &tensors, true);
    check_output_dims<T>(s, x.out, {});
    expect_dims("lse", x.lse.dims(), {s.batch, s.heads, s.queries}, "one number per row of q");
    expect_dims("grad_out", x.grad_out.dims(), x.out.dims(), "the dimensions of out");
    if (x.grad_lse)
      expect_dims("grad_lse", x.grad_lse.dims(), x.lse.dims(), "the dimensions of lse");
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
    return s;
  }

  /// There is nothing to sum up.
  Visited clear_all() {
    Arena measure;
    bound<T>(variant_, problem_, measure);
    Workspace workspace;
    Arena arena(workspace.reserve(measure.used()));
    Bound variant = bound<T>(variant_, problem_, arena);
    hook::clear_gradients(variant);
    for (const View<T, 4>& x : {x_.grad_q, x_.grad_k, x_.grad_v})
      for (Index b = 0; b < x.dim(0); ++b)
        for (Index h = 0; h < x.dim(1); ++h)
          for (Index n = 0; n < x.dim(2); ++n) std::fill_n(x.row(b, h, n), x.dim(3), T(0));
    return {};
  }

  /// One thread's scratch.
  struct Lane {
    WorkerOf worker;
    StripOf* strips;     ///< [heads of a task][row blocks]
    StripOf* selectors;  ///< [row blocks]
    KeyGradients<T> grads;
    T* grad_projection_keys;  ///< [block_keys][columns]
    T* carries;               ///< [row blocks][block_keys]
    T* falling;               ///< what falling() gave
    Index batch;              ///< the batch entry all this is about, or −1
  };

  void plan() {
    carries_ = bounds_hold_ = false;
    if constexpr (hook::scans_rows<Bound>) {
      Arena measure;
      const Bound variant = bound<T>(variant_, problem_, measure);
      carries_ = hook::selecting_head(variant) >= 0;
      bounds_hold_ = ScoreBounds<T>::hold(variant, problem_);
    }
    blocks_ = (problem_.queries + Tile::block_rows - 1) / Tile::block_rows;
    key_blocks_ = (problem_.keys + Tile::block_keys - 1) / Tile::block_keys;
    task_heads_ = carries_ ? problem_.heads : problem_.group();
  }

  Lane* layout(Arena& arena, Index workers) {
    Lane* lanes = arena.take<Lane>(workers);
    for (Index w = 0; w < workers; ++w) {
      Bound variant = bound<T>(variant_, problem_, arena);
      if (w == 0) layout_shared(variant, arena);
      WorkerOf worker(problem_, std::move(variant), arena);
      Lane lane{std::move(worker),
                arena.take<StripOf>(task_heads_ * blocks_),
                arena.take<StripOf>(carries_ ? blocks_ : 0),
                sides_.key_gradients(carries_ ? problem_.key_heads : 1, arena),
                arena.take<T>(Tile::block_keys * projection_.columns()),
                arena.take<T>(carries_ ? blocks_ * Tile::block_keys : 0),
                nullptr,
                -1};
      for (Index s = 0; s < task_heads_ * blocks_; ++s) {
        const StripOf strip = StripOf::scoring(problem_.dim, arena);
        if (!arena.measuring()) new (lane.strips + s) StripOf(strip);
      }
      for (Index s = 0; carries_ && s < blocks_; ++s) {
        const StripOf strip =
            StripOf::scoring(projection_ ? projection_.dim() : problem_.dim, arena);
        if (!arena.measuring()) new (lane.selectors + s) StripOf(strip);
      }
      if (!arena.measuring()) new (lanes + w) Lane(std::move(lane));
    }
    return lanes;
  }

  void layout_shared(const Bound& variant, Arena& arena) {
    sides_ = GradientSides<T, B>(x_, problem_, arena);
    if (carries_) {
      turns_ = Turns(problem_.batch * blocks_, arena);
      if (const Projection<T> own = hook::OwnProjection::of<T>(variant); own.queries)
        projection_ =
            ProjectionSides<T, B>(as_one_head(own.queries), as_one_head(own.keys), problem_, arena);
    }
    if (drops_) {
      bounds_ = ScoreBounds<T>(problem_, negligible_, Tile::block_rows, arena);
      dropped_ = arena.take<double>(problem_.batch * key_blocks_);
    }
  }

  void pack(const Bound& variant, const Executor& executor) {
    sides_.pack(variant, executor);
    if (projection_) projection_.pack(executor);
    if (drops_) bounds_.measure(x_.q, x_.k, variant, executor, [](Index) -> T* { return nullptr; });
  }

  static bool overlap(const KeyRange& a, const KeyBlock<T>& b) {
    return a.first < b.last && b.first < a.last;
  }

  /// A variant that carries nothing: the heads of one key head.
  void attend(Lane& lane, Index task) {
    const Index b = task / problem_.key_heads, g = task % problem_.key_heads;
    WorkerOf& worker = lane.worker;
    hook::begin(worker.variant, b, false);
    for (Index h = 0; h < task_heads_; ++h)
      sides_.place(worker.variant, lane.strips + h * blocks_, b, g * task_heads_ + h);
    for (Index first = 0; first < problem_.keys; first += Tile::block_keys) {
      sides_.clear(lane.grads);
      const KeySide<T> side = sides_.key_side(lane.grads, b, g, first);
      for (Index i = blocks_; i-- > 0;)
        for (Index h = 0; h < task_heads_; ++h) {
          StripOf& strip = lane.strips[h * blocks_ + i];
          if (overlap(strip.hull, side.keys))
            worker.tile(strip, sides_.row_side(b, g * task_heads_ + h, i), side);
        }
      hook::end_gradients(worker.variant, side.keys.first, side.keys.last - side.keys.first);
      sides_.finish_keys(worker.variant, b, g, side);
    }
    hook::end(worker.variant);
  }

  /// A variant that carries: key blocks in parallel, one behind the other, since all of them add to
  /// the gradients of the queries. Taken in order, none waits for one that nobody has begun.
  void attend_in_turns(Lane* lanes, const Executor& executor) {
    std::atomic<Index> next{0};
    const Index tasks = problem_.batch * key_blocks_;
    executor(executor.workers(tasks), [&](Index, Index w) {
      Lane& lane = lanes[w];
      for (Index task; (task = next.fetch_add(1, std::memory_order_relaxed)) < tasks;)
        attend_key_block(lane, task / key_blocks_, task % key_blocks_);
      leave(lane);
    });
    if (projection_)
      projection_.finish_queries(hook::GradOwnProjection::of<T>(lanes[0].worker.variant));
  }

  void enter(Lane& lane, Index b) {
    if (lane.batch == b) return;
    leave(lane);
    lane.batch = b;
    Bound& variant = lane.worker.variant;
    hook::begin(variant, b, false);
    for (Index h = 0; h < problem_.heads; ++h)
      sides_.place(variant, lane.strips + h * blocks_, b, h);
    const Index selecting = hook::selecting_head(variant);
    if (projection_)
      projection_.place(variant, lane.selectors, b, selecting);
    else
      sides_.place(variant, lane.selectors, b, selecting);
    lane.falling = drops_ && values_are_finite(b)
                       ? hook::monotone_key_bias(variant, bounds_.least())
                       : nullptr;
  }
  void leave(Lane& lane) {
    if (lane.batch >= 0) hook::end(lane.worker.variant);
    lane.batch = -1;
  }
  bool values_are_finite(Index b) const {
    bool all = true;
    for (Index g = 0; g < problem_.key_heads; ++g)
      all &= simd::all_finite(x_.v.row(b, g, 0), x_.v.stride(2), problem_.keys, problem_.value_dim);
    return all;
  }

  /// All heads on one key block. The selecting head's scores descend the rows once, to know what is
  /// carried into every row block, down to where nobody gives the keys any weight any more; from
  /// there all heads ascend.
  void attend_key_block(Lane& lane, Index b, Index index) {
    enter(lane, b);
    WorkerOf& worker = lane.worker;
    Bound& variant = worker.variant;
    sides_.clear(lane.grads);
    std::fill_n(lane.grad_projection_keys, Tile::block_keys * projection_.columns(), T(0));
    const Index first = index * Tile::block_keys;
    const KeyBlock<T> block =
        projection_ ? projection_.keys(b, 0, first)
                    : sides_.keys(b, problem_.key_head(hook::selecting_head(variant)), first);
    const Index keys = block.last - first;
    const Index alive = descend(lane, b, block);
    if (drops_)
      dropped_[b * key_blocks_ + index] = alive < blocks_ ? weight(lane, b, alive, block) : 0;

    hook::begin_gradients(variant, first, keys);
    for (Index i = blocks_; i-- > 0;) {
      turns_.wait(b * blocks_ + i, index);
      if (i < alive && met(lane, i, block)) {
        if (i + 1 < alive) {  // else descend() ended here
          hook::restore_scan(variant, first, keys, lane.carries + i * Tile::block_keys);
          worker.select(lane.selectors[i], block, bool(projection_));
        }
        ascend(lane, b, block, i);
      }
      turns_.pass(b * blocks_ + i);
    }
    hook::end_gradients(variant, first, keys);
    for (Index g = 0; g < problem_.key_heads; ++g)
      sides_.finish_keys(variant, b, g, sides_.key_side(lane.grads, b, g, first));
    if (projection_)
      projection_.finish_keys(hook::GradOwnProjection::of<T>(variant), b,
                              projection_.key_side(lane.grad_projection_keys, b, 0, first));
  }

  /// Does anybody look at this block from these rows?
  bool met(const Lane& lane, Index i, const KeyBlock<T>& block) const {
    bool any =
        hook::visits_masked_tiles(lane.worker.variant) || overlap(lane.selectors[i].hull, block);
    for (Index h = 0; h < problem_.heads; ++h)
      any |= overlap(lane.strips[h * blocks_ + i].hull, block);
    return any;
  }
  /// Has selection masked all these keys for good, from this row block on?
  bool is_dead(const Lane& lane, Index b, Index i, const KeyBlock<T>& block) const {
    if (lane.falling == nullptr) return false;
    for (Index j = block.first; j < block.last; ++j)
      if (!bounds_.is_dead(b, i, j, lane.falling[j])) return false;
    return true;
  }
  double weight(const Lane& lane, Index b, Index i, const KeyBlock<T>& block) const {
    double sum = 0;
    for (Index j = block.first; j < block.last; ++j)
      sum += bounds_.weight(b, i, j, lane.falling[j]);
    return sum;
  }

  /// Leaves what is carried into each row block in Lane::carries; returns the first row block from
  /// which on the keys are dead.
  Index descend(Lane& lane, Index b, const KeyBlock<T>& block) {
    WorkerOf& worker = lane.worker;
    Index i = 0;
    for (; i < blocks_ && !is_dead(lane, b, i, block); ++i) {
      if (!met(lane, i, block)) continue;
      hook::save_scan(worker.variant, block.first, block.last - block.first,
                      lane.carries + i * Tile::block_keys);
      worker.select(lane.selectors[i], block, bool(projection_));
    }
    return i;
  }

  /// All heads on one tile, the selecting one last.
  void ascend(Lane& lane, Index b, const KeyBlock<T>& block, Index i) {
    WorkerOf& worker = lane.worker;
    hook::clear_scan_gradient(worker.variant);
    const Index selecting = projection_ ? -1 : hook::selecting_head(worker.variant);
    const auto keys_of = [&](Index h) {
      return sides_.key_side(lane.grads, b, problem_.key_head(h), block.first);
    };
    for (Index h = 0; h < problem_.heads; ++h) {
      StripOf& strip = lane.strips[h * blocks_ + i];
      if (h != selecting && overlap(strip.hull, block))
        worker.tile(strip, sides_.row_side(b, h, i), keys_of(h));
    }
    if (selecting >= 0)
      worker.selecting_tile(lane.selectors[i], lane.strips[selecting * blocks_ + i],
                            sides_.row_side(b, selecting, i), keys_of(selecting));
    else
      worker.selecting_tile(lane.selectors[i], projection_.row_side(b, 0, i),
                            projection_.key_side(lane.grad_projection_keys, b, 0, block.first));
  }

  BackwardTensors<T> x_;
  const V& variant_;
  Problem problem_;
  bool carries_ = false, bounds_hold_ = false, drops_ = false;
  double negligible_ = 0;
  Index blocks_ = 0, key_blocks_ = 0, task_heads_ = 1;
  GradientSides<T, B> sides_;
  ProjectionSides<T, B> projection_;
  Turns turns_;
  ScoreBounds<T> bounds_;
  double* dropped_ = nullptr;  ///< [B][key blocks] what rows may lose of each
};

}  // namespace detail
}  // namespace heed::inline HEED_ABI
