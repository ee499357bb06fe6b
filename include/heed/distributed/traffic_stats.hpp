// SPDX-License-Identifier: MIT
/// @file
/// What a distributed call did on one rank.
#pragma once

#include "heed/engine/work_stats.hpp"

namespace heed::inline HEED_ABI::distributed {

/// What one rank computed and sent. The sum over the ranks is the traffic of the call.
struct TrafficStats {
  WorkStats work;      ///< of all passes of this rank, those that only vote included
  Index bytes = 0;     ///< sent by this rank, everything included
  Index messages = 0;  ///< sent by this rank
  Index tokens = 0;    ///< keys sent with their values, a key counted once for each rank it went to
  /// What this rank would send if its keys and values visited all ranks, as in RingAttention; in
  /// backward() with their gradients.
  Index ring_bytes = 0;
};

}  // namespace heed::inline HEED_ABI::distributed
