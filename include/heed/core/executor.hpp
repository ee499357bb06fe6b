// SPDX-License-Identifier: MIT
/// @file
/// The interface to the threads that run the tasks of a call.
#pragma once

#include "heed/core/views.hpp"

#include <algorithm>

namespace heed::inline HEED_ABI {

/// Runs tasks 0 … tasks − 1 on at most `workers` threads, each once, and returns when all are done.
/// The library creates no threads: the caller supplies a pool, or the calling thread runs the
/// tasks. No result depends on the number of workers or on the assignment of tasks to them. A task
/// may wait for another task that has started, so a started task must keep running while others
/// run. Tasks do not throw.
class Executor {
 public:
  /// body(context, task, worker): 0 ≤ worker < `workers`, and no two concurrent tasks have the same
  /// worker. The number of workers may be large: only workers that have tasks take memory.
  using Body = void (*)(void* context, Index task, Index worker);
  using Run = void (*)(void* pool, Index tasks, Body body, void* context);

  Executor() = default;  ///< Runs the tasks in the calling thread.
  /// @throws ValueError if workers < 0, or if workers > 1 and run is null.
  Executor(void* pool, Index workers, Run run) : pool_(pool), workers_(workers), run_(run) {
    if (workers < 0 || (workers > 1 && run == nullptr))
      throw ValueError("Executor: workers are ", workers, ", run is ", run ? "given" : "null",
                       ": none may be negative, and several need a function that runs them");
  }

  Index workers() const { return workers_; }
  /// The number of workers that this many tasks can use. The worker index that a task receives is
  /// below it.
  Index workers(Index tasks) const { return std::max<Index>(std::min(workers_, tasks), 1); }

  template <class F>
  void operator()(Index tasks, F&& f) const {
    // If there are more workers than tasks, each task becomes its own worker, so that scratch for
    // as many workers as tasks is enough.
    struct Call {
      std::remove_reference_t<F>* f;
      bool by_task;
    } call{&f, tasks < workers_};
    // Every thread must run the same machine code. If the compiler inlined the body at each call,
    // it could fuse multiply-adds in one copy and not in another, and results would depend on which
    // thread runs a task. The volatile read hides the function, so that it cannot be inlined.
    const volatile Body unknown = [](void* context, Index task, Index worker) {
      const Call& x = *static_cast<const Call*>(context);
      (*x.f)(task, x.by_task ? task : worker);
    };
    const Body body = unknown;
    if (workers_ <= 1 || tasks <= 1) {
      call.by_task = false;
      for (Index task = 0; task < tasks; ++task) body(&call, task, Index(0));
    } else {
      run_(pool_, tasks, body, &call);
    }
  }

 private:
  void* pool_ = nullptr;
  Index workers_ = 1;
  Run run_ = nullptr;
};

/// Runs all tasks in the calling thread.
inline Executor serial() {
  return {};
}

}  // namespace heed::inline HEED_ABI
