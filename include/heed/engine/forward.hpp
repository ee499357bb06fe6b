// SPDX-License-Identifier: MIT
/// @file The fused forward pass: one loop nest for every variant.
#pragma once

#include "heed/core/executor.hpp"
#include "heed/engine/fresh_keys.hpp"
#include "heed/engine/live_keys.hpp"
#include "heed/engine/worker.hpp"

#include <algorithm>
#include <optional>

namespace heed::inline HEED_ABI {

/// How a call runs; what it computes does not depend on it, but for `negligible`.
struct Options {
  Executor executor{};             ///< Whose threads; serial() by default.
  Workspace* workspace = nullptr;  ///< Kept between calls, saves taking memory in each.
  /// Softmax weight that may be lost from a row, of 1 in all: keys that selection has masked so
  /// much that no row to come can give all of them together more are dropped from the work. By
  /// default half a unit in the last place of 1, 6e-8 for float; 0 drops nothing. backward() leaves
  /// out whole blocks of such keys, of gradients that carry no more of the weight.
  std::optional<double> negligible{};
};

namespace detail {

/// What the variant makes of the shapes.
template <Stage V>
Problem problem_of(const Shape& shape, const V& variant) {
  Problem p{shape};
  const std::optional<Index> offset = variant.query_offset(shape);
  p.placed = offset.has_value();
  p.query_offset = offset.value_or(0);
  p.same_tokens = variant.same_tokens();
  variant.check(p);
  return p;
}

/// [B, N, D] as [B, 1, N, D].
template <class T>
View<const T, 4> as_one_head(const View<const T, 3>& x) {
  return {x.data(), {x.dim(0), 1, x.dim(1), x.dim(2)}, {x.stride(0), 0, x.stride(1), x.stride(2)}};
}

/// Options::negligible, or what it is by default.
template <class T>
double negligible_weight(const Options& options) {
  const double all = options.negligible.value_or(std::numeric_limits<T>::epsilon() / 2);
  if (!(0 <= all && all <= 1))
    throw ValueError("negligible is ", all, ", a share of a row's weight lies in 0 … 1");
  return all;
}

/// One forward call, or the part of it that `weights` repeats.
template <class T, class B, Stage V>
class Pass {
  using Tile = Tiles<T, B>;
  using Bound = decltype(bound<T>(std::declval<const V&>(), std::declval<const Problem&>(),
                                  std::declval<Arena&>()));
  static_assert(Hooks<Bound, T>, "heed: a hook of a stage has the wrong signature");
  using WorkerOf = Worker<T, B, Bound>;
  using StripOf = Strip<T, B>;
  using Packed = typename Tile::Packed;
  using Block = KeyBlock<T, Packed>;
  using Room = PanelRoom<T, Packed>;

 public:
  Pass(const Tokens<T>& q, const Tokens<T>& k, const Tokens<T>& v, const V& variant)
      : q_(q),
        k_(k),
        v_(v),
        variant_(variant),
        problem_(problem_of(common_shape(q, k, v), variant)) {
    k.check("the scale of k"), v.check("the scale of v");
  }

  const Problem& problem() const { return problem_; }

