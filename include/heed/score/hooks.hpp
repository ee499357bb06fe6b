// SPDX-License-Identifier: MIT
/// @file
/// The hooks that a stage may define, in groups. The engine calls them as `hook::score(variant,
/// …)`.
///
/// Units: scores are in log2 units, the natural score times log2 e, so that the softmax is a power
/// of two. Register hooks (score, visible, scan_bias, weight and their adjoints) process one
/// register of keys of one row. Lanes at.keys and above hold no key: their results are ignored, and
/// a hook must not read memory for them. After check(), no hook may throw.
#pragma once

#include "heed/core/workspace.hpp"
#include "heed/score/hook.hpp"
#include "heed/score/problem.hpp"
#include "heed/score/tile.hpp"

namespace heed::inline HEED_ABI {

/// What a stage depends on. A stage with hooks that process keys is taken to depend on their index,
/// unless it declares `static constexpr Reads reads = …`.
enum class Reads {
  score,     ///< Scores alone: keys may come in any order, and some may be missing.
  distance,  ///< Also Lanes::distance(): keys may come in any order. KvBuffer takes no more than
             ///< this.
  index,     ///< The key's index, or memory addressed by it.
};

namespace hook {

// --- The call. Called on the stage itself, before it is bound.

/// Sets the positions of rows, the starts of sequences, and whether queries and keys are of the
/// same tokens.
struct Place : Each<Place> {
  HEED_HOOK(Place, place, void(Problem&) const, "void place(Problem& problem) const")
};
inline constexpr Place place;

/// Throws ShapeError or ValueError if the numbers or tensors of the stage do not fit the call.
struct Check : Each<Check> {
  HEED_HOOK(Check, check, void(const Problem&) const, "void check(const Problem& problem) const")
};
inline constexpr Check check;

// --- One worker's pass over one batch entry, or over one task of it if no stage scans the rows.

/// Begins a pass. If a stage scans the rows, several workers pass over one batch entry, and exactly
/// one has leader = true: only that one may write to the output tensors of the stage. Otherwise
/// each task is a pass of its own, with leader = true, and tasks of one batch entry run at the same
/// time. backward() and weights() have no leader. Factors may be asked for before: they are told
/// the batch entry themselves.
struct Begin : Each<Begin> {
  HEED_HOOK(Begin, begin, void(Index, bool), "void begin(Index batch, bool leader)")
};
inline constexpr Begin begin;

/// Ends a pass.
struct End : Each<End> {
  HEED_HOOK(End, end, void(), "void end()")
};
inline constexpr End end;

// --- Scale: factors of queries, keys and values. A hook returns the given factor times its own.

/// Once per row and head: the factor of q. Must be finite for rows that see a key.
struct QueryFactor : Through<QueryFactor> {
  HEED_HOOK(QueryFactor, query_factor, T(T, const Row&) const,
            "template <class T> T query_factor(T factor, const Row& row) const")
};
inline constexpr QueryFactor query_factor;

/// Once per key and key head: the factor of k.
struct KeyFactor : Through<KeyFactor> {
  HEED_HOOK(
      KeyFactor, key_factor, T(T, Index, Index, Index) const,
      "template <class T> T key_factor(T factor, Index batch, Index key_head, Index key) const")
};
inline constexpr KeyFactor key_factor;

/// Once per key and key head: the factor of v.
struct ValueFactor : Through<ValueFactor> {
  HEED_HOOK(ValueFactor, value_factor, T(T, Index, Index, Index) const,
            "template <class T> T value_factor(T factor, Index batch, Index key_head, Index key) "
            "const")
};
inline constexpr ValueFactor value_factor;

namespace detail {

/// Product rule: the gradient of a factor is the product's gradient times the other factors.
template <class H, class Factor>
struct GradFactor : Hook<H> {
  template <class V, class T, class... A>
  constexpr void operator()(V& variant, T grad, const A&... a) const {
    each_link(variant, grad, std::make_index_sequence<links<V>>(), a...);
  }

