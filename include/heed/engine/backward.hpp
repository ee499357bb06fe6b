// SPDX-License-Identifier: MIT
/// @file The fused backward pass: the forward loop nest, keys outermost, rows the other way.
#pragma once

#include "heed/engine/forward.hpp"
#include "heed/engine/gradient_worker.hpp"
#include "heed/engine/turns.hpp"

#include <numeric>

namespace heed::inline HEED_ABI {

namespace detail {

/// What a backward call reads and writes.
template <class T>
struct BackwardTensors {
  View<const T, 4> q, k, v, out, grad_out;
  View<const T, 3> lse;
  View<T, 4> grad_q, grad_k, grad_v;
};

template <class T, class B, Stage V>
class BackwardPass {
  using Tile = Tiles<T, B>;
  using Bound = decltype(bound<T>(std::declval<const V&>(), std::declval<const Problem&>(),
                                  std::declval<Arena&>()));
  static_assert(Hooks<Bound, T>, "heed: a hook of a stage has the wrong signature");
  using WorkerOf = GradientWorker<T, B, Bound>;
  using StripOf = Strip<T, B>;

 public:
  BackwardPass(const BackwardTensors<T>& x, const V& variant)
      : x_(x), variant_(variant), problem_(problem_of(common_shape(x.q, x.k, x.v), variant)) {
    problem_.backward = true;
    const Shape& s = problem_;
    check_outputs(s, View<T, 4>(const_cast<T*>(x.out.data()), x.out.dims(), x.out.strides()), {});
    expect_dims("lse", x.lse.dims(), {s.batch, s.heads, s.queries}, "one number per row of q");
    expect_dims("grad_out", x.grad_out.dims(), x.out.dims(), "the dimensions of out");
    expect_dims("grad_q", x.grad_q.dims(), x.q.dims(), "the dimensions of q");
    expect_dims("grad_k", x.grad_k.dims(), x.k.dims(), "the dimensions of k");
    expect_dims("grad_v", x.grad_v.dims(), x.v.dims(), "the dimensions of v");
    expect_contiguous_rows("grad_out", x.grad_out);
    expect_contiguous_rows("grad_q", View<const T, 4>(x.grad_q));
    expect_contiguous_rows("grad_k", View<const T, 4>(x.grad_k));
    expect_contiguous_rows("grad_v", View<const T, 4>(x.grad_v));
  }

  Visited run(const Options& options) {
    negligible_ = negligible_weight<T>(options);
    if (problem_.batch == 0 || problem_.heads == 0) return clear_all();
    const Index workers = std::max<Index>(options.executor.workers(), 1);
    plan();
    drops_ = carries_ && negligible_ > 0 && ScoreBounds<T>::hold(variant_, problem_);
    Arena measure;
    layout(measure, workers);
    Workspace own;
    Workspace& workspace = options.workspace ? *options.workspace : own;
    Arena arena(workspace.reserve(measure.used()));
    Lane* lanes = layout(arena, workers);

    Bound& leader = lanes[0].worker.variant;
    leader.clear_gradients();
    pack(leader, options.executor);
    const bool shares =
        leader.shares_gradients() || (carries_ && leader.shares_gradients_over_keys());
    const Executor executor = shares ? serial() : options.executor;
    if (carries_)
      attend_in_turns(lanes, executor);
    else
      executor(problem_.batch * problem_.key_heads,
               [&](Index task, Index w) { attend(lanes[w], task); });
    executor(problem_.batch * problem_.heads,
             [&](Index task, Index w) { finish_queries(lanes[w].worker.variant, task); });
    finish_sinks(leader);

    Visited visited;
    for (Index w = 0; w < workers; ++w) visited += lanes[w].worker.visited;
    for (Index b = 0; drops_ && b < problem_.batch; ++b)
      visited.dropped = std::max(
          visited.dropped,
          std::accumulate(dropped_ + b * key_blocks_, dropped_ + (b + 1) * key_blocks_, 0.));
    return visited;
  }

 private:
  /// There is nothing to sum up.
  Visited clear_all() {
    Arena measure;
    bound<T>(variant_, problem_, measure);
    Workspace workspace;
    Arena arena(workspace.reserve(measure.used()));
    bound<T>(variant_, problem_, arena).clear_gradients();
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
    T *grad_keys, *grad_values, *grad_selecting_keys;
    T* carries;   ///< [row blocks][block_keys]
    T* falling;   ///< what falling() gave
    Index batch;  ///< the batch entry all this is about, or −1
  };