  Visited run(const View<T, 4>& out, const View<T, 3>& lse, const Options& options) {
    negligible_ = negligible_weight<T>(options);
    if (problem_.batch == 0 || problem_.heads == 0) return {};
    const Index workers = std::max<Index>(options.executor.workers(), 1);
    plan(workers);
    plan_spans();
    drops_ = carries_ && negligible_ > 0 && ScoreBounds<T>::hold(variant_, problem_);

    Arena measure;
    layout(measure, workers);
    Workspace own;
    Workspace& workspace = options.workspace ? *options.workspace : own;
    Arena arena(workspace.reserve(measure.used()));
    Lane* lanes = layout(arena, workers);

    if (spans_ == 1) {
      options.executor(tasks_, [&](Index task, Index worker) {
        StripOf& strip = lanes[worker].strips[0];
        attend_span(lanes[worker], task, strip);
        strip.finish(out, lse);
      });
    } else if (spans_ > 1) {
      options.executor(tasks_ * spans_, [&](Index task, Index worker) {
        attend_span(lanes[worker], task, gathered_[task]);
      });
      options.executor(tasks_, [&](Index task, Index) {
        StripOf& all = gathered_[task * spans_];
        for (Index span = 1; span < spans_; ++span) all.add(gathered_[task * spans_ + span]);
        all.finish(out, lse);
      });
    } else {
      pack(lanes, options.executor);
      options.executor(tasks_, [&](Index task, Index worker) {
        if (carries_)
          descend(lanes[worker], task, out, lse);
        else
          attend_rows(lanes[worker], task, out, lse);
      });
    }

    Visited visited;
    for (Index w = 0; w < workers; ++w) visited += lanes[w].worker.visited;
    return visited;
  }

  /// Softmax weights of rows [row, row + rows) of one head, their lse known, to out [rows, Nk].
  void weigh(const View<const T, 3>& lse, Index batch, Index head, Index row, Index rows,
             const View<T, 2>& out) {
    plan(1);
    Arena measure;
    layout(measure, 1);
    Workspace workspace;
    Arena arena(workspace.reserve(measure.used()));
    Lane& lane = *layout(arena, 1);
    pack(&lane, serial());

    for (Index i = 0; i < rows; ++i)
      for (Index j = 0; j < problem_.keys; ++j) out(i, j) = T(0);
    WorkerOf& worker = lane.worker;
    worker.variant.begin(batch, false);
    // What is carried has to come down from the first row; without it only the rows' own blocks
    // run.
    const Index start = carries_ ? 0 : row / block_rows_ * block_rows_;
    for (Index i = start; i < row + rows; i += block_rows_) {
      const Index count = std::min(block_rows_, problem_.queries - i);
      StripOf& strip = lane.strips[0];
      place(lane, strip, batch, head, 1, i, count);
      for (Index r = 0; r < count; ++r) {
        const T known = lse(batch, head, i + r) * simd::log2e<T>;
        strip.max[r] = known > hidden_below<T> ? known : std::numeric_limits<T>::max() / 2;
      }
      if (carries_) place_selector(lane, batch, i, count);
      each_key_block(lane, 1, [&](const Block& selecting, Index first, Index last) {
        if (carries_) worker.select(lane.selector, selecting, projects());
        if (i + count <= row) return;
        worker.weigh_known(strip, WorkerOf::block(store(batch, head), first, last),
                           [&](Index r, const KeyRange& keys, const T* weights) {
                             if (const Index at = i + r - row; 0 <= at && at < rows)
                               for (Index j = keys.first; j < keys.last; ++j)
                                 out(at, j) = weights[j - keys.first];
                           });
      });
    }
  }

 private:
  /// One thread's scratch.
  struct Lane {
    WorkerOf worker;
    StripOf selector;
    StripOf* strips;
    LiveKeys<T, B> live;
    FreshKeys<T, B> fresh;
    Room room;  ///< for a panel
  };

  void plan(Index workers) {
    carries_ = false;
    if constexpr (V::carries_rows) carries_ = variant_selects();
    block_rows_ = std::clamp<Index>(problem_.queries, 1, Tile::block_rows);
    blocks_ = (problem_.queries + block_rows_ - 1) / block_rows_;
    // Few queries: heads that share a key head go together, so that its keys are read once.
    strip_heads_ = std::clamp<Index>(Tile::block_rows / block_rows_, 1, problem_.group());
    while (problem_.group() % strip_heads_ != 0) --strip_heads_;
    const Index strips = problem_.heads / strip_heads_;
    if (carries_) {
      // A chain of row blocks for each share of the heads; each share works out the selecting
      // head's scores for itself, so that no thread waits for another.
      shares_ = std::clamp<Index>((workers + problem_.batch - 1) / problem_.batch, 1, strips);
      strips_per_lane_ = (strips + shares_ - 1) / shares_;
      tasks_ = problem_.batch * shares_;
    } else {
      strips_per_lane_ = 1;
      tasks_ = problem_.batch * strips * blocks_;
    }
  }

