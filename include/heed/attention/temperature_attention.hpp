// SPDX-License-Identifier: MIT
/// @file
/// Selective self-attention (SSA) by temperatures, in one call.
#pragma once

#include "heed/engine/forward.hpp"
#include "heed/score/causal.hpp"
#include "heed/score/standard.hpp"
#include "heed/score/temperature.hpp"

namespace heed::inline HEED_ABI {

/// Causal self-attention with temperatures on queries and values, the pair that the paper
/// recommends (Zhang et al.: Selective Attention: Enhancing Transformer through Principled Context
/// Control, arXiv:2411.12892):
///
///     out[b,h,i] = Σ_{j≤i} softmax_j(τq[b,h,i] q[b,h,i] · k[b,g,j] / √D) τv[b,g,j] v[b,g,j]
///
/// For temperatures on keys, use forward() with the stage key_temperature(tau).
///
/// @param tau_q  [B, H, N], or [B, 1, N] shared by the heads; see temperatures() for how to compute
/// it.
/// @param tau_v  [B, G, N], or [B, 1, N].
/// @param out    [B, H, N, Dv], overwritten; must not overlap the others.
/// @throws ShapeError if the shapes do not fit; out is untouched then.
/// @note The cost of causal_attention(): temperatures are folded into q and v when these are
/// packed.
template <class Q, class K, class V, class TauQ, class TauV, class Out>
WorkStats temperature_attention(const Q& q, const K& k, const V& v, const TauQ& tau_q,
                                const TauV& tau_v, Out&& out, const Options& options = {}) {
  return forward(q, k, v, query_temperature(tau_q) | value_temperature(tau_v) | standard | causal,
                 out, options);
}

}  // namespace heed::inline HEED_ABI
