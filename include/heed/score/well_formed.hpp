// SPDX-License-Identifier: MIT
/// @file
/// Compile-time checks of stages: signatures of hooks, and names that are close to a hook name.
#pragma once

#include "heed/score/chain.hpp"

namespace heed::inline HEED_ABI::hook {
namespace detail {

/// Member names that are close to a hook name, with the name that is meant. A function of such a
/// name would never be called. Public data members may have any name.
#define HEED_EACH_NEAR_MISS(X)                                 \
  X(scores, "is `score` meant?")                               \
  X(score_mod, "is `score` meant?")                            \
  X(change_score, "is `score` meant?")                         \
  X(grad_scores, "is `grad_score` meant?")                     \
  X(score_grad, "is `grad_score` meant?")                      \
  X(gradient_score, "is `grad_score` meant?")                  \
  X(score_backward, "is `grad_score` meant?")                  \
  X(is_visible, "is `visible` meant?")                         \
  X(mask_mod, "is `visible` meant?")                           \
  X(key_range, "is `keys` meant?")                             \
  X(block_masks, "is `block_mask` meant?")                     \
  X(cover, "it is called `block_mask`")                        \
  X(weights, "is `weight` meant?")                             \
  X(grad_weight, "`weight` is linear, and so its own adjoint") \
  X(query_factors, "is `query_factor` meant?")                 \
  X(key_factors, "is `key_factor` meant?")                     \
  X(value_factors, "is `value_factor` meant?")                 \
  X(grad_query_factors, "is `grad_query_factor` meant?")       \
  X(grad_key_factors, "is `grad_key_factor` meant?")           \
  X(grad_value_factors, "is `grad_value_factor` meant?")       \
  X(query_factor_grad, "is `grad_query_factor` meant?")        \
  X(key_factor_grad, "is `grad_key_factor` meant?")            \
  X(value_factor_grad, "is `grad_value_factor` meant?")        \
  X(sinks, "is `sink` meant?")                                 \
  X(grad_sinks, "is `grad_sink` meant?")                       \
  X(sink_grad, "is `grad_sink` meant?")                        \
  X(scan, "is `scan_tile` meant?")                             \
  X(scan_tiles, "is `scan_tile` meant?")                       \
  X(select, "it is called `scan_tile`")                        \
  X(deselect, "it is called `scan_tile_backward`")             \
  X(grad_scan_tile, "is `scan_tile_backward` meant?")          \
  X(carried, "it is called `scan_bias`")                       \
  X(grad_carried, "it is called `grad_scan_bias`")             \
  X(scan_biases, "is `scan_bias` meant?")                      \
  X(falling, "it is called `monotone_key_bias`")               \
  X(select_head, "is `selecting_head` meant?")                 \
  X(checks, "is `check` meant?")                               \
  X(clear_gradient, "is `clear_gradients` meant?")             \
  X(begin_gradient, "is `begin_gradients` meant?")             \
  X(end_gradient, "is `end_gradients` meant?")                 \
  X(query_offset, "where rows sit is said in `place`")         \
  X(same_tokens, "it is said in `place`")                      \
  X(plain_past, "it is called `keeps_causal_past`")            \
  X(wants_skipped, "it is called `visits_masked_tiles`")       \
  X(mask, "is `visible` meant?")                               \
  X(clear_grads, "is `clear_gradients` meant?")

/// Flags of earlier versions.
#define HEED_EACH_FLAG(X)                                           \
  X(carries_rows, "what a stage defines is used without a flag")    \
  X(changes_weights, "what a stage defines is used without a flag") \
  X(shapes_scores, "what a stage defines is used without a flag")   \
  X(scales_values, "what a stage defines is used without a flag")   \
  X(indexes_keys, "say `static constexpr Reads reads` instead")

#define HEED_DECLARE(WRONG, MEANT) int WRONG;
struct NearMisses {
  HEED_EACH_NEAR_MISS(HEED_DECLARE)
  HEED_EACH_FLAG(HEED_DECLARE)
  int bind;
};
#undef HEED_DECLARE

/// Makes the name of every member that S and NearMisses share ambiguous.
template <class S>
struct WithNearMisses : S, NearMisses {};

/// Is it the type of a pointer to data, be it a member or static?
template <class Pointer>
inline constexpr bool points_to_data =
    std::is_member_object_pointer_v<Pointer> || std::is_object_v<std::remove_pointer_t<Pointer>>;
template <class R, class C>
inline constexpr bool points_to_data<R C::*> = !std::is_function_v<R>;

template <class S>
consteval bool names_are_meant() {
#define HEED_REFUSE(WRONG, MEANT)                                     \
  static_assert(                                                      \
      requires { &WithNearMisses<S>::WRONG; } ||                      \
          requires { requires points_to_data<decltype(&S::WRONG)>; }, \
      "heed: a stage has a member `" #WRONG "`, which the library never calls; " MEANT);
  HEED_EACH_NEAR_MISS(HEED_REFUSE)
#undef HEED_REFUSE
#define HEED_REFUSE(WRONG, MEANT)              \
  static_assert(                               \
      requires { &WithNearMisses<S>::WRONG; }, \
      "heed: a stage has a member `" #WRONG "`, which the library never calls; " MEANT);
  HEED_EACH_FLAG(HEED_REFUSE)
#undef HEED_REFUSE
  return true;
}
#undef HEED_EACH_NEAR_MISS
#undef HEED_EACH_FLAG

template <class T, class S, class... H>
consteval bool signatures_fit(HookList<H...>) {
  return (H::template check<S, T>() && ...);
}

template <class T, class S>
concept Binds = requires(const S& stage, const Problem& problem, Arena& arena) {
  stage.template bind<T>(problem, arena);
};

/// A hook, and another without which it would never be called.
template <class S, class H, class... Needed>
inline constexpr bool has_partner =
    !H::template defined_by<S> || (Needed::template defined_by<S> || ...);

template <class S>
consteval bool hooks_have_partners() {
  static_assert(has_partner<S, ScanTile, SelectingHead>,
                "heed: a stage that defines scan_tile() must define selecting_head() too");
  static_assert(
      has_partner<S, SelectingHead, ScanTile> && has_partner<S, OwnProjection, ScanTile> &&
          has_partner<S, MonotoneKeyBias, ScanTile> &&
          has_partner<S, VisitsMaskedTiles, ScanTile> && has_partner<S, SaveScan, ScanTile> &&
          has_partner<S, RestoreScan, ScanTile> && has_partner<S, ClearScanGradient, ScanTile> &&
          has_partner<S, GradScanBias, ScanTile> && has_partner<S, ScanTileBackward, ScanTile> &&
          has_partner<S, GradOwnProjection, OwnProjection>,
      "heed: a stage defines a hook of a scan, but not scan_tile()");
  static_assert(has_partner<S, GradScore, Score> && has_partner<S, GradSink, Sink> &&
                    has_partner<S, GradQueryFactor, QueryFactor> &&
                    has_partner<S, GradKeyFactor, KeyFactor> &&
                    has_partner<S, GradValueFactor, ValueFactor>,
                "heed: a stage defines an adjoint, grad_…(), without the hook that it belongs to");
  static_assert(
      has_partner<S, MaskOfBlock, Visible, Score, Keys>,
      "heed: a stage defines block_mask() without visible(), score() or keys(), which mask "
      "the keys of a partial tile");
  return true;
}

template <class S, class B, class... H>
consteval bool bound_has_hooks(HookList<H...>) {
  return ((!H::template defined_by<S> || H::template defined_by<B>)&&...);
}

/// One stage S, and one stage B of what it is bound to.
template <class T, class S, class B>
consteval bool bound_stage_fits() {
  static_assert(std::is_same_v<S, B> || !Binds<T, B>,
                "heed: bind() of a stage returns a stage that has a bind() of its own, which would "
                "not be called; return what that returns");
  static_assert(std::is_same_v<S, B> || ((!Place::defined_by<B> || Place::defined_by<S>)&&(
                                            !Check::defined_by<B> || Check::defined_by<S>)),
                "heed: place() and check() are called on a stage before it is bound; what bind() "
                "returns defines one that the stage does not");
  static_assert(std::is_trivially_destructible_v<B>,
                "heed: a stage that is bound to a call must be trivially destructible: it lives in "
                "the call's arena. Hold views, and scratch from the arena");
  return names_are_meant<B>() && signatures_fit<T, B>(OfBoundStage()) && hooks_have_partners<B>();
}
template <class T, class S, class... B>
consteval bool bound_stages_fit(StageList<B...>) {
  static_assert((bound_has_hooks<S, B>(OfBoundStage()) || ...),
                "heed: a stage defines a hook that what its bind() returns does not");
  return (bound_stage_fits<T, S, B>() && ...);
}

template <class T, class S>
consteval bool stage_fits() {
  static_assert(!std::is_final_v<S>,
                "heed: a stage must not be final: its hooks are found by deriving from it");
  static_assert(
      requires { &WithNearMisses<S>::bind; } || Binds<T, S>,
      "heed: bind() of a stage has the wrong signature; it should be: template <class T> auto "
      "bind(const Problem& problem, Arena& arena) const");
  static_assert(
      !requires(const S& stage, const Problem& problem) { stage.place(problem); },
      "heed: place() of a stage changes the problem: void place(Problem& problem) const");
  return names_are_meant<S>() && signatures_fit<T, S>(OfCall()) &&
         bound_stages_fit<T, S>(typename StagesOf<BoundOf<T, S>>::type());
}
template <class T, class... S>
consteval bool stages_fit(StageList<S...>) {
  return (stage_fits<T, S>() && ...);
}

template <class... B>
consteval bool have_one_sink(StageList<B...>) {
  return (int(Sink::defined_by<B>) + ... + 0) <= 1;
}

}  // namespace detail

/// Rejects, with an explanation, a variant V with an ill-formed stage. Bound is the type V is bound
/// to, T its number type.
template <class T, class V, class Bound>
consteval bool well_formed() {
  static_assert(detail::have_one_sink(typename StagesOf<Bound>::type()),
                "heed: two stages of a variant define sink()");
  return detail::stages_fit<T>(typename StagesOf<V>::type());
}

/// Rejects a variant whose gradient would be incomplete.
template <class Bound>
consteval bool has_adjoints() {
  using Stages = typename StagesOf<Bound>::type;
  static_assert(detail::have_adjoints(Stages()),
                "heed: backward() needs grad_score() of a stage that defines score(), or its word "
                "that it only adds to the score: static constexpr bool adds_to_score = true");
  static_assert(detail::have_scan_adjoints(Stages()),
                "heed: backward() needs the adjoint of a stage that defines scan_tile(): "
                "scan_tile_backward(), grad_scan_bias(), save_scan(), restore_scan() and "
                "clear_scan_gradient()");
  return true;
}

}  // namespace heed::inline HEED_ABI::hook
