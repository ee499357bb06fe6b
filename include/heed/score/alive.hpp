// SPDX-License-Identifier: MIT
/// @file Keys that were evicted.
#pragma once

#include "heed/score/stage.hpp"

namespace heed::inline HEED_ABI {

/// Key j is gone from position evict_row[b, j] on: pruned attention as a mask, which is what a
/// model trains with. Beside a causal mask.
///
/// @throws ShapeError if evict_row is not [B, Nk].
struct Alive : StageOf<Rank::mask> {
  static constexpr bool indexes_keys = true;

  View<const std::int64_t, 2> evict_row;

  /// The rows as numbers of the call's type, counted from the first row and clamped to those of the
  /// call, so that a comparison in float is exact up to 2²⁴ rows a call.
  template <class T>
  struct Bound : StageOf<Rank::mask> {
    static constexpr bool indexes_keys = true;

    View<const std::int64_t, 2> evict_row;
    T* lives;  ///< per key: the first row of the call that does not see it
    Index rows, offset;

    void begin(Index batch, bool) {
      for (Index j = 0; j < evict_row.dim(1); ++j)
        lives[j] = T(std::clamp<Index>(Index(evict_row(batch, j)), offset, offset + rows) - offset);
    }
    Cover cover(const Block& block) const {
      Index dead = 0, alive = 0;
      for (Index j = 0; j < block.keys; ++j) {
        dead += lives[block.key + j] <= T(block.row);
        alive += lives[block.key + j] >= T(block.row + block.rows);
      }
      return dead == block.keys ? Cover::none : alive == block.keys ? Cover::full : Cover::partial;
    }
    HEED_INLINE Mask<T> visible(const Mask<T>& m, const Lanes<T>& at) const {
      return m & (simd::load(lives + at.key) > Batch<T>(T(at.row)));
    }
  };

  template <class T>
  Bound<T> bind(const Problem& p, Arena& arena) const {
    return {{}, evict_row, arena.take<T>(p.keys + simd::width<T>), p.queries, p.query_offset};
  }
  void check(const Problem& p) const {
    expect_dims("evict_row", evict_row.dims(), {p.batch, p.keys}, "one row per key");
    if (p.queries > Index(1) << 24)
      throw ValueError("alive: at most 2^24 rows a call, there are ", p.queries);
  }
};
inline Alive alive(View<const std::int64_t, 2> evict_row) {
  return {{}, evict_row};
}

}  // namespace heed::inline HEED_ABI