 private:
  template <class V, class T, std::size_t... I, class... A>
  static constexpr void each_link(V& variant, T grad, std::index_sequence<I...> all,
                                  const A&... a) {
    (one_link<I>(variant, grad, all, a...), ...);
  }
  template <std::size_t I, class V, class T, std::size_t... J, class... A>
  static constexpr void one_link(V& variant, T grad, std::index_sequence<J...>, const A&... a) {
    if constexpr (H::template in<std::remove_reference_t<decltype(link<I>(variant))>>) {
      T others = grad;
      ((I != J ? void(others = Factor()(link<J>(variant), others, a...)) : void()), ...);
      each_stage(link<I>(variant), [&](auto& stage) {
        if constexpr (H::template defined_by<std::remove_cvref_t<decltype(stage)>>)
          H::call(stage, others, a...);
      });
    }
  }
};

}  // namespace detail

/// Once per row and head: receives ∂L/∂ this stage's factor of q, in backward().
struct GradQueryFactor : detail::GradFactor<GradQueryFactor, QueryFactor> {
  HEED_HOOK(GradQueryFactor, grad_query_factor, void(T, const Row&),
            "template <class T> void grad_query_factor(T grad, const Row& row)")
};
inline constexpr GradQueryFactor grad_query_factor;

/// Once per key and key head: receives ∂L/∂ this stage's factor of k.
struct GradKeyFactor : detail::GradFactor<GradKeyFactor, KeyFactor> {
  HEED_HOOK(
      GradKeyFactor, grad_key_factor, void(T, Index, Index, Index),
      "template <class T> void grad_key_factor(T grad, Index batch, Index key_head, Index key)")
};
inline constexpr GradKeyFactor grad_key_factor;

/// Once per key and key head: receives ∂L/∂ this stage's factor of v.
struct GradValueFactor : detail::GradFactor<GradValueFactor, ValueFactor> {
  HEED_HOOK(GradValueFactor, grad_value_factor, void(T, Index, Index, Index),
            "template <class T> void grad_value_factor(T grad, Index batch, Index key_head, Index "
            "key)")
};
inline constexpr GradValueFactor grad_value_factor;

// --- Score.

/// Once per register: changes scores. Lanes of masked keys may hold anything, also NaN. Results
/// must be finite for visible keys; masked<T> masks a key, −∞ must not be used. What one stage has
/// masked stays masked. A stage that never masks a key, and says so by `static constexpr bool
/// never_masks = true`, is not slowed down by tests for masked scores.
struct Score : Hook<Score> {
  HEED_HOOK(Score, score, Batch<T>(const Batch<T>&, const Lanes<T>&) const,
            "template <class T> Batch<T> score(const Batch<T>& s, const Lanes<T>& at) const")

  template <class V, class T>
  HEED_INLINE Batch<T> operator()(V& variant, const Batch<T>& s, const Lanes<T>& at) const {
    return from_link<0, false>(variant, s, at);
  }

 private:
  template <std::size_t I, bool MayBeMasked, class V, class T>
  HEED_INLINE static Batch<T> from_link(V& variant, const Batch<T>& s, const Lanes<T>& at);
};
inline constexpr Score score;

namespace detail {

/// Does a stage declare that its score() only adds to the score, or that it never masks a key?
template <class S>
inline constexpr bool adds_to_score = false;
template <class S>
requires requires {
  std::bool_constant<S::adds_to_score>();
}
inline constexpr bool adds_to_score<S> = S::adds_to_score;
template <class S>
inline constexpr bool never_masks = adds_to_score<S>;
template <class S>
requires requires {
  std::bool_constant<S::never_masks>();
}
inline constexpr bool never_masks<S> = S::never_masks || adds_to_score<S>;

template <class... S>
consteval bool scores_may_mask(StageList<S...>) {
  return ((Score::defined_by<S> && !never_masks<S>) || ...);
}
template <class... S>
consteval bool scores_change_masked(StageList<S...>) {
  return ((Score::defined_by<S> && !adds_to_score<S>) || ...);
}

}  // namespace detail

/// May score() of a stage of the variant mask keys?
template <class V>
inline constexpr bool scores_may_mask = detail::scores_may_mask(typename StagesOf<V>::type{});

template <std::size_t I, bool MayBeMasked, class V, class T>
HEED_INLINE Batch<T> Score::from_link(V& variant, const Batch<T>& s, const Lanes<T>& at) {
  if constexpr (I == links<V>) {
    return s;
  } else {
    auto& stages = link<I>(variant);
    using Stages = std::remove_reference_t<decltype(stages)>;
    Batch<T> x = s;
    each_stage(
        stages, [&](auto& stage) __attribute__((always_inline)) {
          if constexpr (defined_by<std::remove_cvref_t<decltype(stage)>>) x = call(stage, x, at);
        });
    if constexpr (MayBeMasked && detail::scores_change_masked(typename StagesOf<Stages>::type{}))
      x = simd::select(s < Batch<T>(masked_below<T>), s, x);
    return from_link < I + 1, MayBeMasked || scores_may_mask < Stages >> (variant, x, at);
  }
}

/// The adjoint of score(): takes ∂L/∂ its result and returns ∂L/∂s, both with respect to natural
/// scores; s is as in score(). backward() requires it of a stage that defines score(), unless the
/// stage declares that ∂score/∂s = 1: `static constexpr bool adds_to_score = true`.
struct GradScore : Hook<GradScore> {
  HEED_HOOK(GradScore, grad_score, Batch<T>(const Batch<T>&, const Batch<T>&, const Lanes<T>&),
            "template <class T> Batch<T> grad_score(const Batch<T>& grad, const Batch<T>& s, const "
            "Lanes<T>& at)")

