// SPDX-License-Identifier: MIT
/// @file How the work is cut: register tiles, row blocks, key blocks.
#pragma once

#include "heed/simd/matrix_tiles.hpp"

#include <type_traits>

namespace heed::inline HEED_ABI {

/// The default for this instruction set. A tile of group_rows × panel_vectors accumulators, its
/// keys and one broadcast fill the registers: 12 · 2 + 2 + 1 of 32, or 6 · 2 + 2 + 1 of 16. A key
/// block of 128 keys at D = 64 is 32 kB in float, which the second-level cache hands to the 8 or 16
/// row groups of a block in turn; block_rows is a multiple of both group sizes.
template <class T>
struct Blocking {
  using Packed = T;  ///< what queries, keys, values and weights are multiplied as
  static constexpr int group_rows = simd::registers >= 32 ? 12 : 6;
  static constexpr int panel_vectors = 2;
  static constexpr Index block_rows = 96;
  static constexpr Index block_keys = 128;
  static constexpr bool narrow_tiles = true;  ///< Are few rows worth tiles of their own?
};

/// Where all that is multiplied is of bfloat16.
struct PairBlocking : Blocking<float> {
  using Packed = simd::Bfloat16Pair;
};
/// The same in matrix registers: queries stay in rows, scores go by way of memory.
struct TileBlocking : PairBlocking {
  static constexpr int group_rows = simd::tile_rows;
  static constexpr bool narrow_tiles = false;
};

/// The default backwards. Weights and their gradients, 72 kB each, stay in the second-level cache
/// between the five products, and so do the keys' side, which is met by every row block; the wider
/// the block, the seldomer the rows' side comes from beyond. Both sizes are multiples of the row
/// group, since either is the rows of a product.
template <class T>
struct BackwardBlocking : Blocking<T> {
  static constexpr Index block_keys = sizeof(T) == 4 ? 192 : 96;
  static constexpr bool narrow_tiles = false;
};

namespace detail {

/// Up to so many query rows read keys and values as they are stored; for more it pays to pack or
/// widen them.
inline constexpr Index max_gemv_rows = 12;

/// What follows from a blocking.
template <class T, class B>
struct Tiles : B {
  using B::block_keys, B::block_rows, B::group_rows, B::panel_vectors;
  using typename B::Packed;

  static constexpr Index panel_keys = panel_vectors * simd::width<T>;
  /// Fewer rows than a group run tiles that are wider instead, so that enough multiply-adds are in
  /// flight: (rows, panels) of 1 × 4, a third × 2, all × 1.
  static constexpr int few_rows = group_rows / 3;
  static constexpr Index groups = block_rows / group_rows;
  /// How many numbers are multiplied at once. Queries and keys in pairs are multiplied unscaled,
  /// and their score by the factors of both.
  static constexpr Index numbers = simd::Operand<Packed>::numbers;

  /// Are both products made in matrix registers?
  static constexpr bool matrix_tiles = std::is_base_of_v<TileBlocking, B>;

  static_assert((!B::narrow_tiles || group_rows % 3 == 0) && block_rows % group_rows == 0);
  static_assert(!matrix_tiles ||
                (group_rows == simd::tile_rows && panel_keys == simd::tile_panel_keys));
  static_assert(block_keys % (B::narrow_tiles ? 4 * panel_keys : panel_keys) == 0,
                "a block is whole tiles of every width");
};

template <class T>
constexpr Index round_up(Index n, T step) {
  return (n + Index(step) - 1) / Index(step) * Index(step);
}

}  // namespace detail
}  // namespace heed::inline HEED_ABI
