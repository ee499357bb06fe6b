// SPDX-License-Identifier: MIT
/// @file
/// Lets tasks add to the same buffers one after the other, in a fixed order.
#pragma once

#include "heed/core/workspace.hpp"

#include <atomic>
#include <thread>

namespace heed::inline HEED_ABI::detail {

/// A ticket lock per slot: the tasks with tickets 0, 1, 2 … add to a slot in that order, so that
/// floating-point sums do not depend on the number of threads. Tasks must start in the order of
/// their tickets, or wait() may deadlock.
class OrderedSums {
 public:
  OrderedSums() = default;
  OrderedSums(Index slots, Arena& arena) : next_(arena.take<std::atomic<Index>>(slots)) {
    if (!arena.measuring())
      for (Index slot = 0; slot < slots; ++slot) new (next_ + slot) std::atomic<Index>(0);
  }

  /// Returns when all earlier tickets have released the slot. They are usually ahead by a block of
  /// work, so that the wait is rare.
  void wait(Index slot, Index ticket) const {
    while (next_[slot].load(std::memory_order_acquire) != ticket) std::this_thread::yield();
  }
  void release(Index slot) const { next_[slot].fetch_add(1, std::memory_order_release); }

 private:
  std::atomic<Index>* next_ = nullptr;
};

}  // namespace heed::inline HEED_ABI::detail
