// SPDX-License-Identifier: MIT
/// @file
/// The rotation of rotary position embedding: one row, or a panel of keys.
#pragma once

#include "heed/simd/rounded_register.hpp"

namespace heed::inline HEED_ABI {

/// Which elements of a head form a pair that rotates.
enum class RotaryPairs {
  interleaved,  ///< (0, 1), (2, 3), …: the paper's, GPT-J's
  half_split,   ///< (0, d/2), (1, d/2 + 1), …: GPT-NeoX's, Llama's in Transformers
};

namespace detail {

/// The cosines and sines of one token, dims / 2 each.
template <class C>
struct RotaryRow {
  const C *cosine, *sine;
};

/// (a, b) ← (a cos θ − b sin θ, a sin θ + b cos θ) of every pair of one row.
///
/// @param direction  1, or −1 for the inverse rotation.
template <RotaryPairs pairs, class C, class S>
HEED_INLINE void turn_row(S* x, const RotaryRow<C>& row, Index half, C direction) {
  using simd::load;
  constexpr bool split = pairs == RotaryPairs::half_split;
  constexpr Index lanes = simd::width<C>;
  const simd::Batch<C> sign(direction);
  Index i = 0;
  for (; i + lanes <= half; i += lanes) {
    simd::BatchPair<C> pair;
    if constexpr (split)
      pair = {simd::load_stored<C>(x + i), simd::load_stored<C>(x + half + i)};
    else
      pair = simd::load_unzipped<C>(x + 2 * i);
    const simd::Batch<C> cosine = load(row.cosine + i), sine = sign * load(row.sine + i);
    pair = {pair.first * cosine - pair.second * sine,
            simd::fma(pair.first, sine, pair.second * cosine)};
    if constexpr (split) {
      simd::store_rounded(pair.first, x + i);
      simd::store_rounded(pair.second, x + half + i);
    } else {
      simd::store_zipped(pair, x + 2 * i);
    }
  }
  for (; i < half; ++i) {
    S &first = x[split ? i : 2 * i], &second = x[split ? half + i : 2 * i + 1];
    const C a = C(first), b = C(second), cosine = row.cosine[i], sine = direction * row.sine[i];
    first = S(a * cosine - b * sine);
    second = S(a * sine + b * cosine);
  }
}

/// The same of `beside` keys side by side, a multiple of the register width: number i of key j is
/// x[i · beside + j]. `row` is laid out likewise, and numbers past the pairs are copied.
///
/// @param to  may be x.
template <class T>
void turn_panel(const T* x, Index dim, Index beside, RotaryPairs pairs, Index half,
                const RotaryRow<T>& row, T* to) {
  using simd::load;
  const bool split = pairs == RotaryPairs::half_split;
  for (Index i = 0; i < half; ++i) {
    const Index one = (split ? i : 2 * i) * beside, other = (split ? half + i : 2 * i + 1) * beside;
    for (Index j = 0; j < beside; j += simd::width<T>) {
      const simd::Batch<T> a = load(x + one + j), b = load(x + other + j),
                           cosine = load(row.cosine + i * beside + j),
                           sine = load(row.sine + i * beside + j);
      (a * cosine - b * sine).store_unaligned(to + one + j);
      simd::fma(a, sine, b * cosine).store_unaligned(to + other + j);
    }
  }
  if (to != x) std::copy(x + 2 * half * beside, x + dim * beside, to + 2 * half * beside);
}

}  // namespace detail
}  // namespace heed::inline HEED_ABI
