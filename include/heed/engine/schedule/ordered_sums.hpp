// SPDX-License-Identifier: MIT
/// @file Tasks that add to the same places one after the other, in a fixed order.
#pragma once

#include "heed/core/workspace.hpp"

#include <atomic>
#include <thread>

namespace heed::inline HEED_ABI::detail {

/// Each place is visited by visitor 0, 1, 2 …, whoever runs them: sums are then the same for any
/// number of threads. Who waits must be sure that the visitors before it are being run.
class OrderedSums {
 public:
  OrderedSums() = default;
  OrderedSums(Index places, Arena& arena) : next_(arena.take<std::atomic<Index>>(places)) {
    if (!arena.measuring())
      for (Index place = 0; place < places; ++place) new (next_ + place) std::atomic<Index>(0);
  }

  /// Returns when all visitors before this one have passed the place. Mostly they are ahead by a
  /// block of work, and nobody waits.
  void wait(Index place, Index visitor) const {
    while (next_[place].load(std::memory_order_acquire) != visitor) std::this_thread::yield();
  }
  void pass(Index place) const { next_[place].fetch_add(1, std::memory_order_release); }

 private:
  std::atomic<Index>* next_ = nullptr;
};

}  // namespace heed::inline HEED_ABI::detail
