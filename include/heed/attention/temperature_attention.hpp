// SPDX-License-Identifier: MIT
/// @file SSA, selective self-attention by temperatures, whole.
#pragma once

#include "heed/engine/forward.hpp"
#include "heed/score/causal.hpp"
#include "heed/score/standard.hpp"
#include "heed/score/temperature.hpp"

namespace heed::inline HEED_ABI {

/// Causal self-attention with temperatures on queries and values, the pair the paper recommends
/// (Zhang et al.: Selective Attention: Enhancing Transformer through Principled Context Control,
/// arXiv:2411.12892):
///
///     out[b,h,i] = Σ_{j≤i} softmax_j(τq[b,h,i] q[b,h,i] · k[b,g,j] / √D) τv[b,g,j] v[b,g,j]
///
/// Keys take one by a stage of their own, key_temperature(tau).
///
/// @param tau_q  [B, H, N], or [B, 1, N] shared by the heads; see temperatures() for how it is
/// made.
/// @param tau_v  [B, G, N], or [B, 1, N].
/// @param out    [B, H, N, Dv], overwritten; overlaps none of the others.
/// @throws ShapeError if they do not fit; out is then untouched.
template <class Q, class K, class V, class TauQ, class TauV, class Out>
WorkStats temperature_attention(const Q& q, const K& k, const V& v, const TauQ& tau_q,
                                const TauV& tau_v, Out&& out, const Options& options = {}) {
  return forward(q, k, v, query_temperature(tau_q) | value_temperature(tau_v) | standard | causal,
                 out, options);
}

}  // namespace heed::inline HEED_ABI