  /// Last stage first; each is given the score that its score() was given. Where no gradient comes
  /// in none goes out, stage by stage: the score of a masked key may be NaN, and the stages before
  /// sum up what they are given.
  template <class V, class T>
  HEED_INLINE Batch<T> operator()(V& variant, const Batch<T>& grad, const Batch<T>& s,
                                  const Lanes<T>& at) const {
    return from_link<0, T>(variant, grad, s, at);
  }

 private:
  template <std::size_t I, class T, class V>
  HEED_INLINE static Batch<T> from_link(V& variant, const Batch<T>& grad, const Batch<T>& s,
                                        const Lanes<T>& at) {
    if constexpr (I == links<V>) {
      return grad;
    } else {
      auto& stages = link<I>(variant);
      const Batch<T> zero(T(0));
      Batch<T> before = from_link<I + 1, T>(variant, grad, score(stages, s, at), at);
      each_stage(
          stages, [&](auto& stage) __attribute__((always_inline)) {
            if constexpr (defined_by<std::remove_cvref_t<decltype(stage)>>)
              before = simd::select(before == zero, zero, call(stage, before, s, at));
          });
      return before;
    }
  }
};
inline constexpr GradScore grad_score;

// --- Mask: the keys that a row sees. A tile that is masked for all rows and heads is not computed.

/// Once per row: narrows the interval of visible keys. What the hook returns is intersected with
/// what it was given.
struct Keys : Hook<Keys> {
  HEED_HOOK(Keys, keys, KeyRange(const KeyRange&, const Row&) const,
            "KeyRange keys(const KeyRange& range, const Row& row) const")

  template <class V>
  KeyRange operator()(const V& variant, KeyRange range, const Row& row) const {
    each_stage(variant, [&](const auto& stage) {
      if constexpr (defined_by<std::remove_cvref_t<decltype(stage)>>)
        range = range & call(stage, range, row);
    });
    return range;
  }
};
inline constexpr Keys keys;

/// Once per register: clears the lanes of masked keys. What the hook returns is intersected with
/// what it was given.
struct Visible : Hook<Visible> {
  HEED_HOOK(Visible, visible, Mask<T>(const Mask<T>&, const Lanes<T>&) const,
            "template <class T> Mask<T> visible(const Mask<T>& m, const Lanes<T>& at) const")

  template <class V, class M, class T>
  HEED_INLINE M operator()(const V& variant, M mask, const Lanes<T>& at) const {
    each_stage(
        variant, [&](const auto& stage) __attribute__((always_inline)) {
          if constexpr (defined_by<std::remove_cvref_t<decltype(stage)>>)
            mask = mask & call(stage, mask, at);
        });
    return mask;
  }
};
inline constexpr Visible visible;

/// Once per tile: `empty` skips the tile; `full` says that neither visible() nor score() masks a
/// key in it. Without block_mask() every tile is `partial` for a stage that defines visible(), or
/// score() that may mask.
struct MaskOfBlock : Hook<MaskOfBlock> {
  HEED_HOOK(MaskOfBlock, block_mask, BlockMask(const TileRange&) const,
            "BlockMask block_mask(const TileRange& tile) const")

