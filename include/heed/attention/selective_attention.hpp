// SPDX-License-Identifier: MIT
/// @file
/// Selective attention in one call.
#pragma once

#include "heed/engine/forward.hpp"
#include "heed/score/causal.hpp"
#include "heed/score/selective.hpp"
#include "heed/score/standard.hpp"

namespace heed::inline HEED_ABI {

/// Causal self-attention in which each token can mask keys for all later tokens (Leviathan, Kalman,
/// Matias: Selective Attention Improves Transformer, arXiv:2410.02703):
///
///     out[b,h,i] = Σ_{j≤i} softmax_j(q[b,h,i] · k[b,g,j] / √D − F[b,i,j]) v[b,g,j]
///     F[b,i,j]   = Σ_{n<i} max(0, q[b,0,n] · k[b,0,j] / √D), without the terms j = 0 and j = n
///
/// @param q    [B, H, N, D] queries, finite. Head 0 also selects.
/// @param k    [B, G, N, D] keys, finite; g = h div (H / G).
/// @param v    [B, G, N, Dv] values.
/// @param out  [B, H, N, Dv], overwritten; must not overlap the others.
/// @throws ShapeError if the shapes do not fit; out is untouched then.
/// @note Time O(B H N² D): a few per cent more than causal_attention, and less as more keys are
/// pruned. Memory O(N): no N × N matrix is stored. Rows run in order; heads and batch entries can
/// run in parallel.
template <class Q, class K, class V, class Out>
WorkStats selective_attention(const Q& q, const K& k, const V& v, Out&& out,
                              const Options& options = {}) {
  return forward(q, k, v, standard | causal | selective, out, options);
}

}  // namespace heed::inline HEED_ABI
