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

/// The gradients of forward(): from ∂L/∂out and ∂L/∂lse to ∂L/∂q, ∂L/∂k, ∂L/∂v, and those of the
/// stages' own tensors, where a stage was told where to (`bias(x).grad(to)`,
/// `query_temperature(tau).grad(to)`, `selective.carry_in(x).grad_carry_in(to)` …).
///
/// @param q, k, v, variant  as forward() got them.
/// @param out, lse          as forward() left them.
/// @param grad_out          [B, H, Nq, Dv]; ignored in rows that see no key.
/// @param grad_lse          [B, H, Nq] ∂L/∂lse, of a loss that depends on it too (z-loss, or a
/// merge
///                          of results); likewise.
/// @param grad_q, grad_k, grad_v  of the dimensions of q, k and v, overwritten; share no number
///                          with one another or with what is read. Slices of one packed tensor do
///                          not.
/// @return what was computed; keys that selection masked for good are left out by whole blocks, see
///         Options::negligible.
/// @throws ShapeError, ValueError before anything is written.
/// @note 2.5 times the forward pass' FLOP; memory O(B (H Nq + G Nk) (D + Dv)), nothing N × N.
///       Weights are computed again, tile by tile. Key heads run in parallel, or key blocks where a
///       variant carries rows; bit for bit the same for any number of threads.
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
  if constexpr (of_one_type) {  // else that one message is enough
    detail::BackwardTensors<T> tensors{View<const T, 4>(q),        View<const T, 4>(k),
                                       View<const T, 4>(v),        View<const T, 4>(out),
                                       View<const T, 4>(grad_out), View<const T, 3>(lse),
                                       View<T, 4>(grad_q),         View<T, 4>(grad_k),
                                       View<T, 4>(grad_v),         View<const T, 3>(grad_lse)};
    return detail::BackwardPass<T, BackwardBlocking<T>, Variant>(tensors, variant).run(options);
  }
}

/// Of a loss that does not depend on the log-sum-exp.
template <class Q, class K, class V, Stage Variant, class Out, class Lse, class GradOut,
          class GradQ, class GradK, class GradV>
WorkStats backward(const Q& q, const K& k, const V& v, const Variant& variant, const Out& out,
                   const Lse& lse, const GradOut& grad_out, GradQ&& grad_q, GradK&& grad_k,
                   GradV&& grad_v, const Options& options = {}) {
  return backward(q, k, v, variant, out, lse, grad_out, View<const ScalarOf<Q>, 3>{}, grad_q,
                  grad_k, grad_v, options);
}

}  // namespace heed::inline HEED_ABI
