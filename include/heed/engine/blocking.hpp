// SPDX-License-Identifier: MIT
/// @file
/// Blocking sizes: register tiles, row blocks, key blocks.
#pragma once

#include "heed/simd/matrix_tiles.hpp"

#include <type_traits>

namespace heed::inline HEED_ABI {

/// The default for this instruction set. group_rows × panel_vectors accumulators, the keys of one
/// step and one broadcast query fill the registers: 12 · 2 + 2 + 1 of 32, or 6 · 2 + 2 + 1 of 16. A
/// key block of 128 keys at D = 64 takes 32 kB in float. It stays in the L2 cache while the row
/// groups of a row block read it in turn. block_rows is a multiple of all group sizes.
template <class T>
struct Blocking {
  using Packed = T;  ///< operand type of queries, keys, values and weights
  static constexpr int group_rows = simd::registers >= 32 ? 12 : 6;
  static constexpr int panel_vectors = 2;
  /// Rows of a block. The forward pass takes more, see Plan::most_rows(), unless a stage carries
  /// state from row to row or masks blocks.
  static constexpr Index block_rows = 96;
  static constexpr Index block_keys = 128;
  static constexpr bool narrow_tiles = true;     ///< true: few rows have tile shapes of their own
  static constexpr bool keeps_products = false;  ///< true: q·k is kept for all rows of a block
};

/// For products of bfloat16.
struct PairBlocking : Blocking<float> {
  using Packed = simd::Bfloat16Pair;
};
/// The same in matrix registers: queries stay in rows, and scores go through memory.
struct TileBlocking : PairBlocking {
  static constexpr int group_rows = simd::tile_rows;
  static constexpr bool narrow_tiles = false;
};

/// The default of the backward pass. The weights and their gradients, 72 kB each, stay in the L2
/// cache between the five products. So do the operands of the key block, which every row block
/// reads. A wider key block loads the operands of the rows less often from beyond that cache. Both
/// block sizes are multiples of the row group, because each is the row count of a product.
template <class T>
struct BackwardBlocking : Blocking<T> {
  static constexpr Index block_keys = sizeof(T) == 4 ? 192 : 96;
  static constexpr bool narrow_tiles = false, keeps_products = true;
};

namespace detail {

/// Up to this many query rows read keys and values unpacked. Packing or widening them pays off only
/// for more rows.
inline constexpr Index max_gemv_rows = 12;

/// The sizes that follow from a blocking.
template <class T, class B>
struct TileConfig : B {
  using B::block_keys, B::block_rows, B::group_rows, B::panel_vectors;
  using typename B::Packed;
  using Scalar = T;

  static constexpr Index panel_keys = panel_vectors * simd::width<T>;
  /// Fewer rows than a group use wider tiles, so that enough multiply-adds are in flight:
  /// (rows × panels) are 1 × 4, group_rows / 3 × 2 or group_rows × 1.
  static constexpr int few_rows = group_rows / 3;
  /// Numbers per operand. Pairs (2) of queries and keys are multiplied unscaled, and the factors of
  /// both then scale the score.
  static constexpr Index numbers = simd::Operand<Packed>::numbers;

  /// True if both products use matrix registers.
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
