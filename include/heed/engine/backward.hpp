// SPDX-License-Identifier: MIT
/// @file
/// The fused backward pass.
#pragma once

#include "heed/engine/forward.hpp"
#include "heed/engine/schedule/backward_pass.hpp"

namespace heed::inline HEED_ABI {

namespace detail {

template <class T, class... U>
inline constexpr bool all_of = (std::is_same_v<T, U> && ...);

}  // namespace detail

/// The gradients of forward(): computes ∂L/∂q, ∂L/∂k and ∂L/∂v from ∂L/∂out and ∂L/∂lse. It also
/// computes the gradients of the stages' own tensors for every stage that was given a destination
/// (`bias(x).grad(to)`, `query_temperature(tau).grad(to)`,
/// `selective.carry_in(x).grad_carry_in(to)` …).
///
/// @param q, k, v, variant  the arguments of forward().
/// @param out, lse          the results of forward().
/// @param grad_out          [B, H, Nq, Dv]; ignored in rows that see no key.
/// @param grad_lse          [B, H, Nq] ∂L/∂lse, for a loss that also depends on lse (a z-loss, or a
///                          merge of results); ignored in the same rows.
/// @param grad_q, grad_k, grad_v  have the dimensions of q, k and v; overwritten. They must not
///                          overlap one another or any input. Slices of one packed tensor do not
///                          overlap.
/// @return the work done. Keys that selection has masked for good are skipped by whole key blocks,
///         see Options::negligible.
/// @throws ShapeError, ValueError before anything is written.
/// @note 2.5 times the FLOP of the forward pass; memory O(B (H Nq + G Nk) (D + Dv)), nothing N × N.
///       The weights are recomputed tile by tile. Key heads run in parallel, or key blocks if a
///       stage carries state from row to row. The result is bit for bit the same for any number of
///       threads.
template <class Q, class K, class V, Stage Variant, class Out, class Lse, class GradOut,
          class GradLse, class GradQ, class GradK, class GradV>
requires TensorLike<GradLse, 3> && TensorLike<GradV, 4> WorkStats
backward(const Q& q, const K& k, const V& v, const Variant& variant, const Out& out, const Lse& lse,
         const GradOut& grad_out, const GradLse& grad_lse, GradQ&& grad_q, GradK&& grad_k,
         GradV&& grad_v, const Options& options = {}) {
  using T = ScalarOf<Q>;
  constexpr bool of_one_type =
      (std::is_same_v<T, float> || std::is_same_v<T, double>)&&detail::all_of<
          T, ScalarOf<K>, ScalarOf<V>, ScalarOf<Out>, ScalarOf<Lse>, ScalarOf<GradOut>,
          ScalarOf<GradLse>, ScalarOf<GradQ>, ScalarOf<GradK>, ScalarOf<GradV>>;
  static_assert(of_one_type, "heed: backward takes all its tensors in float, or all in double");
  if constexpr (of_one_type) {  // else the compiler would add errors to the message above
    detail::BackwardTensors<T> tensors{View<const T, 4>(q),        View<const T, 4>(k),
                                       View<const T, 4>(v),        View<const T, 4>(out),
                                       View<const T, 4>(grad_out), View<const T, 3>(lse),
                                       View<T, 4>(grad_q),         View<T, 4>(grad_k),
                                       View<T, 4>(grad_v),         View<const T, 3>(grad_lse)};
    return detail::BackwardPass<T, BackwardBlocking<T>, Variant>(tensors, variant).run(options);
  }
}

/// The same for a loss that does not depend on the log-sum-exp.
template <class Q, class K, class V, Stage Variant, class Out, class Lse, class GradOut,
          class GradQ, class GradK, class GradV>
WorkStats backward(const Q& q, const K& k, const V& v, const Variant& variant, const Out& out,
                   const Lse& lse, const GradOut& grad_out, GradQ&& grad_q, GradK&& grad_k,
                   GradV&& grad_v, const Options& options = {}) {
  return backward(q, k, v, variant, out, lse, grad_out, View<const ScalarOf<Q>, 3>{}, grad_q,
                  grad_k, grad_v, options);
}

}  // namespace heed::inline HEED_ABI