  /// Few queries, all in one strip for each key head: keys are read once, and packing them
  /// beforehand would read them three times. Long ones are cut into spans, whose number depends on
  /// nothing but the sizes, so that there is work for some threads.
  void plan_spans() {
    if (carries_ || blocks_ != 1 || strip_heads_ != problem_.group()) return;
    constexpr Index enough_tasks = 16, least_blocks = 8;
    const Index blocks = (problem_.keys + Tile::block_keys - 1) / Tile::block_keys,
                most = std::max<Index>(enough_tasks / tasks_, 1);
    spans_ = std::clamp<Index>(blocks / least_blocks, 1, most);
    span_keys_ = (blocks + spans_ - 1) / spans_ * Tile::block_keys;
  }

  bool variant_selects() const {
    Arena measure;
    return bound<T>(variant_, problem_, measure).selecting_head() >= 0;
  }
  bool projects() const { return bool(projection_.queries); }

  Lane* layout(Arena& arena, Index workers) {
    Lane* lanes = arena.take<Lane>(workers);
    for (Index w = 0; w < workers; ++w) {
      Bound variant = bound<T>(variant_, problem_, arena);
      projection_ = carries_ ? variant.template projection<T>() : Projection<T>{};
      const bool scales_values = variant.scales_values();
      const Index widest =
          std::max({problem_.dim, problem_.value_dim, projects() ? projection_.queries.dim(2) : 0});
      const Room room(std::max<Index>(Tile::panel_keys, Tile::group_rows), widest,
                      q_.in_place() && k_.in_place(), arena);
      FreshKeys<T, B> fresh;
      if (spans_ > 0) {
        fresh = FreshKeys<T, B>(k_, v_, scales_values, room, arena);
        if (w == 0 && spans_ > 1) gathered_ = strips_of(tasks_ * spans_, arena);
      } else if (w == 0) {
        keys_ = PackedPanels<T, Packed>(k_, Tile::panel_keys, Tile::block_keys, arena);
        values_ = PackedRows<T, Packed>(v_, scales_values, Tile::block_keys, arena);
        if (drops_) bounds_ = ScoreBounds<T>(problem_, negligible_, block_rows_, arena);
        if (projects())
          selecting_keys_ = PackedPanels<T, Packed>(as_one_head(projection_.keys), Tile::panel_keys,
                                                    Tile::block_keys, arena);
      }
      WorkerOf worker(problem_, std::move(variant), arena);
      StripOf selector;
      if (carries_)
        selector = StripOf(projects() ? projection_.queries.dim(2) : problem_.dim, 0, arena);
      StripOf* strips = strips_of(spans_ > 1 ? 0 : strips_per_lane_, arena);
      LiveKeys<T, B> live;
      if (drops_) {
        const Index heads = strips_per_lane_ * strip_heads_, group = problem_.group();
        // Their own key heads, and the selecting head's.
        live = LiveKeys<T, B>(problem_,
                              std::min((heads + group - 2) / group + 2, problem_.key_heads), arena);
      }
      if (!arena.measuring())
        new (lanes + w) Lane{std::move(worker), selector, strips, live, fresh, room};
    }
    return lanes;
  }
  StripOf* strips_of(Index count, Arena& arena) const {
    StripOf* strips = arena.take<StripOf>(count);
    for (Index s = 0; s < count; ++s) {
      const StripOf strip(problem_.dim, problem_.value_dim, arena);
      if (!arena.measuring()) new (strips + s) StripOf(strip);
    }
    return strips;
  }