  void plan() {
    carries_ = false;
    if constexpr (V::carries_rows) {
      Arena measure;
      carries_ = bound<T>(variant_, problem_, measure).selecting_head() >= 0;
    }
    blocks_ = (problem_.queries + Tile::block_rows - 1) / Tile::block_rows;
    columns_ = round_up(problem_.dim, simd::width<T>);
    value_columns_ = round_up(problem_.value_dim, simd::width<T>);
    key_blocks_ = (problem_.keys + Tile::block_keys - 1) / Tile::block_keys;
    task_heads_ = carries_ ? problem_.heads : problem_.group();
  }
  bool projects() const { return bool(projection_.queries); }

  Lane* layout(Arena& arena, Index workers) {
    Lane* lanes = arena.take<Lane>(workers);
    const Index key_heads = carries_ ? problem_.key_heads : 1;
    for (Index w = 0; w < workers; ++w) {
      Bound variant = bound<T>(variant_, problem_, arena);
      if (w == 0) layout_shared(variant, arena);
      WorkerOf worker(problem_, std::move(variant), arena);
      Lane lane{std::move(worker),
                arena.take<StripOf>(task_heads_ * blocks_),
                arena.take<StripOf>(carries_ ? blocks_ : 0),
                arena.take<T>(key_heads * Tile::block_keys * columns_),
                arena.take<T>(key_heads * Tile::block_keys * value_columns_),
                arena.take<T>(projects() ? Tile::block_keys * selecting_columns_ : 0),
                arena.take<T>(carries_ ? blocks_ * Tile::block_keys : 0),
                nullptr,
                -1};
      for (Index s = 0; s < task_heads_ * blocks_; ++s) {
        const StripOf strip = StripOf::scoring(problem_.dim, arena);
        if (!arena.measuring()) new (lane.strips + s) StripOf(strip);
      }
      for (Index s = 0; carries_ && s < blocks_; ++s) {
        const StripOf strip =
            StripOf::scoring(projects() ? projection_.queries.dim(2) : problem_.dim, arena);
        if (!arena.measuring()) new (lane.selectors + s) StripOf(strip);
      }
      if (!arena.measuring()) new (lanes + w) Lane(std::move(lane));
    }
    return lanes;
  }

  void layout_shared(const Bound& variant, Arena& arena) {
    const Index rows = Tile::block_rows, padded = blocks_ * rows, group = Tile::group_rows;
    queries_ = PackedPanels<T>(x_.q, group, rows, arena);
    query_rows_ = PackedRows<T>(x_.q, true, rows, arena);
    keys_ = PackedPanels<T>(x_.k, Tile::panel_keys, Tile::block_keys, arena);
    key_rows_ = PackedRows<T>(x_.k, true, Tile::block_keys, arena);
    values_ = PackedPanels<T>(x_.v, Tile::panel_keys, Tile::block_keys, arena);
    grads_ = PackedPanels<T>(x_.grad_out, group, rows, arena);
    grad_rows_ = PackedRows<T>(x_.grad_out, false, rows, arena);
    delta_ = arena.take<T>(problem_.batch * problem_.heads * padded);
    grad_queries_ = arena.take<T>(problem_.batch * problem_.heads * padded * columns_);
    if (carries_) turns_ = Turns(problem_.batch * blocks_, arena);
    if (drops_) {
      bounds_ = ScoreBounds<T>(problem_, negligible_, Tile::block_rows, arena);
      dropped_ = arena.take<double>(problem_.batch * key_blocks_);
    }
    projection_ = carries_ ? variant.template projection<T>() : Projection<T>{};
    if (!projects()) return;
    const View<const T, 4> q = as_one_head(projection_.queries), k = as_one_head(projection_.keys);
    selecting_columns_ = round_up(q.dim(3), simd::width<T>);
    selecting_queries_ = PackedPanels<T>(q, group, rows, arena);
    selecting_query_rows_ = PackedRows<T>(q, true, rows, arena);
    selecting_keys_ = PackedPanels<T>(k, Tile::panel_keys, Tile::block_keys, arena);
    selecting_key_rows_ = PackedRows<T>(k, true, Tile::block_keys, arena);
    grad_selecting_queries_ = arena.take<T>(problem_.batch * padded * selecting_columns_);
  }

