// SPDX-License-Identifier: MIT
/// @file Attention as in "Attention is all you need", whole.
#pragma once

#include "heed/engine/forward.hpp"
#include "heed/score/causal.hpp"
#include "heed/score/standard.hpp"

namespace heed::inline HEED_ABI {

/// Every query sees every key:
///
///     out[b, h, i] = Σ_j softmax_j(q[b, h, i] · k[b, g, j] / √D) v[b, g, j],   g = h div (H / G)
///
/// @param q [B, H, Nq, D].  @param k [B, G, Nk, D].  @param v [B, G, Nk, Dv].
/// @param out [B, H, Nq, Dv], overwritten; overlaps none of the others.
/// @throws ShapeError if they do not fit; out is then untouched.                arXiv:1706.03762
template <class Q, class K, class V, class Out>
WorkStats standard_attention(const Q& q, const K& k, const V& v, Out&& out,
                             const Options& options = {}) {
  return forward(q, k, v, standard, out, options);
}

/// Every query sees the keys up to its own: the same with j ≤ i, Nq = Nk.
template <class Q, class K, class V, class Out>
WorkStats causal_attention(const Q& q, const K& k, const V& v, Out&& out,
                           const Options& options = {}) {
  return forward(q, k, v, standard | causal, out, options);
}

}  // namespace heed::inline HEED_ABI
