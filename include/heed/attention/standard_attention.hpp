// SPDX-License-Identifier: MIT
/// @file
/// Attention as in "Attention is all you need", in one call.
#pragma once

#include "heed/engine/forward.hpp"
#include "heed/score/causal.hpp"
#include "heed/score/standard.hpp"

namespace heed::inline HEED_ABI {

/// Every query sees every key:
///
///     out[b, h, i] = Σ_j softmax_j(q[b, h, i] · k[b, g, j] / √D) v[b, g, j],   g = h div (H / G)
///
/// @param q    [B, H, Nq, D].
/// @param k    [B, G, Nk, D].
/// @param v    [B, G, Nk, Dv].
/// @param out  [B, H, Nq, Dv], overwritten; must not overlap the others.
/// @throws ShapeError if the shapes do not fit; out is untouched then.
/// @note Time O(B H Nq Nk (D + Dv)); no Nq × Nk matrix is stored. arXiv:1706.03762
template <class Q, class K, class V, class Out>
WorkStats standard_attention(const Q& q, const K& k, const V& v, Out&& out,
                             const Options& options = {}) {
  return forward(q, k, v, standard, out, options);
}

/// standard_attention() under a causal mask: query i sees keys j ≤ i, and Nq = Nk. Half the time.
template <class Q, class K, class V, class Out>
WorkStats causal_attention(const Q& q, const K& k, const V& v, Out&& out,
                           const Options& options = {}) {
  return forward(q, k, v, standard | causal, out, options);
}

}  // namespace heed::inline HEED_ABI