  Row row_at(Index b, Index h, Index i) const { return {b, h, i, problem_.query_offset + i}; }

  void pack(const Bound& variant, const Executor& executor) {
    const auto all = [&](const auto& packed, auto&& factor) {
      executor(packed.tasks(), [&](Index task, Index) { packed.pack(task, factor); });
    };
    const auto one = [](Index, Index, Index) { return T(1); };
    all(queries_, [&](Index b, Index h, Index i) {
      return variant.query_factor(simd::log2e<T>, row_at(b, h, i));
    });
    all(query_rows_,
        [&](Index b, Index h, Index i) { return variant.query_factor(T(1), row_at(b, h, i)); });
    const auto key_factor = [&](Index b, Index g, Index j) {
      return variant.key_factor(T(1), b, g, j);
    };
    all(keys_, key_factor);
    all(key_rows_, key_factor);
    all(values_, [&](Index b, Index g, Index j) { return variant.value_factor(T(1), b, g, j); });
    all(grads_, one);
    all(grad_rows_, one);
    if (projects()) {
      const T scale = 1 / std::sqrt(T(projection_.queries.dim(2)));
      all(selecting_queries_, [&](Index, Index, Index) { return scale * simd::log2e<T>; });
      all(selecting_query_rows_, [&](Index, Index, Index) { return scale; });
      all(selecting_keys_, one);
      all(selecting_key_rows_, one);
      std::fill_n(grad_selecting_queries_,
                  problem_.batch * blocks_ * Tile::block_rows * selecting_columns_, T(0));
    }
    if (drops_) bounds_.measure(x_.q, x_.k, variant, executor, [](Index) -> T* { return nullptr; });
    executor(problem_.batch * problem_.heads, [&](Index task, Index) {
      const Index h = task % problem_.heads, b = task / problem_.heads,
                  padded = blocks_ * Tile::block_rows;
      std::fill_n(grad_queries_ + task * padded * columns_, padded * columns_, T(0));
      for (Index i = 0; i < problem_.queries; ++i) {
        // A row that saw nothing takes no gradient, whatever stands there.
        T sum = 0;
        if (x_.lse(b, h, i) > hidden_below<T>)
          for (Index d = 0; d < problem_.value_dim; ++d)
            if (const T out = x_.out(b, h, i, d); out != T(0)) sum += x_.grad_out(b, h, i, d) * out;
        delta_[task * padded + i] = sum;
      }
    });
  }

  /// The strips of one head, their lse in place.
  void place(const Bound& variant, StripOf* strips, Index b, Index h) {
    for (Index i = 0; i < blocks_; ++i) {
      const Index row = i * Tile::block_rows,
                  rows = std::min(Tile::block_rows, problem_.queries - row);
      StripOf& s = strips[i];
      s.place(problem_, variant, b, h, 1, row, rows);
      s.queries = queries_(b, h) + row * problem_.dim;
      for (Index r = 0; r < Tile::block_rows; ++r) {
        const T lse = r < rows ? x_.lse(b, h, row + r) * simd::log2e<T> : hidden<T>;
        s.max[r] = lse > hidden_below<T> ? lse : std::numeric_limits<T>::max() / 2;
      }
    }
  }
  void place_selector(const Bound& variant, StripOf* strips, Index b) {
    const Index head = variant.selecting_head();
    if (!projects()) return place(variant, strips, b, head);
    for (Index i = 0; i < blocks_; ++i) {
      const Index row = i * Tile::block_rows;
      strips[i].place(problem_, variant, b, head, 1, row,
                      std::min(Tile::block_rows, problem_.queries - row));
      strips[i].queries = selecting_queries_(b, 0) + row * projection_.queries.dim(2);
    }
  }