  void place(Lane& lane, StripOf& strip, Index batch, Index head, Index heads, Index row,
             Index rows) {
    const Bound& variant = lane.worker.variant;
    strip.place(problem_, variant, batch, head, heads, row, rows);
    strip.pack(
        [&](const Row& r, Index i) {
          return q_.row(r.batch, r.head, r.index, lane.room.rows + i * problem_.dim);
        },
        [&](const Row& r) { return variant.query_factor(simd::log2e<T>, r); });
  }

  void place_selector(Lane& lane, Index batch, Index row, Index rows) {
    const Index head = lane.worker.variant.selecting_head();
    if (!projects()) return place(lane, lane.selector, batch, head, 1, row, rows);
    const View<const T, 3>& q = projection_.queries;
    const T scale = simd::log2e<T> / std::sqrt(T(q.dim(2)));
    lane.selector.place(problem_, lane.worker.variant, batch, head, 1, row, rows);
    lane.selector.pack([&](const Row& r, Index) { return q.row(r.batch, r.index); },
                       [&](const Row&) { return scale; });
  }

  KeyStore<T, Packed> selecting_store(Index batch, Index head) const {
    return projects() ? selecting_keys_.store(batch, 0) : store(batch, head);
  }

  KeyStore<T, Packed> store(Index batch, Index head) const {
    const Index key_head = problem_.key_head(head);
    return keys_.store(batch, key_head, values_(batch, key_head));
  }

  void pack(const Lane* lanes, const Executor& executor) {
    const Bound& variant = lanes[0].worker.variant;
    executor(keys_.tasks(), [&](Index task, Index worker) {
      keys_.pack(
          task, [&](Index b, Index g, Index j) { return variant.key_factor(T(1), b, g, j); },
          lanes[worker].room);
    });
    executor(values_.tasks(), [&](Index task, Index worker) {
      values_.pack(
          task, [&](Index b, Index g, Index j) { return variant.value_factor(T(1), b, g, j); },
          lanes[worker].room.rows);
    });
    if (projects())
      executor(selecting_keys_.tasks(), [&](Index task, Index worker) {
        selecting_keys_.pack(
            task, [](Index, Index, Index) { return T(1); }, lanes[worker].room);
      });
    if (drops_)
      bounds_.measure(q_, k_, variant, executor,
                      [&](Index worker) { return lanes[worker].room.rows; });
  }

  /// Calls visit(selecting block, first, last) for the key blocks that some strip or the selector
  /// sees. Where something selects, the last first: what lies far back is what was forgotten, and a
  /// maximum that starts near its end is rarely raised. Else the first, as memory is read fastest.
  template <class Visit>
  void each_key_block(Lane& lane, Index strips, Visit&& visit) {
    KeyRange hull{problem_.keys, 0};
    const auto widen = [&](const KeyRange& r) {
      if (r.first < r.last) hull = {std::min(hull.first, r.first), std::max(hull.last, r.last)};
    };
    for (Index s = 0; s < strips; ++s) widen(lane.strips[s].hull);
    KeyStore<T, Packed> selecting;
    if (carries_) {
      widen(lane.selector.hull);
      if (lane.worker.variant.wants_skipped()) hull = {0, problem_.keys};
      selecting = selecting_store(lane.selector.rows[0].batch, lane.selector.head);
    }
    if (hull.first >= hull.last) return;
    hull.first = std::max(hull.first, lane.live.boundary());
    const Index lowest = hull.first / Tile::block_keys,
                blocks = (hull.last - 1) / Tile::block_keys - lowest + 1;
    for (Index i = 0; i < blocks; ++i) {
      const Index first = (lowest + (carries_ ? blocks - 1 - i : i)) * Tile::block_keys,
                  last = std::min(first + Tile::block_keys, problem_.keys);
      visit(WorkerOf::block(selecting, first, last), first, last);
    }
  }

