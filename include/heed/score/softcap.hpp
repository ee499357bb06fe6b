// SPDX-License-Identifier: MIT
/// @file
/// Capped scores.
#pragma once

#include "heed/score/stage.hpp"

namespace heed::inline HEED_ABI {

/// s ← c · tanh(s / c), before bias and masks, as in ONNX's Attention-24: a cap after the mask
/// would make masked keys visible again. arXiv:2408.00118
///
/// @throws ValueError unless c is in [1e-30, 1e30].
struct Softcap : StageOf<Rank::cap> {
  static constexpr Reads reads = Reads::score;
  static constexpr bool never_masks = true;

  double cap = 0;

  void check(const Problem&) const {
    if (!detail::is_finite(cap) || cap < 1e-30 || cap > 1e30)
      throw ValueError("softcap is ", cap, ", must be positive, and lie in [1e-30, 1e30]");
  }
  template <class T>
  HEED_INLINE Batch<T> score(const Batch<T>& s, const Lanes<T>&) const {
    const T c = T(cap) * simd::log2e<T>;  // in log2 units, which cancel in s / c
    return Batch<T>(c) * simd::tanh(s * Batch<T>(1 / c));
  }

  bool keeps_causal_past() const { return true; }
  bool shares_gradients() const { return false; }
  template <class T>
  HEED_INLINE Batch<T> grad_score(const Batch<T>& grad, const Batch<T>& s, const Lanes<T>&) {
    const Batch<T> t = simd::tanh(s * Batch<T>(1 / (T(cap) * simd::log2e<T>)));
    return grad * (Batch<T>(T(1)) - t * t);
  }
};
/// Caps natural scores: s ← cap · tanh(s / cap). ValueError unless `cap` is in [1e-30, 1e30].
constexpr Softcap softcap(double cap) {
  return {{}, cap};
}

}  // namespace heed::inline HEED_ABI