  template <class V>
  BlockMask operator()(const V& variant, const TileRange& tile) const {
    BlockMask least = BlockMask::full;
    each_stage(variant, [&](const auto& stage) {
      using S = std::remove_cvref_t<decltype(stage)>;
      if constexpr (defined_by<S>) {
        if (least != BlockMask::empty) least = std::min(least, call(stage, tile));
      } else if constexpr (Visible::defined_by<S> || scores_may_mask<S>) {
        least = std::min(least, BlockMask::partial);
      }
    });
    return least;
  }
};
inline constexpr MaskOfBlock block_mask;

/// True if the stage masks no key j ≤ p for a row at position p, and no score and no weight becomes
/// larger in magnitude: the preconditions for pruning keys that selection has masked. Derived for
/// stages that define neither masks nor register hooks.
struct KeepsCausalPast;

// --- Sink.

/// Once per row: the logit of the sink of a head, a natural score; masked<T> for no sink.
struct Sink : Through<Sink> {
  HEED_HOOK(Sink, sink, T(T, Index, Index) const,
            "template <class T> T sink(T logit, Index batch, Index head) const")
};
inline constexpr Sink sink;

/// Once per row: receives ∂L/∂ the logit of the sink.
struct GradSink : Each<GradSink> {
  HEED_HOOK(GradSink, grad_sink, void(T, Index, Index),
            "template <class T> void grad_sink(T grad, Index batch, Index head)")
};
inline constexpr GradSink grad_sink;

// --- Scan: a state that runs down the rows of a batch entry. It is updated from the selecting
// head's scores and is added to the scores of all heads as a bias. Rows then run in order.

/// The query head whose scores are scanned; −1 if there is none. Required with scan_tile().
struct SelectingHead : Hook<SelectingHead> {
  HEED_HOOK(SelectingHead, selecting_head, Index() const, "Index selecting_head() const")

  template <class V>
  Index operator()(const V& variant) const {
    return last_answer<SelectingHead>(variant, Index(-1));
  }
};
inline constexpr SelectingHead selecting_head;

/// Queries and keys that replace the selecting head's, only for the scan.
struct OwnProjection : Hook<OwnProjection> {
  HEED_HOOK(OwnProjection, projection, Projection<T>() const, "Projection<T> projection() const")

  template <class T, class V>
  static Projection<T> of(const V& variant) {
    return last_answer<OwnProjection>(variant, Projection<T>{});
  }
};

/// Processes a tile of the selecting head's scores, before the tile is processed for any head.
struct ScanTile : Each<ScanTile> {
  HEED_HOOK(ScanTile, scan_tile, void(const ScoreTile<T>&),
            "void scan_tile(const ScoreTile<T>& tile)")
};
inline constexpr ScanTile scan_tile;

/// Once per register, after the masks: adds the scanned bias of the current tile to the scores.
struct ScanBias : Through<ScanBias> {
  HEED_HOOK(ScanBias, scan_bias, Batch<T>(const Batch<T>&, const Lanes<T>&) const,
            "Batch<T> scan_bias(const Batch<T>& s, const Lanes<T>& at) const")
};
inline constexpr ScanBias scan_bias;

/// Must scan_tile() be called for tiles that are masked for every row? Default for a stage that
/// defines scan_tile(): true.
struct VisitsMaskedTiles : Hook<VisitsMaskedTiles> {
  HEED_HOOK(VisitsMaskedTiles, visits_masked_tiles, bool() const,
            "bool visits_masked_tiles() const")

  template <class V>
  bool operator()(const V& variant) const {
    return any_answer<VisitsMaskedTiles>(variant,
                                         []<class S>(const S&) { return ScanTile::defined_by<S>; });
  }
};
inline constexpr VisitsMaskedTiles visits_masked_tiles;

/// Per-key bias that scan_bias() adds for all later rows (log2 units), or null if it may increase
/// or if its exact value is needed below `threshold`. The engine may prune keys whose bias is below
/// `threshold`. It then compacts this array in place: key j of the stage is from then on the j-th
/// remaining key.
struct MonotoneKeyBias : Hook<MonotoneKeyBias> {
  HEED_HOOK(MonotoneKeyBias, monotone_key_bias, T*(T), "T* monotone_key_bias(T threshold)")

