// SPDX-License-Identifier: MIT
/// @file
/// A mask of evicted keys.
#pragma once

#include "heed/score/stage.hpp"

namespace heed::inline HEED_ABI {

/// Key j is masked for rows at position evict_row[b, j] and later, or evict_row[b, g, j] if key
/// heads keep different tokens. This is attention with eviction as a mask, to train a model for it.
/// Use it together with a causal mask.
///
/// @throws ShapeError if evict_row is neither [B, Nk] nor [B, G, Nk], or not contiguous along Nk.
struct Alive : StageOf<Rank::mask> {
  View<const std::int64_t, 3> evict_row;  ///< [B, G or 1, Nk]
  Index group = 1;                        ///< query heads that share a row of evict_row

  template <class T>
  Alive bind(const Problem& p, Arena&) const {
    return {{}, evict_row, evict_row.stride(1) == 0 ? p.heads : p.group()};
  }
  void check(const Problem& p) const {
    detail::reads(p.tensors, "evict_row", evict_row);
    if (evict_row.stride(1) == 0)
      expect_dims("evict_row", Dims<2>{evict_row.dim(0), evict_row.dim(2)}, {p.batch, p.keys},
                  "one row per key");
    else
      expect_dims("evict_row", evict_row.dims(), {p.batch, p.key_heads, p.keys},
                  "one row per key head and key");
    if (evict_row.dim(2) > 1 && evict_row.stride(2) != 1)
      throw ShapeError("evict_row has stride ", evict_row.stride(2),
                       " along its last dimension, which must be contiguous");
  }

  BlockMask block_mask(const TileRange& tile) const {
    const std::int64_t* rows = rows_of(tile.batch, tile.head, tile.key);
    const Index first = tile.position, last = first + tile.rows - 1;
    Index gone = 0, alive = 0;
    for (Index j = 0; j < tile.keys; ++j) {
      gone += rows[j] <= first;
      alive += rows[j] > last;
    }
    return gone == tile.keys    ? BlockMask::empty
           : alive == tile.keys ? BlockMask::full
                                : BlockMask::partial;
  }
  template <class T>
  HEED_INLINE Mask<T> visible(const Mask<T>& m, const Lanes<T>& at) const {
    const std::int64_t* rows = rows_of(at.batch, at.head, at.key);
    T lanes[std::size_t(simd::width<T>)] = {};
    if (at.keys >= simd::width<T>)
      for (Index j = 0; j < simd::width<T>; ++j) lanes[j] = rows[j] > at.position ? T(1) : T(0);
    else
      for (Index j = 0; j < at.keys; ++j) lanes[j] = rows[j] > at.position ? T(1) : T(0);
    return m & (simd::load(lanes) > Batch<T>(T(0)));
  }

 private:
  HEED_INLINE const std::int64_t* rows_of(Index batch, Index head, Index key) const {
    return evict_row.data() + batch * evict_row.stride(0) + head / group * evict_row.stride(1) +
           key;
  }
};

/// Masks key j from position evict_row[b, j] on, for all key heads; [B, Nk]. ShapeError for other
/// shapes.
inline Alive alive(View<const std::int64_t, 2> evict_row) {
  return {{},
          {evict_row.data(),
           {evict_row.dim(0), 1, evict_row.dim(1)},
           {evict_row.stride(0), 0, evict_row.stride(1)}}};
}
/// The same per key head, [B, G, Nk].
inline Alive alive(View<const std::int64_t, 3> evict_row) {
  return {{}, evict_row};
}

}  // namespace heed::inline HEED_ABI
