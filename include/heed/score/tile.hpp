// SPDX-License-Identifier: MIT
/// @file
/// The arguments of hooks: an interval of keys, a register of keys, a tile of scores.
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

/// How much of a tile is visible, beyond what the intervals of keys() say.
enum class BlockMask { empty, partial, full };

/// A tile of one head: rows × keys.
struct TileRange {
  Index batch, head;
  Index row, rows;  ///< rows [row, row + rows)
  Index key, keys;  ///< keys [key, key + keys)
  Index position;   ///< of the first row
};

/// The score of a masked key. It is finite, so that arithmetic under -ffast-math is safe. Visible
/// scores, which the library keeps above −max / 2, are never as low: a score below masked_below is
/// masked.
template <class T>
inline constexpr T masked = std::numeric_limits<T>::lowest();
template <class T>
inline constexpr T masked_below = std::numeric_limits<T>::lowest() / 4 * 3;

/// Consecutive keys of one row: the lanes of a register of scores.
template <class T>
struct Lanes {
  Index batch, head;
  Index row, position;         ///< of the query
  Index key, keys;             ///< the key in lane 0; the number of lanes that hold a key
  Index block_row, block_key;  ///< relative to the start of the tile
  bool fills_tile = false;     ///< padding row: a copy of the last query row
  const T* offsets = nullptr;  ///< positions of keys minus `origin`, if keys are not in order
  Index origin = 0;

  /// Position of each key minus that of the query: 0 is the query itself, negative is the past.
  HEED_INLINE Batch<T> distance() const {
    if (offsets != nullptr) return simd::load(offsets + key) + Batch<T>(T(origin - position));
    return simd::iota<T>() + Batch<T>(T(key - position));
  }
};

/// The selecting head's scores on a tile; masked ones are masked<T>.
template <class T>
struct ScoreTile {
  const T* scores;  ///< scores[r · stride + c]
  Index stride;
  Index row, rows;  ///< rows [row, row + rows)
  Index position;   ///< of the first row
  Index key, keys;  ///< keys [key, key + keys); later columns of the last register are undefined
};

/// Upper bounds of the size of a tile that is scanned. Other tiles may have more rows.
inline constexpr Index largest_tile_rows = 96, largest_tile_keys = 192;

/// Queries and keys of a separate selection function; empty if a head selects.
template <class T>
struct Projection {
  View<const T, 3> queries, keys;  ///< [B, Nq, Ds], [B, Nk, Ds]
};

/// Where the gradients of a Projection are written.
template <class T>
struct GradProjection {
  View<T, 3> queries, keys;
};

}  // namespace heed::inline HEED_ABI
