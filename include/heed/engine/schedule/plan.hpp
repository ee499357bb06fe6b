// SPDX-License-Identifier: MIT
/// @file
/// The division of a forward pass into tasks.
#pragma once

#include "heed/engine/blocking.hpp"
#include "heed/score/stage.hpp"

#include <algorithm>

namespace heed::inline HEED_ABI::detail {

/// Divides rows into blocks, heads into query tiles and, if queries are few, keys into splits
/// (Flash-Decoding). Only `head_partitions` depends on the number of threads, because that number
/// must not change a result.
struct Plan {
  Index block_rows = 0, blocks = 0;  ///< rows per block, and number of blocks
  Index tile_heads = 1;              ///< heads per query tile, see QueryTile
  Index query_tiles = 0;             ///< query tiles per row block of a batch entry
  Index head_partitions = 1;         ///< parts of the heads, if rows run in order
  Index worker_tiles = 1;            ///< query tiles that a worker processes together
  Index tasks = 0;                   ///< independent tasks; each has kv_splits parts
  Index kv_splits = 0;               ///< ranges of the keys if packed on the fly, else 0

  /// @param scans  a stage carries state from row to row, so that rows must run in order.
  template <class Config>
  static Plan of(const Problem& p, bool scans, Index workers) {
    Plan plan;
    plan.block_rows = std::clamp<Index>(p.queries, 1, Config::block_rows);
    plan.blocks = (p.queries + plan.block_rows - 1) / plan.block_rows;
    // Few queries: heads that share a key head form one tile, so that its keys are read once.
    plan.tile_heads = std::clamp<Index>(Config::block_rows / plan.block_rows, 1, p.group());
    while (p.group() % plan.tile_heads != 0) --plan.tile_heads;
    plan.query_tiles = p.heads / plan.tile_heads;
    if (scans) {
      // Each partition of the heads processes all row blocks in order. The partition with the
      // selecting head publishes its scores to the others, see ScoreRing.
      plan.head_partitions =
          std::clamp<Index>((workers + p.batch - 1) / p.batch, 1, plan.query_tiles);
      plan.worker_tiles = (plan.query_tiles + plan.head_partitions - 1) / plan.head_partitions;
      plan.tasks = p.batch * plan.head_partitions;
    } else {
      plan.tasks = p.batch * plan.query_tiles * plan.blocks;
      if (plan.blocks == 1 && plan.tile_heads == p.group()) plan.split_keys<Config>(p.keys);
    }
    return plan;
  }

 private:
  /// For few queries, all in one tile per key head: each key is then read once, while packing in
  /// advance would access it three times. Long sequences of keys are split, so that several threads
  /// have work.
  template <class Config>
  void split_keys(Index keys) {
    constexpr Index enough_tasks = 16, least_blocks = 8;
    const Index key_blocks = (keys + Config::block_keys - 1) / Config::block_keys,
                most = std::max<Index>(enough_tasks / tasks, 1);
    kv_splits = std::clamp<Index>(key_blocks / least_blocks, 1, most);
  }
};

}  // namespace heed::inline HEED_ABI::detail
