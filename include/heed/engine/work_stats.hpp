// SPDX-License-Identifier: MIT
/// @file
/// The work that a call reports.
#pragma once

#include "heed/core/views.hpp"

#include <algorithm>

namespace heed::inline HEED_ABI {

/// Work done by a call.
struct WorkStats {
  Index pairs = 0;  ///< (query, key, head) in computed tiles: all visible ones except pruned keys
  Index tiles = 0;  ///< register tiles
  /// Upper bound of the softmax weight that the pruned keys would have received in any row, see
  /// Options::negligible and KvOptions::score_bound.
  double dropped = 0;

  WorkStats& operator+=(const WorkStats& other) {
    pairs += other.pairs, tiles += other.tiles;
    dropped = std::max(dropped, other.dropped);
    return *this;
  }
};

}  // namespace heed::inline HEED_ABI
