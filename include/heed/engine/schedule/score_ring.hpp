// SPDX-License-Identifier: MIT
/// @file
/// A ring buffer of the selecting head's scores, which one thread computes for several.
#pragma once

#include "heed/core/workspace.hpp"

#include <algorithm>
#include <atomic>
#include <limits>
#include <thread>

namespace heed::inline HEED_ABI::detail {

/// A ring of 16 score blocks with one producer task and several consumer tasks. Blocks have
/// increasing sequence numbers.
///
/// A consumer never waits: if a block is missing, because it is not published yet or is
/// overwritten, the consumer recomputes it, to the same bits. The producer waits only if a running
/// consumer is 16 blocks behind. It does not wait for a consumer that has not started, because that
/// task may be queued on the producer's own thread.
template <class T>
class ScoreRing {
 public:
  ScoreRing() = default;
  ScoreRing(Index tasks, Index block_size, Arena& arena)
      : tasks_(tasks),
        block_size_(block_size),
        slots_(arena.take<Slot>(slots)),
        consumers_(arena.take<Consumer>(tasks)),
        blocks_(arena.take<T>(slots * block_size)) {
    if (arena.measuring()) return;
    for (Index i = 0; i < slots; ++i) new (slots_ + i) Slot{empty};
    for (Index i = 0; i < tasks; ++i) new (consumers_ + i) Consumer{not_running};
  }

  /// @param sequence  greater than that of any earlier block
  /// @param count     number of scores, at most block_size
  void publish(Index sequence, const T* scores, Index count) {
    Slot& slot = slots_[sequence % slots];
    const Index old = slot.sequence.load();
    wait_for_consumers_before(old);
    slot.sequence.store(empty);
    wait_for_consumers_before(old);  // a consumer that started meanwhile may still read the block
    if (!has_consumer(sequence)) return;
    std::copy_n(scores, count, block(sequence));
    slot.sequence.store(sequence);
  }

  /// Copies a block; returns false if it is not in the ring. A consumer must ask for increasing
  /// sequence numbers.
  bool try_get(Index task, Index sequence, T* scores, Index count) {
    consumers_[task].sequence.store(sequence);
    if (slots_[sequence % slots].sequence.load() != sequence) return false;
    std::copy_n(block(sequence), count, scores);
    return true;
  }

  /// Ends a consumer: the producer no longer waits for it.
  void detach(Index task) { consumers_[task].sequence.store(not_running); }

 private:
  static constexpr Index slots = 16, empty = -1, not_running = std::numeric_limits<Index>::max();

  struct Slot {
    std::atomic<Index> sequence;
  };
  /// Aligned to a cache line, because its task writes it at every block (false sharing).
  struct alignas(Workspace::alignment) Consumer {
    std::atomic<Index> sequence;  ///< the lowest number that the task may still read
  };

  void wait_for_consumers_before(Index sequence) const {
    for (Index task = 0; task < tasks_; ++task)
      while (consumers_[task].sequence.load() <= sequence) std::this_thread::yield();
  }
  bool has_consumer(Index sequence) const {
    return std::any_of(consumers_, consumers_ + tasks_, [&](const Consumer& consumer) {
      return consumer.sequence.load() <= sequence;
    });
  }

  T* block(Index sequence) const { return blocks_ + sequence % slots * block_size_; }

  Index tasks_ = 0, block_size_ = 0;
  Slot* slots_ = nullptr;
  Consumer* consumers_ = nullptr;
  T* blocks_ = nullptr;  ///< [slots][block_size]
};

}  // namespace heed::inline HEED_ABI::detail