  /// Rows that carry nothing: one strip.
  void attend_rows(Lane& lane, Index task, const View<T, 4>& out, const View<T, 3>& lse) {
    const Index strips = problem_.heads / strip_heads_;
    // The last rows first: under a causal mask they are the longest, and short tasks even out the
    // end.
    const Index block = blocks_ - 1 - task / strips % blocks_, batch = task / strips / blocks_,
                head = task % strips * strip_heads_, row = block * block_rows_,
                rows = std::min(block_rows_, problem_.queries - row);
    WorkerOf& worker = lane.worker;
    StripOf& strip = lane.strips[0];
    worker.variant.begin(batch, true);
    place(lane, strip, batch, head, strip_heads_, row, rows);
    strip.clear(worker.variant);
    const KeyStore<T, Packed> keys = store(batch, head);
    each_key_block(lane, 1, [&](const Block&, Index first, Index last) {
      worker.attend(strip, WorkerOf::block(keys, first, last));
    });
    strip.finish(out, lse);
    worker.variant.end();
  }

  /// All rows of a strip on one span of the keys, to be gathered.
  void attend_span(Lane& lane, Index task, StripOf& strip) {
    const Index strip_index = task / spans_, span = task % spans_,
                strips = problem_.heads / strip_heads_, batch = strip_index / strips,
                head = strip_index % strips * strip_heads_;
    WorkerOf& worker = lane.worker;
    worker.variant.begin(batch, true);
    place(lane, strip, batch, head, strip_heads_, 0, problem_.queries);
    strip.clear(worker.variant, span == 0);
    const Index begin = std::max(strip.hull.first / Tile::block_keys * Tile::block_keys,
                                 span * span_keys_),
                end = std::min(strip.hull.last, (span + 1) * span_keys_);
    for (Index first = begin; first < end; first += Tile::block_keys)
      worker.attend(strip,
                    lane.fresh(worker.variant, batch, problem_.key_head(head), first,
                               std::min(first + Tile::block_keys, problem_.keys), strip.count));
    worker.variant.end();
  }

  /// A share of the heads of one batch entry, from the first row to the last.
  void descend(Lane& lane, Index task, const View<T, 4>& out, const View<T, 3>& lse) {
    const Index batch = task / shares_, share = task % shares_,
                strips = problem_.heads / strip_heads_, from = strips * share / shares_,
                to = strips * (share + 1) / shares_;
    WorkerOf& worker = lane.worker;
    worker.variant.begin(batch, share == 0);
    lane.live.begin();
    const Heads heads{from * strip_heads_, to * strip_heads_};
    T* const falling = drops_ && values_are_finite(batch)
                           ? worker.variant.template falling<T>(bounds_.least())
                           : nullptr;
    for (Index row = 0; row < problem_.queries; row += block_rows_) {
      const Index rows = std::min(block_rows_, problem_.queries - row);
      if (falling) drop(lane, falling, batch, row, heads);
      place_selector(lane, batch, row, rows);
      for (Index s = from; s < to; ++s) {
        StripOf& strip = lane.strips[s - from];
        place(lane, strip, batch, s * strip_heads_, strip_heads_, row, rows);
        strip.clear(worker.variant);
      }
      each_key_block(lane, to - from, [&](const Block& selecting, Index first, Index last) {
        worker.select(lane.selector, selecting, projects());
        for (Index s = from; s < to; ++s) {
          StripOf& strip = lane.strips[s - from];
          const bool selected = !projects() && strip.heads == 1 && strip.head == lane.selector.head;
          worker.attend(strip, WorkerOf::block(store(batch, strip.head), first, last), selected);
        }
      });
      if (lane.live.count() > 0) attend_live(lane, to - from, heads);
      for (Index s = from; s < to; ++s) lane.strips[s - from].finish(out, lse);
    }
    worker.variant.end();
  }

  /// Query heads [first, last) of a task.
  struct Heads {
    Index first, last;
  };

