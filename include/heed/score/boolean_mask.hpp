// SPDX-License-Identifier: MIT
/// @file
/// A mask from a boolean tensor.
#pragma once

#include "heed/score/broadcast.hpp"
#include "heed/simd/stored_rows.hpp"

#include <cstring>

namespace heed::inline HEED_ABI {

/// Pair (i, j) is visible where mask[b, h, i, j] is not 0. Dimensions of size 1 broadcast.
///
/// @throws ShapeError if the mask does not broadcast to [B, H, Nq, Nk].
/// @note Tiles that are masked everywhere are skipped, tiles that are visible everywhere run
/// unmasked. If a window or a block span describes the mask, prefer it: a boolean mask is read pair
/// by pair.
template <class Flag>  // bool or std::uint8_t
struct BooleanMask : StageOf<Rank::mask> {
  View<const Flag, 4> flags;

  template <class T>
  BooleanMask bind(const Problem& p, Arena&) const {
    return {{}, detail::broadcast("mask", flags, p)};
  }
  void check(const Problem& p) const {
    detail::broadcast("mask", flags, p);
    detail::reads(p.tensors, "mask", flags);
  }

  BlockMask block_mask(const TileRange& block) const {
    Index seen = 0;
    for (Index r = 0; r < block.rows; ++r) {
      const Flag* row = detail::row_at(flags, block.batch, block.head, block.row + r, block.key);
      if (in_order() && std::memchr(row, 0, std::size_t(block.keys)) == nullptr)
        seen += block.keys;
      else
        for (Index j = 0; j < block.keys; ++j) seen += row[j * flags.stride(3)] != Flag(0);
      // Some pairs are visible, and some are not.
      if (seen != 0 && seen != (r + 1) * block.keys) return BlockMask::partial;
    }
    return seen == 0 ? BlockMask::empty : BlockMask::full;
  }

  template <class T>
  HEED_INLINE Mask<T> visible(const Mask<T>& m, const Lanes<T>& at) const {
    const Flag* row = detail::row_at(flags, at.batch, at.head, at.row, at.key);
    const Batch<T> zero(T(0));
    if (in_order() && at.keys >= simd::width<T>)  // flags are bytes
      return m & (simd::load_stored<T>(reinterpret_cast<const std::int8_t*>(row)) != zero);
    T lanes[std::size_t(simd::width<T>)] = {};
    for (Index j = 0; j < at.keys; ++j) lanes[j] = T(row[j * flags.stride(3)] != Flag(0));
    return m & (simd::load(lanes) != zero);
  }

 private:
  bool in_order() const { return flags.stride(3) == 1; }
};

/// Masks key j for row i where flags[b, h, i, j] is 0; bool or std::uint8_t, [B, H, Nq, Nk], sizes
/// of 1 broadcast. ShapeError for other shapes.
template <TensorLike<4> X>
auto boolean_mask(X&& flags) {
  using Flag = ScalarOf<X>;
  static_assert(sizeof(Flag) == 1, "heed: a mask is of bool or std::uint8_t");
  return BooleanMask<Flag>{{}, View<const Flag, 4>(std::forward<X>(flags))};
}

}  // namespace heed::inline HEED_ABI