  RowSide<T> row_side(Index b, Index h, Index block) const {
    const Index row = block * Tile::block_rows, which = b * problem_.heads + h,
                padded = blocks_ * Tile::block_rows;
    return {grads_(b, h) + row * problem_.value_dim, grad_rows_(b, h).from(row, Tile::block_rows),
            query_rows_(b, h).from(row, Tile::block_rows), delta_ + which * padded + row,
            grad_queries_ + (which * padded + row) * columns_};
  }
  RowSide<T> selecting_row_side(Index b, Index block) const {
    const Index row = block * Tile::block_rows;
    return {nullptr,
            {},
            selecting_query_rows_(b, 0).from(row, Tile::block_rows),
            nullptr,
            grad_selecting_queries_ + (b * blocks_ * Tile::block_rows + row) * selecting_columns_};
  }
  KeySide<T> key_side(const Lane& lane, Index b, Index g, Index first, Index slot) const {
    const Index last = std::min(first + Tile::block_keys, problem_.keys);
    return {WorkerOf::block(keys_.store(b, g), first, last), values_(b, g), key_rows_(b, g),
            lane.grad_keys + slot * Tile::block_keys * columns_,
            lane.grad_values + slot * Tile::block_keys * value_columns_};
  }
  void clear(const Lane& lane, Index slots) const {
    std::fill_n(lane.grad_keys, slots * Tile::block_keys * columns_, T(0));
    std::fill_n(lane.grad_values, slots * Tile::block_keys * value_columns_, T(0));
  }
  static bool overlap(const KeyRange& a, const KeyBlock<T>& b) {
    return a.first < b.last && b.first < a.last;
  }

  /// A variant that carries nothing: the heads of one key head.
  void attend(Lane& lane, Index task) {
    const Index b = task / problem_.key_heads, g = task % problem_.key_heads;
    WorkerOf& worker = lane.worker;
    worker.variant.begin(b, false);
    for (Index h = 0; h < task_heads_; ++h)
      place(worker.variant, lane.strips + h * blocks_, b, g * task_heads_ + h);
    for (Index first = 0; first < problem_.keys; first += Tile::block_keys) {
      clear(lane, 1);
      const KeySide<T> side = key_side(lane, b, g, first, 0);
      for (Index i = blocks_; i-- > 0;)
        for (Index h = 0; h < task_heads_; ++h) {
          StripOf& strip = lane.strips[h * blocks_ + i];
          if (overlap(strip.hull, side.keys))
            worker.tile(strip, row_side(b, g * task_heads_ + h, i), side);
        }
      worker.variant.end_gradients(side.keys.first, side.keys.last - side.keys.first);
      finish_keys(worker.variant, b, g, side);
    }
    worker.variant.end();
  }

  /// A variant that carries: key blocks in parallel, one behind the other, since all of them add to
  /// the gradients of the queries. Taken in order, none waits for one that nobody has begun.
  void attend_in_turns(Lane* lanes, const Executor& executor) {
    std::atomic<Index> next{0};
    const Index tasks = problem_.batch * key_blocks_;
    executor(std::max<Index>(executor.workers(), 1), [&](Index, Index w) {
      Lane& lane = lanes[w];
      for (Index task; (task = next.fetch_add(1, std::memory_order_relaxed)) < tasks;)
        attend_key_block(lane, task / key_blocks_, task % key_blocks_);
      leave(lane);
    });
    if (projects())
      for (Index b = 0; b < problem_.batch; ++b)
        finish_selecting_queries(lanes[0].worker.variant, b);
  }

  void enter(Lane& lane, Index b) {
    if (lane.batch == b) return;
    leave(lane);
    lane.batch = b;
    Bound& variant = lane.worker.variant;
    variant.begin(b, false);
    for (Index h = 0; h < problem_.heads; ++h) place(variant, lane.strips + h * blocks_, b, h);
    place_selector(variant, lane.selectors, b);
    lane.falling =
        drops_ && values_are_finite(b) ? variant.template falling<T>(bounds_.least()) : nullptr;
  }
  void leave(Lane& lane) {
    if (lane.batch >= 0) lane.worker.variant.end();
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
    clear(lane, problem_.key_heads);
    if (projects())
      std::fill_n(lane.grad_selecting_keys, Tile::block_keys * selecting_columns_, T(0));
    const Index first = index * Tile::block_keys,
                last = std::min(first + Tile::block_keys, problem_.keys);
    const Index selecting = problem_.key_head(variant.selecting_head());
    const KeyBlock<T> block = WorkerOf::block(
        projects() ? selecting_keys_.store(b, 0) : keys_.store(b, selecting), first, last);
    const Index alive = descend(lane, b, block);
    if (drops_)
      dropped_[b * key_blocks_ + index] = alive < blocks_ ? weight(lane, b, alive, block) : 0;

    variant.begin_gradients(first, last - first);
    for (Index i = blocks_; i-- > 0;) {
      turns_.wait(b * blocks_ + i, index);
      if (i < alive && met(lane, i, block)) {
        if (i + 1 < alive) {  // else descend() ended here
          variant.restore(first, last - first, lane.carries + i * Tile::block_keys);
          worker.select(lane.selectors[i], block, projects());
        }
        ascend(lane, b, block, i);
      }
      turns_.pass(b * blocks_ + i);
    }
    variant.end_gradients(first, last - first);
    for (Index g = 0; g < problem_.key_heads; ++g)
      finish_keys(variant, b, g, key_side(lane, b, g, first, g));
    if (projects()) finish_selecting_keys(variant, lane, b, first, last);
  }