  /// Where a key head's live keys are: its own in order, then the selecting one, if it is another.
  Index slot(Index head, const Heads& heads) const {
    const Index g = problem_.key_head(head), first = problem_.key_head(heads.first),
                last = problem_.key_head(heads.last - 1);
    return first <= g && g <= last ? g - first : last + 1 - first;
  }

  bool values_are_finite(Index batch) const {
    bool all = true;
    for (Index g = 0; g < problem_.key_heads; ++g)
      for (Index first = 0; first < problem_.keys; first += Tile::block_keys)
        all &= values_(batch, g).finite[first / Tile::block_keys] != 0;
    return all;
  }

  /// Before a row block: drops the keys that are masked for good.
  void drop(Lane& lane, T* falling, Index batch, Index row, const Heads& heads) {
    const Index end = (problem_.query_offset + row) / Tile::block_keys * Tile::block_keys;
    if (!lane.live.drop(end, falling, bounds_, batch, row / block_rows_)) return;
    Visited& visited = lane.worker.visited;
    visited.dropped = std::max(visited.dropped, lane.live.dropped());
    const auto pack = [&](Index head) {
      const Index g = problem_.key_head(head);
      lane.live.pack(
          slot(head, heads), k_, batch, g,
          [&](Index key) { return lane.worker.variant.key_factor(T(1), batch, g, key); },
          values_(batch, g), lane.room);
    };
    for (Index h = heads.first; h < heads.last; h += problem_.group() - h % problem_.group())
      pack(h);
    const Index selecting = lane.worker.variant.selecting_head();
    if (selecting < heads.first || selecting >= heads.last) pack(selecting);
  }

  /// The keys that are left of those before LiveKeys::boundary(), which every row sees.
  void attend_live(Lane& lane, Index strips, const Heads& heads) {
    WorkerOf& worker = lane.worker;
    const Index count = worker.problem.keys = lane.live.count();
    lane.selector.see_all(count);
    for (Index s = 0; s < strips; ++s) lane.strips[s].see_all(count);
    const KeyStore<T, Packed> selecting = lane.live.store(slot(lane.selector.head, heads));
    for (Index first = (count - 1) / Tile::block_keys * Tile::block_keys; first >= 0;
         first -= Tile::block_keys) {
      const Index last = std::min(first + Tile::block_keys, count);
      worker.select(lane.selector, WorkerOf::block(selecting, first, last), false);
      for (Index s = 0; s < strips; ++s) {
        StripOf& strip = lane.strips[s];
        worker.attend(strip, WorkerOf::block(lane.live.store(slot(strip.head, heads)), first, last),
                      strip.heads == 1 && strip.head == lane.selector.head);
      }
    }
    worker.problem.keys = problem_.keys;
  }

