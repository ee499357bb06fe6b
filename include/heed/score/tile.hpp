// SPDX-License-Identifier: MIT
/// @file
/// What hooks are handed: a row, an interval of keys, a register of keys, a tile of scores.
#pragma once

#include "heed/score/problem.hpp"
#include "heed/simd/exp2.hpp"

#include <algorithm>
#include <limits>

namespace heed::inline HEED_ABI {

using simd::Batch, simd::Mask;

/// Keys first ≤ j < last.
struct KeyRange {
  Index first, last;

  KeyRange operator&(const KeyRange& other) const {
    return {std::max(first, other.first), std::min(last, other.last)};
  }
};

/// How much of a tile a mask shows, beyond what intervals of keys say already.
enum class BlockMask { empty, partial, full };

/// Rows by keys of one head.
struct TileRange {
  Index batch, head;
  Index row, rows;  ///< rows [row, row + rows)
  Index key, keys;  ///< keys [key, key + keys)
  Index position;   ///< of the first row
};

/// A masked score: finite, so that no arithmetic under -ffast-math goes wrong with it, and so low
/// that no visible score, which the library keeps above −max / 2, is taken for it.
template <class T>
inline constexpr T masked = std::numeric_limits<T>::lowest();
template <class T>
inline constexpr T masked_below = std::numeric_limits<T>::lowest() / 4 * 3;

/// Adjacent keys of one row: what a register of scores belongs to.
template <class T>
struct Lanes {
  Index batch, head;
  Index row, position;         ///< of the query
  Index key, keys;             ///< the key in lane 0, and how many lanes hold a key
  Index block_row, block_key;  ///< both counted from the start of the tile
  bool fills_tile = false;     ///< no query: the row only fills a tile, and repeats the last one's
  const T* offsets = nullptr;  ///< positions of keys less `origin`, where keys are not in order
  Index origin = 0;

  /// Position of each key less that of the query: 0 is the query itself, negative the past.
  HEED_INLINE Batch<T> distance() const {
    if (offsets != nullptr) return simd::load(offsets + key) + Batch<T>(T(origin - position));
    return simd::iota<T>() + Batch<T>(T(key - position));
  }
};

/// The selecting head's scores on a tile, masked ones at masked<T>.
template <class T>
struct ScoreTile {
  const T* scores;  ///< scores[r · stride + c]
  Index stride;
  Index row, rows;  ///< rows [row, row + rows)
  Index position;   ///< of the first row
  Index key, keys;  ///< keys [key, key + keys); columns up to the next register hold anything
};

/// No tile is larger.
inline constexpr Index largest_tile_rows = 96, largest_tile_keys = 192;

/// Queries and keys of a selection function of its own; empty if a head selects.
template <class T>
struct Projection {
  View<const T, 3> queries, keys;  ///< [B, Nq, Ds], [B, Nk, Ds]
};

/// Where the gradients of a Projection go.
template <class T>
struct GradProjection {
  View<T, 3> queries, keys;
};

}  // namespace heed::inline HEED_ABI