  /// Does anybody look at this block from these rows?
  bool met(const Lane& lane, Index i, const KeyBlock<T>& block) const {
    bool any = lane.worker.variant.wants_skipped() || overlap(lane.selectors[i].hull, block);
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
      worker.variant.save(block.first, block.last - block.first,
                          lane.carries + i * Tile::block_keys);
      worker.select(lane.selectors[i], block, projects());
    }
    return i;
  }

  /// All heads on one tile, the selecting one last.
  void ascend(Lane& lane, Index b, const KeyBlock<T>& block, Index i) {
    WorkerOf& worker = lane.worker;
    worker.variant.clear_carried_gradient();
    const Index selecting = projects() ? -1 : worker.variant.selecting_head();
    const auto keys_of = [&](Index h) {
      return key_side(lane, b, problem_.key_head(h), block.first, problem_.key_head(h));
    };
    for (Index h = 0; h < problem_.heads; ++h) {
      StripOf& strip = lane.strips[h * blocks_ + i];
      if (h != selecting && overlap(strip.hull, block))
        worker.tile(strip, row_side(b, h, i), keys_of(h));
    }
    if (selecting >= 0)
      worker.selecting_tile(lane.selectors[i], lane.strips[selecting * blocks_ + i],
                            row_side(b, selecting, i), keys_of(selecting));
    else
      worker.selecting_tile(
          lane.selectors[i], selecting_row_side(b, i),
          {block, nullptr, selecting_key_rows_(b, 0), lane.grad_selecting_keys, nullptr});
  }

  /// grad ← factor · gathered; the factor's own gradient is gathered · x.
  template <class Grad, class Factor>
  static void finish_row(const T* gathered, const T* x, T* grad, Index dim, Factor&& factor,
                         Grad&& grad_factor) {
    T dot = 0;
    // What nobody saw gathered nought, and may be NaN.
    for (Index d = 0; d < dim; ++d)
      if (gathered[d] != T(0)) dot += gathered[d] * x[d];
    grad_factor(dot);
    const T scale = factor();
    for (Index d = 0; d < dim; ++d) grad[d] = gathered[d] == T(0) ? T(0) : scale * gathered[d];
  }

  void finish_keys(Bound& variant, Index b, Index g, const KeySide<T>& side) {
    for (Index j = side.keys.first; j < side.keys.last; ++j) {
      const Index r = j - side.keys.first;
      finish_row(
          side.grad_keys + r * columns_, &x_.k(b, g, j, 0), &x_.grad_k(b, g, j, 0), problem_.dim,
          [&] { return variant.key_factor(T(1), b, g, j); },
          [&](T dot) { variant.grad_key_factor(dot, b, g, j); });
      if (problem_.value_dim > 0)
        finish_row(
            side.grad_values + r * value_columns_, &x_.v(b, g, j, 0), &x_.grad_v(b, g, j, 0),
            problem_.value_dim, [&] { return variant.value_factor(T(1), b, g, j); },
            [&](T dot) { variant.grad_value_factor(dot, b, g, j); });
    }
  }

  void finish_queries(Bound& variant, Index task) {
    const Index b = task / problem_.heads, h = task % problem_.heads,
                padded = blocks_ * Tile::block_rows;
    for (Index i = 0; i < problem_.queries; ++i) {
      const Row row = row_at(b, h, i);
      finish_row(
          grad_queries_ + (task * padded + i) * columns_, &x_.q(b, h, i, 0), &x_.grad_q(b, h, i, 0),
          problem_.dim, [&] { return variant.query_factor(T(1), row); },
          [&](T dot) { variant.grad_query_factor(dot, row); });
    }
  }