  Tokens<T> q_, k_, v_;
  const V& variant_;
  Problem problem_;
  PackedPanels<T, Packed> keys_, selecting_keys_;
  PackedRows<T, Packed> values_;
  Projection<T> projection_;
  ScoreBounds<T> bounds_;
  bool carries_ = false, drops_ = false;
  double negligible_ = 0;
  Index block_rows_ = 0, blocks_ = 0, strip_heads_ = 1, shares_ = 1, strips_per_lane_ = 1,
        tasks_ = 0;
  Index spans_ = 0, span_keys_ = 0;  ///< where keys are packed when they are met; else 0 spans
  StripOf* gathered_ = nullptr;      ///< [tasks][spans]
};

template <class X>
inline constexpr bool is_of_bfloat16 = false;
template <class X>
requires TensorLike<X, 4>
inline constexpr bool is_of_bfloat16<X> = is_bfloat16<ScalarOf<X>>;

/// By what q, k and v are stored in.
template <class T, class... X>
using BlockingFor = std::conditional_t<simd::multiplies_bfloat16 && std::is_same_v<T, float> &&
                                           (is_of_bfloat16<X> && ...),
                                       Bfloat16Blocking, Blocking<T>>;

template <class T>
void check_outputs(const Shape& s, const View<T, 4>& out, const View<T, 3>& lse) {
  expect_dims("out", out.dims(), {s.batch, s.heads, s.queries, s.value_dim},
              "the heads and rows of q, the dim of v");
  expect_contiguous_rows("out", View<const T, 4>(out));
  if (lse) expect_dims("lse", lse.dims(), {s.batch, s.heads, s.queries}, "one number per row");
}

}  // namespace detail

/// Attention, fused and tiled, exact, in memory linear in the tokens:
///
///     out[b, h, i] = Σ_j w(i, j) v[b, g, j],   w(i, ·) = softmax over the keys i sees of
///                                              variant(q[b, h, i] · k[b, g, j])
///     lse[b, h, i] = log Σ_j exp variant(…)    (natural logarithm)
///
/// with g = h div (H / G). What the variant hides is not computed where a whole tile is hidden, and
/// never reaches a result, be it NaN. A row that sees no key is zero, its lse −∞.
///
/// T, float or double, is the number type of out and lse, and what is computed in. If q, k and v
/// are all of bfloat16 and this is compiled for AVX512_BF16, both products multiply bfloat16, as
/// does w, rounded to the nearest, and sum in float: twice the speed. All else stays in float.
///
/// @param q        [B, H, Nq, D], T or stored in 16 bits (Eigen::half, Eigen::bfloat16) and
///                 widened where it is read; finite where visible.
/// @param k        [B, G, Nk, D], H a multiple of G; likewise, or Quantized.
/// @param v        [B, G, Nk, Dv], likewise.
/// @param variant  a stage or several joined by `|`, such as `standard | causal | selective`.
/// @param out      [B, H, Nq, Dv], overwritten; overlaps none of the others.
/// @param lse      [B, H, Nq], overwritten.
/// @return what was computed, for comparison with what is visible.
/// @throws ShapeError, ValueError naming both sides; nothing is written then.
/// @note Time 2 (D + Dv) FLOP a visited pair; scratch O(B G Nk (D + Dv)) for packed keys and values
///       and O(Nk) a thread. Rows are independent and run in parallel unless a stage carries
///       something down them, when heads and batch entries do. So few queries that those of a key
///       head make one strip, 96 rows, read each key once: nothing is packed beforehand, up to 12
///       rows read keys and values as they are stored, and long ones are cut into spans that run
///       in parallel. Bit for bit the same for any number of threads.
template <class Q, TokensLike K, TokensLike V, Stage Variant, class Out, class Lse>
requires TensorLike<Q, 4> && TensorLike<Out, 4> && TensorLike<Lse, 3> Visited
forward(const Q& q, const K& k, const V& v, const Variant& variant, Out&& out, Lse&& lse,
        const Options& options = {}) {
  using T = ScalarOf<Out>;
  static_assert(
      StoredFor<Q, T> && StoredFor<K, T> && StoredFor<V, T> && std::is_same_v<T, ScalarOf<Lse>>,
      "heed: q, k, v, out and lse must have one number type, but q, k and v may also be "
      "stored in 16 bits, k and v be Quantized");
  static_assert(std::is_same_v<T, float> || std::is_same_v<T, double>, "heed: float or double");
  detail::Pass<T, detail::BlockingFor<T, Q, K, V>, Variant> pass(q, k, v, variant);
  const View<T, 4> to(out);
  const View<T, 3> lse_to(lse);
  detail::check_outputs(pass.problem(), to, lse_to);
  return pass.run(to, lse_to, options);
}

/// Without the log-sum-exp.
template <class Q, TokensLike K, TokensLike V, Stage Variant, class Out>
Visited forward(const Q& q, const K& k, const V& v, const Variant& variant, Out&& out,
                const Options& options = {}) {
  return forward(q, k, v, variant, out, View<ScalarOf<Out>, 3>{}, options);
}

}  // namespace heed::inline HEED_ABI
