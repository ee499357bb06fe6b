// SPDX-License-Identifier: MIT
/// @file
/// What a call reports of its work.
#pragma once

#include "heed/core/views.hpp"

#include <algorithm>

namespace heed::inline HEED_ABI {

/// Work done by a call.
struct WorkStats {
  Index pairs = 0;  ///< (query, key, head) in computed tiles: all visible ones but those pruned
  Index tiles = 0;  ///< register tiles
  /// At most so much softmax weight of any row would have gone to the keys that were pruned, see
  /// Options::negligible and KvOptions::score_bound.
  double dropped = 0;

  WorkStats& operator+=(const WorkStats& other) {
    pairs += other.pairs, tiles += other.tiles;
    dropped = std::max(dropped, other.dropped);
    return *this;
  }
};
using WorkStats = WorkStats;  ///< its name until 0.1

}  // namespace heed::inline HEED_ABI