  void finish_selecting_keys(const Bound& variant, const Lane& lane, Index b, Index first,
                             Index last) {
    const View<T, 3> to = variant.template grad_projection<T>().keys;
    for (Index j = first; to && j < last; ++j)
      for (Index d = 0; d < to.dim(2); ++d)
        to(b, j, d) = lane.grad_selecting_keys[(j - first) * selecting_columns_ + d];
  }
  void finish_selecting_queries(const Bound& variant, Index b) {
    const View<T, 3> to = variant.template grad_projection<T>().queries;
    const T scale = 1 / std::sqrt(T(projection_.queries.dim(2)));
    for (Index i = 0; to && i < problem_.queries; ++i)
      for (Index d = 0; d < to.dim(2); ++d)
        to(b, i, d) =
            scale *
            grad_selecting_queries_[(b * blocks_ * Tile::block_rows + i) * selecting_columns_ + d];
  }

  /// A sink is a key without a value: its weight times what the row's softmax sends back.
  void finish_sinks(Bound& variant) {
    for (Index b = 0; b < problem_.batch; ++b)
      for (Index h = 0; h < problem_.heads; ++h) {
        const T sink = variant.sink(hidden<T>, b, h);
        if (sink < hidden_below<T>) continue;
        double sum = 0;
        for (Index i = 0; i < problem_.queries; ++i)
          sum -= std::exp(double(sink) - double(x_.lse(b, h, i))) *
                 double(delta_[(b * problem_.heads + h) * blocks_ * Tile::block_rows + i]);
        variant.grad_sink(T(sum), b, h);
      }
  }

  BackwardTensors<T> x_;
  const V& variant_;
  Problem problem_;
  bool carries_ = false, drops_ = false;
  double negligible_ = 0;
  Index blocks_ = 0, key_blocks_ = 0, columns_ = 0, value_columns_ = 0, selecting_columns_ = 0,
        task_heads_ = 1;
  Turns turns_;
  ScoreBounds<T> bounds_;
  double* dropped_ = nullptr;  ///< [B][key blocks] what rows may lose of each
  Projection<T> projection_;
  PackedPanels<T> queries_, keys_, values_, grads_, selecting_queries_, selecting_keys_;
  PackedRows<T> query_rows_, key_rows_, grad_rows_, selecting_query_rows_, selecting_key_rows_;
  T *delta_ = nullptr, *grad_queries_ = nullptr, *grad_selecting_queries_ = nullptr;
};

}  // namespace detail

/// The gradients of forward(): from ∂L/∂out to ∂L/∂q, ∂L/∂k, ∂L/∂v, and those of the stages' own
/// tensors, where a stage was told where to (`bias(x).grad(to)`, `query_temperature(tau).grad(to)`,
/// `selective.carry_in(x).grad_carry_in(to)` …).
///
/// @param q, k, v, variant  as forward() got them.
/// @param out, lse          as forward() left them.
/// @param grad_out          [B, H, Nq, Dv]; ignored in rows that see no key.
/// @param grad_q, grad_k, grad_v  of the dimensions of q, k and v, overwritten; overlap nothing.
/// @return what was computed; keys that selection masked for good are left out by whole blocks, see
///         Options::negligible.
/// @throws ShapeError, ValueError before anything is written.
/// @note 2.5 times the forward pass' FLOP; memory O(B (H Nq + G Nk) (D + Dv)), nothing N × N.
///       Weights are computed again, tile by tile. Key heads run in parallel, or key blocks where a
///       variant carries rows; bit for bit the same for any number of threads.
template <class Q, class K, class V, Stage Variant, class Out, class Lse, class GradOut,
          class GradQ, class GradK, class GradV>
Visited backward(const Q& q, const K& k, const V& v, const Variant& variant, const Out& out,
                 const Lse& lse, const GradOut& grad_out, GradQ&& grad_q, GradK&& grad_k,
                 GradV&& grad_v, const Options& options = {}) {
  using T = ScalarOf<Q>;
  static_assert(std::is_same_v<T, float> || std::is_same_v<T, double>, "heed: float or double");
  detail::BackwardTensors<T> tensors{
      View<const T, 4>(q),   View<const T, 4>(k),        View<const T, 4>(v),
      View<const T, 4>(out), View<const T, 4>(grad_out), View<const T, 3>(lse),
      View<T, 4>(grad_q),    View<T, 4>(grad_k),         View<T, 4>(grad_v)};
  return detail::BackwardPass<T, BackwardBlocking<T>, Variant>(tensors, variant).run(options);
}

}  // namespace heed::inline HEED_ABI
