// SPDX-License-Identifier: MIT
/// @file
/// The division of a forward pass into tasks.
#pragma once

#include "heed/engine/blocking.hpp"
#include "heed/score/stage.hpp"

#include <algorithm>
#include <optional>

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
  /// @param rows  the most rows of a query tile; none: see most_rows().
  template <class Config>
  static Plan of(const Problem& p, bool scans, Index workers, std::optional<Index> rows = {}) {
    Plan plan;
    const Index most = rows ? *rows : scans ? Config::block_rows : most_rows<Config>(p);
    plan.block_rows = std::clamp<Index>(p.queries, 1, most);
    plan.blocks = (p.queries + plan.block_rows - 1) / plan.block_rows;
    if (!scans && plan.blocks > 1)  // of one size
      plan.block_rows = round_up((p.queries + plan.blocks - 1) / plan.blocks, Config::group_rows);
    // Few queries: heads that share a key head form one tile, so that its keys are read once.
    plan.tile_heads = std::clamp<Index>(most / plan.block_rows, 1, p.group());
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
  static constexpr Index enough_tasks = 16;

  /// Rows of a query tile if no state passes from row to row: as many as half of a small L2 cache
  /// holds with their sums, so that keys and values are read less often from beyond it. They are
  /// fewer if there were too few tasks otherwise, but not if all rows of a key head fit: its keys
  /// can then be split.
  template <class Config>
  static Index most_rows(const Problem& p) {
    constexpr Index bytes = Index(384) << 10, size = sizeof(typename Config::Scalar);
    const auto whole_blocks = [](Index rows) {
      return std::clamp<Index>(rows / Config::block_rows, 1, 8) * Config::block_rows;
    };
    const Index fit = whole_blocks(bytes / std::max<Index>((p.dim + p.value_dim) * size, 1));
    if (p.group() * p.queries <= fit &&
        p.batch * p.key_heads * most_splits<Config>(p.keys) >= enough_tasks)
      return fit;
    return std::min(fit, whole_blocks(p.batch * p.heads * p.queries / enough_tasks));
  }

  /// For few queries, all in one tile per key head: each key is then read once, while packing in
  /// advance would access it three times. Long sequences of keys are split, so that several threads
  /// have work.
  template <class Config>
  void split_keys(Index keys) {
    kv_splits = std::min(most_splits<Config>(keys), std::max<Index>(enough_tasks / tasks, 1));
  }
  /// Splits of at least eight blocks.
  template <class Config>
  static Index most_splits(Index keys) {
    return std::max<Index>(keys / Config::block_keys / 8, 1);
  }
};

}  // namespace heed::inline HEED_ABI::detail
