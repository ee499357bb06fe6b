// SPDX-License-Identifier: MIT
/// @file
/// The largest score of each head.
#pragma once

#include "heed/score/stage.hpp"

#include <atomic>

namespace heed::inline HEED_ABI {

/// largest[b, h] = max of s(i, j) over the visible pairs (i, j), where s is the natural score after
/// the preceding stages; −∞ if a head sees no key. Changes nothing else. QK-clip rescales the
/// projections by it (Kimi Team: Kimi K2, arXiv:2507.20534).
///
///     standard | causal | largest_score(largest)
///
/// @param largest  [B, H], overwritten by forward(); backward() does not write it.
/// @throws ShapeError unless it is [B, H].
/// @note One maximum per register of scores.
template <class T>
struct LargestScore : StageOf<Rank::mask> {
  View<T, 2> largest;
  T* lanes = nullptr;  ///< [H][width], per worker; null in backward()
  Index heads = 0, batch = 0;

  template <class U>
  LargestScore bind(const Problem& p, Arena& arena) const {
    static_assert(std::is_same_v<T, U>, "heed: largest_score must have the number type of out");
    LargestScore bound = *this;
    if (p.backward) return bound;
    bound.heads = p.heads;
    bound.lanes = arena.take<T>(p.heads * simd::width<T>);
    if (!arena.measuring())
      for (Index b = 0; b < p.batch; ++b)
        for (Index h = 0; h < p.heads; ++h) largest(b, h) = -std::numeric_limits<T>::infinity();
    return bound;
  }
  void check(const Problem& p) const {
    expect_dims("largest_score", largest.dims(), {p.batch, p.heads},
                "one number per head of each batch entry");
    if (!p.backward) detail::writes(p.tensors, "largest_score", largest);
  }
  bool keeps_causal_past() const { return true; }

  void begin(Index entry, bool) {
    batch = entry;
    if (lanes != nullptr) std::fill_n(lanes, heads * simd::width<T>, masked<T>);
  }
  /// After the masks: masked scores are masked<T>.
  HEED_INLINE Batch<T> scan_bias(const Batch<T>& s, const Lanes<T>& at) const {
    if (lanes != nullptr && !at.fills_tile) {
      T* const most = lanes + at.head * simd::width<T>;
      simd::max(simd::load(most), s).store_unaligned(most);
    }
    return s;
  }
  /// Workers may share a head. The maximum does not depend on their order.
  void end() {
    for (Index h = 0; lanes != nullptr && h < heads; ++h) {
      const T most = simd::reduce_max(simd::load(lanes + h * simd::width<T>));
      if (most < masked_below<T>) continue;
      std::atomic_ref<T> shared(largest(batch, h));
      T known = shared.load(std::memory_order_relaxed);
      while (known < most * simd::ln2<T> &&
             !shared.compare_exchange_weak(known, most * simd::ln2<T>, std::memory_order_relaxed)) {
      }
    }
  }
};

/// Writes the largest visible natural score of each head to `largest`, [B, H], in forward().
/// ShapeError for other shapes.
template <TensorLike<2> X>
auto largest_score(X&& largest) {
  using T = ScalarOf<X>;
  return LargestScore<T>{{}, View<T, 2>(std::forward<X>(largest))};
}

}  // namespace heed::inline HEED_ABI