  template <class V, class T>
  T* operator()(V& variant, T threshold) const {
    return last_answer<MonotoneKeyBias>(variant, static_cast<T*>(nullptr), threshold);
  }
};
inline constexpr MonotoneKeyBias monotone_key_bias;

// The adjoint of the scan. Key blocks are the outer loop. For each, rows first run downwards, to
// save the scan state of every row block, and then upwards. In each tile, every head calls
// grad_scan_bias(), the selecting head last; then scan_tile_backward() returns the gradient of the
// votes.

/// Copies the scan state of `keys` keys, [keys], out of the stage; restore_scan() copies it back.
struct SaveScan : Each<SaveScan> {
  HEED_HOOK(SaveScan, save_scan, void(Index, Index, T*) const,
            "void save_scan(Index key, Index keys, T* to) const")
};
inline constexpr SaveScan save_scan;
/// Copies a saved scan state back into the stage.
struct RestoreScan : Each<RestoreScan> {
  HEED_HOOK(RestoreScan, restore_scan, void(Index, Index, const T*),
            "void restore_scan(Index key, Index keys, const T* from)")
};
inline constexpr RestoreScan restore_scan;

/// Begins a key block; if a stage scans the rows, its upward run.
struct BeginGradients : Each<BeginGradients> {
  HEED_HOOK(BeginGradients, begin_gradients, void(Index, Index),
            "void begin_gradients(Index key, Index keys)")
};
inline constexpr BeginGradients begin_gradients;

/// Begins a tile: clears the sum that grad_scan_bias() adds to.
struct ClearScanGradient : Each<ClearScanGradient> {
  HEED_HOOK(ClearScanGradient, clear_scan_gradient, void(), "void clear_scan_gradient()")
};
inline constexpr ClearScanGradient clear_scan_gradient;

/// Once per register and head: receives ∂L/∂ the result of scan_bias().
struct GradScanBias : Each<GradScanBias> {
  HEED_HOOK(GradScanBias, grad_scan_bias, void(const Batch<T>&, const Lanes<T>&),
            "void grad_scan_bias(const Batch<T>& grad, const Lanes<T>& at)")
};
inline constexpr GradScanBias grad_scan_bias;

/// grads[r · stride + c] ← the part of ∂L/∂ the selecting head's score (r, c) that comes from
/// votes.
struct ScanTileBackward : Each<ScanTileBackward> {
  HEED_HOOK(ScanTileBackward, scan_tile_backward, void(const ScoreTile<T>&, T*),
            "void scan_tile_backward(const ScoreTile<T>& tile, T* grads)")
};
inline constexpr ScanTileBackward scan_tile_backward;

/// Where the gradients of projection() are written.
struct GradOwnProjection : Hook<GradOwnProjection> {
  HEED_HOOK(GradOwnProjection, grad_projection, GradProjection<T>() const,
            "GradProjection<T> grad_projection() const")

  template <class T, class V>
  static GradProjection<T> of(const V& variant) {
    return last_answer<GradOwnProjection>(variant, GradProjection<T>{});
  }
};

// --- Weight.

/// Once per register: changes softmax weights before they multiply values. Must be linear in the
/// weight, lane by lane: the hook is its own adjoint. The denominator of the softmax does not
/// change.
struct Weight : Through<Weight> {
  HEED_HOOK(Weight, weight, Batch<T>(const Batch<T>&, const Lanes<T>&) const,
            "template <class T> Batch<T> weight(const Batch<T>& w, const Lanes<T>& at) const")
};
inline constexpr Weight weight;

// --- Gradients of the stage's own tensors.

/// Once per call of backward(), before everything else.
struct ClearGradients : Each<ClearGradients> {
  HEED_HOOK(ClearGradients, clear_gradients, void(), "void clear_gradients()")
};
inline constexpr ClearGradients clear_gradients;

/// Once per key block, after its gradients are complete, those of key and value factors included.
/// grad_query_factor() and grad_sink() come last of all, after end().
struct EndGradients : Each<EndGradients> {
  HEED_HOOK(EndGradients, end_gradients, void(Index, Index),
            "void end_gradients(Index key, Index keys)")
};
inline constexpr EndGradients end_gradients;

namespace detail {

/// Has the stage data members, to which an adjoint may add?
template <class S>
inline constexpr bool may_add_gradients =
    !std::is_empty_v<S> && (GradScore::defined_by<S> || GradQueryFactor::defined_by<S> ||
                            GradKeyFactor::defined_by<S> || GradValueFactor::defined_by<S> ||
                            GradScanBias::defined_by<S> || ScanTileBackward::defined_by<S>);

}  // namespace detail

/// Does a gradient of the stage sum over heads or batch entries? These then run one after the
/// other. Default: true for a stage with data members and an adjoint.
struct SharesGradients : Hook<SharesGradients> {
  HEED_HOOK(SharesGradients, shares_gradients, bool() const, "bool shares_gradients() const")

  template <class V>
  bool operator()(const V& variant) const {
    return any_answer<SharesGradients>(
        variant, []<class S>(const S&) { return detail::may_add_gradients<S>; });
  }
};
inline constexpr SharesGradients shares_gradients;

/// Does a gradient of the stage sum over keys? If a stage scans the rows, key blocks then run one
/// after the other. Default: shares_gradients().
struct SharesGradientsOverKeys : Hook<SharesGradientsOverKeys> {
  HEED_HOOK(SharesGradientsOverKeys, shares_gradients_over_keys, bool() const,
            "bool shares_gradients_over_keys() const")

