// SPDX-License-Identifier: MIT
/// @file
/// Compile-time checks of stages: signatures of hooks, and names that are close to a hook name.
#pragma once

#include "heed/score/hooks.hpp"

namespace heed::inline HEED_ABI::hook {
namespace detail {

/// Member names that are close to a hook name, or that were flags in earlier versions, with the
/// name that is meant. A function of such a name would never be called. Data members may have any
/// name.
#define HEED_EACH_NEAR_MISS(X)                                      \
  X(scores, "is `score` meant?")                                    \
  X(score_mod, "is `score` meant?")                                 \
  X(change_score, "is `score` meant?")                              \
  X(grad_scores, "is `grad_score` meant?")                          \
  X(score_grad, "is `grad_score` meant?")                           \
  X(gradient_score, "is `grad_score` meant?")                       \
  X(score_backward, "is `grad_score` meant?")                       \
  X(is_visible, "is `visible` meant?")                              \
  X(mask_mod, "is `visible` meant?")                                \
  X(key_range, "is `keys` meant?")                                  \
  X(block_masks, "is `block_mask` meant?")                          \
  X(cover, "it is called `block_mask`")                             \
  X(weights, "is `weight` meant?")                                  \
  X(grad_weight, "`weight` is linear, and so its own adjoint")      \
  X(query_factors, "is `query_factor` meant?")                      \
  X(key_factors, "is `key_factor` meant?")                          \
  X(value_factors, "is `value_factor` meant?")                      \
  X(grad_query_factors, "is `grad_query_factor` meant?")            \
  X(grad_key_factors, "is `grad_key_factor` meant?")                \
  X(grad_value_factors, "is `grad_value_factor` meant?")            \
  X(query_factor_grad, "is `grad_query_factor` meant?")             \
  X(key_factor_grad, "is `grad_key_factor` meant?")                 \
  X(value_factor_grad, "is `grad_value_factor` meant?")             \
  X(sinks, "is `sink` meant?")                                      \
  X(grad_sinks, "is `grad_sink` meant?")                            \
  X(sink_grad, "is `grad_sink` meant?")                             \
  X(scan, "is `scan_tile` meant?")                                  \
  X(scan_tiles, "is `scan_tile` meant?")                            \
  X(select, "it is called `scan_tile`")                             \
  X(deselect, "it is called `scan_tile_backward`")                  \
  X(grad_scan_tile, "is `scan_tile_backward` meant?")               \
  X(carried, "it is called `scan_bias`")                            \
  X(grad_carried, "it is called `grad_scan_bias`")                  \
  X(scan_biases, "is `scan_bias` meant?")                           \
  X(falling, "it is called `monotone_key_bias`")                    \
  X(select_head, "is `selecting_head` meant?")                      \
  X(checks, "is `check` meant?")                                    \
  X(clear_gradient, "is `clear_gradients` meant?")                  \
  X(begin_gradient, "is `begin_gradients` meant?")                  \
  X(end_gradient, "is `end_gradients` meant?")                      \
  X(query_offset, "where rows sit is said in `place`")              \
  X(same_tokens, "it is said in `place`")                           \
  X(plain_past, "it is called `keeps_causal_past`")                 \
  X(wants_skipped, "it is called `visits_masked_tiles`")            \
  X(carries_rows, "what a stage defines is used without a flag")    \
  X(changes_weights, "what a stage defines is used without a flag") \
  X(shapes_scores, "what a stage defines is used without a flag")   \
  X(scales_values, "what a stage defines is used without a flag")   \
  X(indexes_keys, "say `static constexpr Reads reads` instead")

#define HEED_DECLARE(WRONG, MEANT) int WRONG;
struct NearMisses {
  HEED_EACH_NEAR_MISS(HEED_DECLARE)
};
#undef HEED_DECLARE

/// Makes the name of every member that S and NearMisses share ambiguous.
template <class S>
struct WithNearMisses : S, NearMisses {};

template <class S>
consteval bool names_are_meant() {
#define HEED_REFUSE(WRONG, MEANT)                                                      \
  static_assert(                                                                       \
      requires { &WithNearMisses<S>::WRONG; } ||                                       \
          requires { requires std::is_member_object_pointer_v<decltype(&S::WRONG)>; }, \
      "heed: a stage has a member `" #WRONG "`, which the library never calls; " MEANT);
  HEED_EACH_NEAR_MISS(HEED_REFUSE)
#undef HEED_REFUSE
  return true;
}
#undef HEED_EACH_NEAR_MISS

template <class T, class S, class... H>
consteval bool signatures_fit(HookList<H...>) {
  return (H::template check<S, T>() && ...);
}
template <class T, class... S>
consteval bool bound_stages_fit(StageList<S...>) {
  return ((names_are_meant<S>() && signatures_fit<T, S>(OfBoundStage())) && ...);
}
template <class T, class... S>
consteval bool stages_fit(StageList<S...>) {
  return ((names_are_meant<S>() && signatures_fit<T, S>(OfCall())) && ...);
}

template <class S, class B, class... H>
consteval bool bound_has_hooks(HookList<H...>) {
  return ((!H::template defined_by<S> || H::template defined_by<B>)&&...);
}
template <class... S, class... B>
consteval bool bound_have_hooks(StageList<S...>, StageList<B...>) {
  if constexpr (sizeof...(S) == sizeof...(B))
    return (bound_has_hooks<S, B>(OfBoundStage()) && ...);
  else
    return true;
}

}  // namespace detail

/// Rejects, with an explanation, a variant V with an ill-formed stage. Bound is the type V is bound
/// to, T its number type.
template <class T, class V, class Bound>
consteval bool well_formed() {
  using Stages = typename StagesOf<V>::type;
  using BoundStages = typename StagesOf<Bound>::type;
  static_assert(detail::bound_have_hooks(Stages(), BoundStages()),
                "heed: a stage defines a hook that what its bind() returns does not");
  static_assert(detail::name_selecting_heads(BoundStages()),
                "heed: a stage that defines scan_tile() must define selecting_head() too");
  return detail::stages_fit<T>(Stages()) && detail::bound_stages_fit<T>(BoundStages());
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
