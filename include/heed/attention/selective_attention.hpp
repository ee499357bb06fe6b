// SPDX-License-Identifier: MIT
/// @file Selective attention, whole.
#pragma once

#include "heed/engine/forward.hpp"
#include "heed/score/causal.hpp"
#include "heed/score/selective.hpp"
#include "heed/score/standard.hpp"

namespace heed::inline HEED_ABI {

/// Causal self-attention in which tokens may tell later ones to forget a key
/// (Leviathan, Kalman, Matias: Selective Attention Improves Transformer, arXiv:2410.02703):
///
///     out[b,h,i] = Σ_{j≤i} softmax_j(q[b,h,i] · k[b,g,j] / √D − F[b,i,j]) v[b,g,j]
///     F[b,i,j]   = Σ_{n<i} max(0, q[b,0,n] · k[b,0,j] / √D), the terms j = 0 and j = n left out
///
/// @param q    [B, H, N, D] queries, finite. Head 0 also does the selecting.
/// @param k    [B, G, N, D] keys, finite; g = h div (H / G).
/// @param v    [B, G, N, Dv] values.
/// @param out  [B, H, N, Dv], overwritten; overlaps none of the others.
/// @throws ShapeError if they do not fit; out is then untouched.
/// @note Time O(B H N² D), a few per cent over causal_attention, and less the more is forgotten;
///       memory O(N): no N × N matrix exists. Rows run in order; heads and batch entries are what
///       can run in parallel.
template <class Q, class K, class V, class Out>
WorkStats selective_attention(const Q& q, const K& k, const V& v, Out&& out,
                              const Options& options = {}) {
  return forward(q, k, v, standard | causal | selective, out, options);
}

}  // namespace heed::inline HEED_ABI
