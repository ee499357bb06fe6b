// SPDX-License-Identifier: MIT
/// @file
/// Dropout on attention weights.
#pragma once

#include "heed/score/stage.hpp"

namespace heed::inline HEED_ABI {

/// w(i, j) ← w(i, j) / (1 − p) with probability 1 − p, else 0, after the softmax.
///
/// Whether a weight is kept is a function of (seed, batch, head, row, key) alone, computed by the
/// counter-based generator Philox 2×32-10 (Salmon et al., Parallel random numbers: as easy as 1, 2,
/// 3). It is the same in forward and backward, for any number of threads and any tiling. Use
/// another seed for each step. lse and weights() are those before dropout.
///
/// @throws ValueError unless 0 ≤ p < 1.
struct Dropout : StageOf<Rank::weight> {
  double probability = 0;
  std::uint64_t seed = 0;

  void check(const Problem&) const {
    if (!detail::is_finite(probability) || probability < 0 || probability >= 1)
      throw ValueError("dropout of ", probability, ", must lie in [0, 1)");
  }

  template <class T>
  HEED_INLINE Batch<T> weight(const Batch<T>& w, const Lanes<T>& at) const {
    const T kept = T(1 / (1 - probability));
    const auto below = std::uint32_t(probability * 4294967296.0);  // p in units of 2⁻³²
    const std::uint32_t stream = stream_of(at.batch, at.head);
    T factors[std::size_t(simd::width<T>)];
    for (Index lane = 0; lane < simd::width<T>; ++lane)
      factors[lane] =
          draw(std::uint32_t(at.key + lane), std::uint32_t(at.row), stream) < below ? T(0) : kept;
    // Select, not multiply: gradients of masked keys may be NaN.
    const Batch<T> factor = simd::load(factors), zero(T(0));
    return simd::select(factor > zero, w * factor, zero);
  }

  /// Philox 2×32-10: ten rounds of a 32 × 32 → 64-bit product.
  static std::uint32_t draw(std::uint32_t low, std::uint32_t high, std::uint32_t key) {
    for (int round = 0; round < 10; ++round) {
      const std::uint64_t product = std::uint64_t(0xD256D193u) * low;
      low = std::uint32_t(product >> 32) ^ key ^ high;
      high = std::uint32_t(product);
      key += 0x9E3779B9u;
    }
    return low;
  }

 private:
  /// The Philox key of a head of a batch entry.
  std::uint32_t stream_of(Index batch, Index head) const {
    const std::uint32_t mixed =
        draw(std::uint32_t(batch), std::uint32_t(head), std::uint32_t(seed));
    return draw(mixed, std::uint32_t(seed >> 32), std::uint32_t(seed));
  }
};
/// Drops each softmax weight with this probability, the others are divided by 1 − p; the same
/// weights in forward() and backward() for the same seed. ValueError unless 0 ≤ p < 1.
inline Dropout dropout(double probability, std::uint64_t seed) {
  return {{}, probability, seed};
}

}  // namespace heed::inline HEED_ABI
