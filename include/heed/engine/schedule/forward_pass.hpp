// SPDX-License-Identifier: MIT
/// @file The loops of the forward pass: one nest for every variant.
#pragma once

#include "heed/engine/options.hpp"
#include "heed/engine/pack/kv_packer.hpp"
#include "heed/engine/prune/compacted_keys.hpp"
#include "heed/engine/schedule/plan.hpp"
#include "heed/engine/schedule/score_ring.hpp"
#include "heed/engine/tile/forward_tile.hpp"

#include <algorithm>

namespace heed::inline HEED_ABI::detail {

/// One forward call, or the part of it that `weights` repeats.
template <class T, class B, Stage V>
class Pass {
  using Tile = Tiles<T, B>;
  using Bound = BoundOf<T, V>;
  static_assert(hook::well_formed<T, V, Bound>());
  using WorkerOf = Worker<T, B, Bound>;
  using StripOf = Strip<T, B>;
  using Packed = typename Tile::Packed;
  using Block = KeyBlock<T, Packed>;
  using Room = PanelRoom<T, Packed>;

 public:
  /// @param tensors  q, k and v, named; the variant's are added.
  Pass(const Tokens<T>& q, const Tokens<T>& k, const Tokens<T>& v, const V& variant,
       CallTensors* tensors = nullptr)
      : q_(q),
        k_(k),
        v_(v),
        variant_(variant),
        problem_(problem_of(common_shape(q, k, v), variant, tensors)) {
    k.check("k"), v.check("v");
  }

  const Problem& problem() const { return problem_; }

