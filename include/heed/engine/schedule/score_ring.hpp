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
class SharedScores {
 public:
  SharedScores() = default;
  SharedScores(Index tasks, Index block_size, Arena& arena)
      : tasks_(tasks),
        block_size_(block_size),
        slots_(arena.take<Slot>(slots)),
        next_(arena.take<Next>(tasks)),
        blocks_(arena.take<T>(slots * block_size)) {
    if (arena.measuring()) return;
    for (Index i = 0; i < slots; ++i) new (slots_ + i) Slot{nobody};
    for (Index i = 0; i < tasks; ++i) new (next_ + i) Next{not_running};
  }

  /// @param name   higher than of any block this task offered before
  /// @param count  numbers, at most block_size
  void offer(Index name, const T* scores, Index count) {
    Slot& slot = slots_[name % slots];
    const Index old = slot.name.load();
    wait_for_those_before(old);
    slot.name.store(nobody);
    wait_for_those_before(old);  // who began meanwhile, and looked before the block was gone
    if (!is_wanted(name)) return;
    std::copy_n(scores, count, block(name));
    slot.name.store(name);
  }

  /// False if the block is not there. Names rise here too.
  bool take(Index task, Index name, T* scores, Index count) {
    next_[task].name.store(name);
    if (slots_[name % slots].name.load() != name) return false;
    std::copy_n(block(name), count, scores);
    return true;
  }

  /// The task takes no more.
  void leave(Index task) { next_[task].name.store(not_running); }

 private:
  static constexpr Index slots = 16, nobody = -1, not_running = std::numeric_limits<Index>::max();

  struct Slot {
    std::atomic<Index> name;
  };
  /// Written by its task at every block: neighbours would share a line of cache.
  struct alignas(Workspace::alignment) Next {
    std::atomic<Index> name;  ///< that the task may take next
  };

  void wait_for_those_before(Index name) const {
    for (Index task = 0; task < tasks_; ++task)
      while (next_[task].name.load() <= name) std::this_thread::yield();
  }
  bool is_wanted(Index name) const {
    return std::any_of(next_, next_ + tasks_,
                       [&](const Next& next) { return next.name.load() <= name; });
  }

  T* block(Index name) const { return blocks_ + name % slots * block_size_; }

  Index tasks_ = 0, block_size_ = 0;
  Slot* slots_ = nullptr;
  Next* next_ = nullptr;
  T* blocks_ = nullptr;  ///< [slots][block_size]
};

}  // namespace heed::inline HEED_ABI::detail
