// SPDX-License-Identifier: MIT
/// @file How a forward pass is cut into tasks.
#pragma once

#include "heed/engine/blocking.hpp"
#include "heed/score/stage.hpp"

#include <algorithm>

namespace heed::inline HEED_ABI::detail {

/// Rows in blocks, heads in query_tiles, and few queries' keys in kv_splits. By sizes alone, but
/// for `head_partitions`: how many threads there are must not change a result.
struct Plan {
  Index block_rows = 0, blocks = 0;  ///< rows of a block, and how many blocks
  Index tile_heads = 1;              ///< heads of a strip, see QueryTile
  Index query_tiles = 0;             ///< of a batch entry's row block
  Index head_partitions = 1;         ///< of heads, where rows run in order
  Index worker_tiles = 1;            ///< query_tiles that a thread has in hand at once
  Index tasks = 0;                   ///< that may run at once; of kv_splits each
  Index kv_splits = 0;               ///< of keys, where they are packed when they are met; else 0

  /// @param scans  something is carried down the rows, so that they run in order.
  template <class Tile>
  static Plan of(const Problem& p, bool scans, Index workers) {
    Plan plan;
    plan.block_rows = std::clamp<Index>(p.queries, 1, Tile::block_rows);
    plan.blocks = (p.queries + plan.block_rows - 1) / plan.block_rows;
    // Few queries: heads that share a key head go together, so that its keys are read once.
    plan.tile_heads = std::clamp<Index>(Tile::block_rows / plan.block_rows, 1, p.group());
    while (p.group() % plan.tile_heads != 0) --plan.tile_heads;
    plan.query_tiles = p.heads / plan.tile_heads;
    if (scans) {
      // A chain of row blocks for each share of the heads. The share that has the selecting head
      // offers its scores to the others, see ScoreRing.
      plan.head_partitions =
          std::clamp<Index>((workers + p.batch - 1) / p.batch, 1, plan.query_tiles);
      plan.worker_tiles = (plan.query_tiles + plan.head_partitions - 1) / plan.head_partitions;
      plan.tasks = p.batch * plan.head_partitions;
    } else {
      plan.tasks = p.batch * plan.query_tiles * plan.blocks;
      if (plan.blocks == 1 && plan.tile_heads == p.group()) plan.split_keys<Tile>(p.keys);
    }
    return plan;
  }

 private:
  /// Few queries, all in one strip for each key head: keys are read once, and packing them
  /// beforehand would read them three times. Long ones are cut into kv_splits, so that there is
  /// work for some threads.
  template <class Tile>
  void split_keys(Index keys) {
    constexpr Index enough_tasks = 16, least_blocks = 8;
    const Index key_blocks = (keys + Tile::block_keys - 1) / Tile::block_keys,
                most = std::max<Index>(enough_tasks / tasks, 1);
    kv_splits = std::clamp<Index>(key_blocks / least_blocks, 1, most);
  }
};

}  // namespace heed::inline HEED_ABI::detail
