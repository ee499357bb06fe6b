// SPDX-License-Identifier: MIT
/// @file Scores of the selecting head, worked out by one thread for all that need them.
#pragma once

#include "heed/core/workspace.hpp"

#include <algorithm>
#include <atomic>
#include <limits>
#include <thread>

namespace heed::inline HEED_ABI::detail {

/// Blocks of numbers that one task offers and others take, by names that rise as a task goes on.
///
/// What is not there, because it is yet to come or is gone, a taker works out itself, to the same
/// bits. So takers never wait; who offers waits when it is sixteen blocks ahead, and only for
/// takers that have begun: one that has not might be this thread's next task.
template <class T>
class ScoreRing {
 public:
  ScoreRing() = default;
  ScoreRing(Index tasks, Index block_size, Arena& arena)
      : tasks_(tasks),
        block_size_(block_size),
        slots_(arena.take<Slot>(slots)),
        next_(arena.take<Next>(tasks)),
        blocks_(arena.take<T>(slots * block_size)) {
    if (arena.measuring()) return;
    for (Index i = 0; i < slots; ++i) new (slots_ + i) Slot{empty};
    for (Index i = 0; i < tasks; ++i) new (next_ + i) Next{not_running};
  }

  /// @param sequence   higher than of any block this task offered before
  /// @param count  numbers, at most block_size
  void publish(Index sequence, const T* scores, Index count) {
    Slot& slot = slots_[sequence % slots];
    const Index old = slot.sequence.load();
    wait_for_consumers_before(old);
    slot.sequence.store(empty);
    wait_for_consumers_before(old);  // who began meanwhile, and looked before the block was gone
    if (!has_consumer(sequence)) return;
    std::copy_n(scores, count, block(sequence));
    slot.sequence.store(sequence);
  }

  /// False if the block is not there. Names rise here too.
  bool try_get(Index task, Index sequence, T* scores, Index count) {
    next_[task].sequence.store(sequence);
    if (slots_[sequence % slots].sequence.load() != sequence) return false;
    std::copy_n(block(sequence), count, scores);
    return true;
  }

  /// The task takes no more.
  void detach(Index task) { next_[task].sequence.store(not_running); }

 private:
  static constexpr Index slots = 16, empty = -1, not_running = std::numeric_limits<Index>::max();

  struct Slot {
    std::atomic<Index> sequence;
  };
  /// Written by its task at every block: neighbours would share a line of cache.
  struct alignas(Workspace::alignment) Next {
    std::atomic<Index> sequence;  ///< that the task may take next
  };

  void wait_for_consumers_before(Index sequence) const {
    for (Index task = 0; task < tasks_; ++task)
      while (next_[task].sequence.load() <= sequence) std::this_thread::yield();
  }
  bool has_consumer(Index sequence) const {
    return std::any_of(next_, next_ + tasks_,
                       [&](const Next& next) { return next.sequence.load() <= sequence; });
  }

  T* block(Index sequence) const { return blocks_ + sequence % slots * block_size_; }

  Index tasks_ = 0, block_size_ = 0;
  Slot* slots_ = nullptr;
  Next* next_ = nullptr;
  T* blocks_ = nullptr;  ///< [slots][block_size]
};

}  // namespace heed::inline HEED_ABI::detail