  Visited run(const View<T, 4>& out, const View<T, 3>& lse, const Options& options) {
    negligible_ = negligible_weight<T>(options.negligible);
    if (problem_.batch == 0 || problem_.heads == 0) return {};
    plan(options.executor.workers(problem_.batch * problem_.heads));
    const Index workers = options.executor.workers(most_tasks());
    drops_ = carries_ && negligible_ > 0 && bounds_hold_;

    Arena measure;
    layout(measure, workers);
    Workspace own;
    Workspace& workspace = options.workspace ? *options.workspace : own;
    Arena arena(workspace.reserve(measure.used()));
    Lane* lanes = layout(arena, workers);

    if (plan_.spans == 1) {
      options.executor(plan_.tasks, [&](Index task, Index worker) {
        StripOf& strip = lanes[worker].strips[0];
        attend_span(lanes[worker], task, strip);
        strip.finish(out, lse);
      });
    } else if (plan_.spans > 1) {
      options.executor(plan_.tasks * plan_.spans, [&](Index task, Index worker) {
        attend_span(lanes[worker], task, gathered_[task]);
      });
      options.executor(plan_.tasks, [&](Index task, Index) {
        StripOf& all = gathered_[task * plan_.spans];
        for (Index span = 1; span < plan_.spans; ++span)
          all.add(gathered_[task * plan_.spans + span]);
        all.finish(out, lse);
      });
    } else {
      pack(lanes, options.executor);
      options.executor(plan_.tasks, [&](Index task, Index worker) {
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
    plan_.spans = 0;  // packed as for many rows, however few these are
    Arena measure;
    layout(measure, 1);
    Workspace workspace;
    Arena arena(workspace.reserve(measure.used()));
    Lane& lane = *layout(arena, 1);
    pack(&lane, serial());

    for (Index i = 0; i < rows; ++i)
      for (Index j = 0; j < problem_.keys; ++j) out(i, j) = T(0);
    WorkerOf& worker = lane.worker;
    hook::begin(worker.variant, batch, false);
    // What is carried has to come down from the first row; without it only the rows' own blocks
    // run.
    const Index start = carries_ ? 0 : row / plan_.block_rows * plan_.block_rows;
    for (Index i = start; i < row + rows; i += plan_.block_rows) {
      const Index count = std::min(plan_.block_rows, problem_.queries - i);
      StripOf& strip = lane.strips[0];
      place(lane, strip, batch, head, 1, i, count);
      for (Index r = 0; r < count; ++r) strip.state.know_natural(r, lse(batch, head, i + r));
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
    Room room;                   ///< for a panel
    Index share = 0, round = 0;  ///< of descend(), see select()
    bool offers = false;
  };

  void plan(Index workers) {
    carries_ = bounds_hold_ = false;
    if constexpr (hook::scans_rows<Bound>) {
      Arena measure;
      const Bound variant = bound<T>(variant_, problem_, measure);
      carries_ = hook::selecting_head(variant) >= 0;
      bounds_hold_ = ScoreBounds<T>::hold(variant, problem_);
    }
    plan_ = Plan::of<Tile>(problem_, carries_, workers);
  }
  /// Of one executor call that has scratch a worker.
  Index most_tasks() const {
    const Index key_blocks = (problem_.keys + Tile::block_keys - 1) / Tile::block_keys,
                bounds = plan_.blocks + problem_.keys / plan_.block_rows + 1;
    return std::max({plan_.tasks * std::max<Index>(plan_.spans, 1),
                     problem_.batch * problem_.key_heads * key_blocks, problem_.batch * bounds});
  }
  bool projects() const { return bool(projection_.queries); }

  Lane* layout(Arena& arena, Index workers) {
    Lane* lanes = arena.take<Lane>(workers);
    for (Index w = 0; w < workers; ++w) {
      Bound variant = bound<T>(variant_, problem_, arena);
      projection_ = carries_ ? hook::OwnProjection::of<T>(variant) : Projection<T>{};
      const bool scales_values = hook::value_factor.acts_in(variant);
      const Index widest =
          std::max({problem_.dim, problem_.value_dim, projects() ? projection_.queries.dim(2) : 0});
      const Room room(std::max<Index>(Tile::panel_keys, Tile::group_rows), widest,
                      q_.in_place() && k_.in_place(), arena);
      FreshKeys<T, B> fresh;
      if (plan_.spans > 0) {
        fresh = FreshKeys<T, B>(k_, v_, scales_values, room, arena);
        if (w == 0 && plan_.spans > 1) gathered_ = strips_of(plan_.tasks * plan_.spans, arena);
      } else if (w == 0) {
        keys_ = PackedPanels<T, Packed>(k_, Tile::panel_keys, Tile::block_keys, arena);
        values_ = PackedRows<T, Packed>(v_, scales_values, Tile::block_keys, arena);
        if (drops_) bounds_ = ScoreBounds<T>(problem_, negligible_, plan_.block_rows, arena);
        if (projects())
          selecting_keys_ = PackedPanels<T, Packed>(as_one_head(projection_.keys), Tile::panel_keys,
                                                    Tile::block_keys, arena);
        if (plan_.shares > 1) share_scores(arena);
      }
      WorkerOf worker(problem_, std::move(variant), arena);
      StripOf selector;
      if (carries_)
        selector = StripOf(projects() ? projection_.queries.dim(2) : problem_.dim, 0, arena);
      StripOf* strips = strips_of(plan_.spans > 1 ? 0 : plan_.lane_strips, arena);
      LiveKeys<T, B> live;
      if (drops_) {
        const Index heads = plan_.lane_strips * plan_.strip_heads, group = problem_.group();
        // Their own key heads, and the selecting head's.
        live = LiveKeys<T, B>(problem_,
                              std::min((heads + group - 2) / group + 2, problem_.key_heads), arena);
      }
      if (!arena.measuring())
        new (lanes + w) Lane{std::move(worker), selector, strips, live, fresh, room};
    }
    return lanes;
  }
  void share_scores(Arena& arena) {
    shared_ = arena.take<SharedScores<T>>(problem_.batch);
    for (Index b = 0; b < problem_.batch; ++b) {
      const Index rows = round_up(plan_.block_rows, Tile::group_rows);
      const SharedScores<T> scores(plan_.shares, rows * Tile::block_keys, arena);
      if (!arena.measuring()) new (shared_ + b) SharedScores<T>(scores);
    }
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
        [&](const Row& r) { return hook::query_factor(variant, simd::log2e<T>, r); }, lane.room);
  }

  void place_selector(Lane& lane, Index batch, Index row, Index rows) {
    const Index head = hook::selecting_head(lane.worker.variant);
    if (!projects()) return place(lane, lane.selector, batch, head, 1, row, rows);
    const View<const T, 3>& q = projection_.queries;
    const T scale = simd::log2e<T> / std::sqrt(T(q.dim(2)));
    lane.selector.place(problem_, lane.worker.variant, batch, head, 1, row, rows);
    lane.selector.pack([&](const Row& r, Index) { return q.row(r.batch, r.index); },
                       [&](const Row&) { return scale; }, lane.room);
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
          task, [&](Index b, Index g, Index j) { return hook::key_factor(variant, T(1), b, g, j); },
          lanes[worker].room);
    });
    executor(values_.tasks(), [&](Index task, Index worker) {
      values_.pack(
          task,
          [&](Index b, Index g, Index j) { return hook::value_factor(variant, T(1), b, g, j); },
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
  /// maximum that starts near its end is rarely raised. Else the last, for the same reason, since
  /// scores may favour the recent, and then from the first on, as memory is read fastest.
  /// Where keys were dropped, blocks begin at LiveKeys::boundary(), a panel.
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
      if (hook::visits_masked_tiles(lane.worker.variant)) hull = {0, problem_.keys};
      selecting = selecting_store(lane.selector.rows[0].batch, lane.selector.head);
    }
    const Index boundary = lane.live.boundary();
    hull.first = std::max(hull.first, boundary);
    if (hull.first >= hull.last) return;
    const Index lowest = (hull.first - boundary) / Tile::block_keys,
                blocks = (hull.last - boundary - 1) / Tile::block_keys - lowest + 1;
    for (Index i = 0; i < blocks; ++i) {
      const Index block = carries_ || i == 0 ? blocks - 1 - i : i - 1,
                  first = boundary + (lowest + block) * Tile::block_keys,
                  last = std::min(first + Tile::block_keys, problem_.keys);
      visit(WorkerOf::block(selecting, first, last), first, last);
    }
  }

  /// Rows that carry nothing: one strip.
  void attend_rows(Lane& lane, Index task, const View<T, 4>& out, const View<T, 3>& lse) {
    const Index strips = plan_.strips;
    // The last rows first: under a causal mask they are the longest, and short tasks even out the
    // end.
    const Index block = plan_.blocks - 1 - task / strips % plan_.blocks,
                batch = task / strips / plan_.blocks, head = task % strips * plan_.strip_heads,
                row = block * plan_.block_rows,
                rows = std::min(plan_.block_rows, problem_.queries - row);
    WorkerOf& worker = lane.worker;
    StripOf& strip = lane.strips[0];
    hook::begin(worker.variant, batch, true);
    place(lane, strip, batch, head, plan_.strip_heads, row, rows);
    strip.clear(worker.variant);
    const KeyStore<T, Packed> keys = store(batch, head);
    each_key_block(lane, 1, [&](const Block&, Index first, Index last) {
      worker.attend(strip, WorkerOf::block(keys, first, last));
    });
    strip.finish(out, lse);
    hook::end(worker.variant);
  }

  /// All rows of a strip on one span of the keys that they see, to be gathered.
  void attend_span(Lane& lane, Index task, StripOf& strip) {
    const Index strip_index = task / plan_.spans, span = task % plan_.spans, strips = plan_.strips,
                batch = strip_index / strips, head = strip_index % strips * plan_.strip_heads;
    WorkerOf& worker = lane.worker;
    hook::begin(worker.variant, batch, true);
    place(lane, strip, batch, head, plan_.strip_heads, 0, problem_.queries);
    strip.clear(worker.variant, span == 0);
    const Index first_block = strip.hull.first / Tile::block_keys,
                blocks = (strip.hull.last + Tile::block_keys - 1) / Tile::block_keys - first_block,
                begin = (first_block + blocks * span / plan_.spans) * Tile::block_keys,
                end = std::min(strip.hull.last, (first_block + blocks * (span + 1) / plan_.spans) *
                                                    Tile::block_keys);
    for (Index first = begin; first < end; first += Tile::block_keys)
      worker.attend(strip,
                    lane.fresh(worker.variant, batch, problem_.key_head(head), first,
                               std::min(first + Tile::block_keys, problem_.keys), strip.count));
    hook::end(worker.variant);
  }

  /// A share of the heads of one batch entry, from the first row to the last.
  void descend(Lane& lane, Index task, const View<T, 4>& out, const View<T, 3>& lse) {
    const Index batch = task / plan_.shares, share = task % plan_.shares, strips = plan_.strips,
                from = strips * share / plan_.shares, to = strips * (share + 1) / plan_.shares;
    WorkerOf& worker = lane.worker;
    hook::begin(worker.variant, batch, share == 0);
    lane.live.begin();
    const Heads heads{from * plan_.strip_heads, to * plan_.strip_heads};
    lane.share = share, lane.round = 0;
    lane.offers = heads.has(hook::selecting_head(worker.variant));
    T* const falling = drops_ && values_are_finite(batch)
                           ? hook::monotone_key_bias(worker.variant, bounds_.least())
                           : nullptr;
    for (Index row = 0; row < problem_.queries; row += plan_.block_rows) {
      const Index rows = std::min(plan_.block_rows, problem_.queries - row);
      if (falling) drop(lane, falling, batch, row, heads);
      place_selector(lane, batch, row, rows);
      for (Index s = from; s < to; ++s) {
        StripOf& strip = lane.strips[s - from];
        place(lane, strip, batch, s * plan_.strip_heads, plan_.strip_heads, row, rows);
        strip.clear(worker.variant);
      }
      each_key_block(lane, to - from, [&](const Block& selecting, Index first, Index last) {
        select(lane, selecting, projects());
        for (Index s = from; s < to; ++s) {
          StripOf& strip = lane.strips[s - from];
          const bool selected = !projects() && strip.heads == 1 && strip.head == lane.selector.head;
          worker.attend(strip, WorkerOf::block(store(batch, strip.head), first, last), selected);
        }
      });
      ++lane.round;
      if (lane.live.count() > 0) attend_live(lane, to - from, heads);
      ++lane.round;
      for (Index s = from; s < to; ++s) lane.strips[s - from].finish(out, lse);
    }
    hook::end(worker.variant);
    if (plan_.shares > 1) shared_[batch].leave(share);
  }

  /// Selects on a key block. The share that has the selecting head works its scores out and offers
  /// them to the others. Names rise: rounds are row blocks' own keys and those left of earlier
  /// ones, and in a round the last key block comes first.
  void select(Lane& lane, const Block& block, bool projected) {
    WorkerOf& worker = lane.worker;
    if (plan_.shares == 1) return worker.select(lane.selector, block, projected);
    SharedScores<T>& shared = shared_[lane.selector.rows[0].batch];
    const Index count = WorkerOf::scores_of(lane.selector),
                blocks = (problem_.keys + Tile::block_keys - 1) / Tile::block_keys,
                name = (lane.round + 1) * blocks - 1 - block.first / Tile::block_keys;
    if (lane.offers) {
      worker.score(lane.selector, block, projected);
      shared.offer(name, worker.scores(), count);
    } else if (!shared.take(lane.share, name, worker.scores(), count)) {
      worker.score(lane.selector, block, projected);
    }
    worker.hand_over(lane.selector, block);
  }

  /// Query heads [first, last) of a task.
  struct Heads {
    Index first, last;
    bool has(Index head) const { return first <= head && head < last; }
  };

  /// Where a key head's live keys are: its own in order, then the selecting one, if it is another.
  Index slot(Index head, const Heads& heads) const {
    const Index g = problem_.key_head(head), first = problem_.key_head(heads.first),
                last = problem_.key_head(heads.last - 1);
    return first <= g && g <= last ? g - first : last + 1 - first;
  }

  /// None is dropped else: a dead key's NaN would vanish, and blocks could not begin anywhere.
  bool values_are_finite(Index batch) const {
    bool all = true;
    for (Index g = 0; g < problem_.key_heads; ++g)
      for (Index first = 0; first < problem_.keys; first += Tile::block_keys)
        all &= values_(batch, g).finite[first / Tile::block_keys] != 0;
    return all;
  }

  /// Before a row block: drops the keys that are masked for good, of those in panels before its
  /// own.
  void drop(Lane& lane, T* falling, Index batch, Index row, const Heads& heads) {
    const Index end = (problem_.position(batch, row)) / Tile::panel_keys * Tile::panel_keys;
    if (!lane.live.drop(end, falling, bounds_, batch, row / plan_.block_rows)) return;
    Visited& visited = lane.worker.visited;
    visited.dropped = std::max(visited.dropped, lane.live.dropped());
    for (Index h = heads.first; h < heads.last; h += problem_.group() - h % problem_.group())
      pack_live(lane, batch, h, heads);
    const Index selecting = hook::selecting_head(lane.worker.variant);
    if (!heads.has(selecting)) pack_live(lane, batch, selecting, heads);
  }

  /// Not inlined: whichever task has the selecting head, one function packs its keys.
  [[gnu::noinline]] void pack_live(Lane& lane, Index batch, Index head, const Heads& heads) {
    const Index g = problem_.key_head(head);
    lane.live.pack(
        slot(head, heads), k_, batch, g,
        [&](Index key) { return hook::key_factor(lane.worker.variant, T(1), batch, g, key); },
        values_(batch, g), lane.room);
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
      select(lane, WorkerOf::block(selecting, first, last), false);
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
  bool carries_ = false, bounds_hold_ = false, drops_ = false;
  double negligible_ = 0;
  Plan plan_;
  StripOf* gathered_ = nullptr;        ///< [tasks][spans]
  SharedScores<T>* shared_ = nullptr;  ///< [batch]
};

}  // namespace heed::inline HEED_ABI::detail
