// SPDX-License-Identifier: MIT
/// @file From a register tile of scores to one of weights.
#pragma once

#include "heed/engine/strip.hpp"

namespace heed::inline HEED_ABI::detail {

/// The running softmax (Milakov, Gimelshein: Online normalizer calculation for softmax,
/// arXiv:1805.02867), with a lazy maximum: it is raised only when a score exceeds it by `slack`, so
/// that what was summed is hardly ever rescaled. Weights stay below 2^slack, which costs no
/// accuracy.
struct OnlineSoftmax {
  static constexpr bool keeps_products = false;

  template <class T>
  static constexpr T slack = T(8);

  /// Raises the maximum of one row.
  template <class T, class B>
  [[gnu::noinline]] static void raise(Strip<T, B>& s, Index row, const Batch<T>& top, T* weights,
                                      Index done) {
    const T max = simd::reduce_max(top);
    const T fade = simd::exp2(s.max[row] - max);
    s.max[row] = max;
    for (Index d = 0; d < s.columns; ++d) s.out[row * s.columns + d] *= fade;
    for (Index lane = 0; lane < simd::width<T>; ++lane) s.sum[row * simd::width<T> + lane] *= fade;
    for (Index j = 0; j < done; ++j) weights[j] *= fade;
  }

  /// scores: of one row. weights: where to write 2^(score − max), as change(weight, register)
  /// leaves them; `done` of them stand before, from this key block.
  template <bool Masked, int Vectors, class T, class B, class Change>
  HEED_INLINE static void row(Strip<T, B>& s, Index row, Batch<T> (&scores)[Vectors], T* weights,
                              Index done, Change&& change) {
    Batch<T> top = scores[0];
#pragma GCC unroll 8
    for (int v = 1; v < Vectors; ++v) top = simd::max(top, scores[v]);
    if (simd::any(top > Batch<T>(s.max[row] + slack<T>))) [[unlikely]]
      raise(s, row, top, weights - done, done);

    const Batch<T> max(s.max[row]);
    T* sum = s.sum + row * simd::width<T>;
    Batch<T> total = simd::load(sum);
#pragma GCC unroll 8
    for (int v = 0; v < Vectors; ++v) {
      Batch<T> weight = simd::exp2(scores[v] - max);
      if constexpr (Masked)
        weight = simd::select(scores[v] < Batch<T>(hidden_below<T>), Batch<T>(T(0)), weight);
      total = total + weight;
      change(weight, v).store_unaligned(weights + v * simd::width<T>);
    }
    total.store_unaligned(sum);
  }
};

/// Weights from a log-sum-exp that is already known: Strip::max holds it, in log2 units, and beyond
/// every score where a row sees nothing.
struct KnownSoftmax {
  static constexpr bool keeps_products = false;

  template <bool Masked, int Vectors, class T, class B, class Change>
  HEED_INLINE static void row(Strip<T, B>& s, Index row, Batch<T> (&scores)[Vectors], T* weights,
                              Index, Change&&) {
    const Batch<T> lse(s.max[row]);
#pragma GCC unroll 8
    for (int v = 0; v < Vectors; ++v) {
      Batch<T> weight = simd::exp2(scores[v] - lse);
      if constexpr (Masked)
        weight = simd::select(scores[v] < Batch<T>(hidden_below<T>), Batch<T>(T(0)), weight);
      weight.store_unaligned(weights + v * simd::width<T>);
    }
  }
};

/// The same for the backward pass, where a stage may need the products its scores came from.
struct ReplayedSoftmax : KnownSoftmax {
  static constexpr bool keeps_products = true;
};

}  // namespace heed::inline HEED_ABI::detail