  template <class V>
  bool operator()(const V& variant) const {
    return any_answer<SharesGradientsOverKeys>(
        variant, [](const auto& stage) { return shares_gradients(stage); });
  }
};
inline constexpr SharesGradientsOverKeys shares_gradients_over_keys;

namespace detail {

template <class S>
inline constexpr bool looks_at_registers = Score::defined_by<S> || Visible::defined_by<S> ||
                                           Weight::defined_by<S> || ScanBias::defined_by<S>;
template <class S>
inline constexpr bool masks =
    Keys::defined_by<S> || Visible::defined_by<S> || MaskOfBlock::defined_by<S>;
template <class S>
inline constexpr bool meets_keys = looks_at_registers<S> || masks<S> || KeyFactor::defined_by<S> ||
                                   ValueFactor::defined_by<S> || ScanTile::defined_by<S>;

/// Hooks that name keys by their index, whatever the stage declares.
template <class S>
inline constexpr bool names_keys = Keys::defined_by<S> || MaskOfBlock::defined_by<S> ||
                                   KeyFactor::defined_by<S> || ValueFactor::defined_by<S>;

template <class S>
consteval Reads reads_of() {
  if constexpr (requires { std::integral_constant<Reads, S::reads>(); }) {
    static_assert(S::reads == Reads::index || !names_keys<S>,
                  "heed: a stage that defines keys(), block_mask(), key_factor() or value_factor() "
                  "reads keys by index; it cannot declare that it reads less");
    return S::reads;
  } else {
    static_assert(
        !requires(const S& s) { s.reads; },
        "heed: `reads` of a stage should be: static constexpr Reads reads = …");
    return meets_keys<S> ? Reads::index : Reads::score;
  }
}
template <class... S>
consteval Reads reads_of(StageList<S...>) {
  Reads most = Reads::score;
  ((most = std::max(most, reads_of<S>())), ...);
  return most;
}

template <class... S>
consteval bool have_adjoints(StageList<S...>) {
  return ((!Score::defined_by<S> || GradScore::defined_by<S> || adds_to_score<S>)&&...);
}
template <class... S>
consteval bool have_scan_adjoints(StageList<S...>) {
  return (
      (!ScanTile::defined_by<S> ||
       (ScanTileBackward::defined_by<S> && GradScanBias::defined_by<S> && SaveScan::defined_by<S> &&
        RestoreScan::defined_by<S> && ClearScanGradient::defined_by<S>)) &&
      ...);
}
}  // namespace detail

struct KeepsCausalPast : Hook<KeepsCausalPast> {
  HEED_HOOK(KeepsCausalPast, keeps_causal_past, bool() const, "bool keeps_causal_past() const")

  template <class V>
  bool operator()(const V& variant) const {
    bool keeps = true;
    each_stage(variant, [&](const auto& stage) {
      using S = std::remove_cvref_t<decltype(stage)>;
      if constexpr (defined_by<S>)
        keeps = keeps && call(stage);
      else
        keeps = keeps && !detail::masks<S> && !detail::looks_at_registers<S>;
    });
    return keeps;
  }
};
inline constexpr KeepsCausalPast keeps_causal_past;

/// What the stages of a bound variant depend on: the maximum over them.
template <class V>
inline constexpr Reads reads = detail::reads_of(typename StagesOf<V>::type{});

/// Do rows depend on earlier rows?
template <class V>
inline constexpr bool scans_rows = ScanTile::in<V>;

template <class... H>
struct HookList {};
/// All hooks of a bound stage.
using OfBoundStage =
    HookList<Begin, End, QueryFactor, KeyFactor, ValueFactor, GradQueryFactor, GradKeyFactor,
             GradValueFactor, Score, GradScore, Keys, Visible, MaskOfBlock, KeepsCausalPast, Sink,
             GradSink, SelectingHead, OwnProjection, ScanTile, ScanBias, VisitsMaskedTiles,
             MonotoneKeyBias, SaveScan, RestoreScan, BeginGradients, ClearScanGradient,
             GradScanBias, ScanTileBackward, GradOwnProjection, Weight, ClearGradients,
             EndGradients, SharesGradients, SharesGradientsOverKeys>;
/// All hooks of a stage before it is bound.
using OfCall = HookList<Place, Check>;

}  // namespace hook
}  // namespace heed::inline HEED_ABI
