// SPDX-License-Identifier: MIT
/// @file
/// What each row of a chunk sees of the slots of a sequence.
#pragma once

#include "heed/score/stage.hpp"

#include <algorithm>

namespace heed::inline HEED_ABI::detail {

/// Stage that masks each slot outside its rows and subtracts F in the rows of a chunk.
template <class T>
struct KvVisibility : StageOf<Rank::scan> {
  const T* first_row = nullptr;  ///< [stride] first row in which the slot is visible
  const T* end_row = nullptr;    ///< [stride] first row in which it no longer is
  const T* penalty = nullptr;    ///< [rows of the chunk][stride] −F; null: no selection
  T* scores = nullptr;           ///< [rows of the chunk][stride] of the selecting head
  Index stride = 0;              ///< a multiple of the key block

  BlockMask block_mask(const TileRange& block) const {
    const Batch<T> first(T(block.row)), last(T(block.row + block.rows - 1));
    bool any_masked = false, any_visible = false;  // of the (row, key) pairs
    for (Index j = 0; j < block.keys; j += simd::width<T>) {
      const Mask<T> keys = simd::lanes_between<T>(0, block.keys - j);
      const Batch<T> from = simd::load(first_row + block.key + j),
                     to = simd::load(end_row + block.key + j);
      any_masked |= simd::any(keys & ((from > first) | (to <= last)));
      any_visible |= simd::any(keys & (from <= last) & (to > first));
    }
    return !any_masked ? BlockMask::full : any_visible ? BlockMask::partial : BlockMask::empty;
  }
  HEED_INLINE Mask<T> visible(const Mask<T>& m, const Lanes<T>& at) const {
    const Batch<T> row(T(at.row));
    return m & (simd::load(first_row + at.key) <= row) & (row < simd::load(end_row + at.key));
  }
  HEED_INLINE Batch<T> scan_bias(const Batch<T>& s, const Lanes<T>& at) const {
    return penalty ? s + simd::load(penalty + at.block_row * stride + at.key) : s;
  }
  void scan_tile(const ScoreTile<T>& panel) {
    for (Index r = 0; r < panel.rows; ++r)
      std::copy_n(panel.scores + r * panel.stride, panel.keys, scores + r * stride + panel.key);
  }
};

}  // namespace heed::inline HEED_ABI::detail
