// SPDX-License-Identifier: MIT
/// @file How a forward pass is cut into tasks.
#pragma once

#include "heed/engine/blocking.hpp"
#include "heed/score/stage.hpp"

#include <algorithm>

namespace heed::inline HEED_ABI::detail {

/// Rows in blocks, heads in strips, and few queries' keys in spans. By sizes alone, but for
/// `shares`: how many threads there are must not change a result.
struct Plan {
  Index block_rows = 0, blocks = 0;  ///< rows of a block, and how many blocks
  Index strip_heads = 1;             ///< heads of a strip, see Strip
  Index strips = 0;                  ///< of a batch entry's row block
  Index shares = 1;                  ///< of heads, where rows run in order
  Index lane_strips = 1;             ///< strips that a thread has in hand at once
  Index tasks = 0;                   ///< that may run at once; of spans each
  Index spans = 0;                   ///< of keys, where they are packed when they are met; else 0

  /// @param carries  something is carried down the rows, so that they run in order.
  template <class Tile>
  static Plan of(const Problem& p, bool carries, Index workers) {
    Plan plan;
    plan.block_rows = std::clamp<Index>(p.queries, 1, Tile::block_rows);
    plan.blocks = (p.queries + plan.block_rows - 1) / plan.block_rows;
    // Few queries: heads that share a key head go together, so that its keys are read once.
    plan.strip_heads = std::clamp<Index>(Tile::block_rows / plan.block_rows, 1, p.group());
    while (p.group() % plan.strip_heads != 0) --plan.strip_heads;
    plan.strips = p.heads / plan.strip_heads;
    if (carries) {
      // A chain of row blocks for each share of the heads. The share that has the selecting head
      // offers its scores to the others, see SharedScores.
      plan.shares = std::clamp<Index>((workers + p.batch - 1) / p.batch, 1, plan.strips);
      plan.lane_strips = (plan.strips + plan.shares - 1) / plan.shares;
      plan.tasks = p.batch * plan.shares;
    } else {
      plan.tasks = p.batch * plan.strips * plan.blocks;
      if (plan.blocks == 1 && plan.strip_heads == p.group()) plan.cut_keys<Tile>(p.keys);
    }
    return plan;
  }

 private:
  /// Few queries, all in one strip for each key head: keys are read once, and packing them
  /// beforehand would read them three times. Long ones are cut into spans, so that there is work
  /// for some threads.
  template <class Tile>
  void cut_keys(Index keys) {
    constexpr Index enough_tasks = 16, least_blocks = 8;
    const Index key_blocks = (keys + Tile::block_keys - 1) / Tile::block_keys,
                most = std::max<Index>(enough_tasks / tasks, 1);
    spans = std::clamp<Index>(key_blocks / least_blocks, 1, most);
  }
};

}  // namespace heed::inline HEED_ABI::detail
