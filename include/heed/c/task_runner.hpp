// SPDX-License-Identifier: MIT
/// @file
/// A caller's heed_run_tasks, which is not trusted.
#pragma once

#include "heed/c/run.h"
#include "heed/core/abi.hpp"

#include <atomic>
#include <memory>
#include <new>
#include <thread>

namespace heed::inline HEED_ABI::c_interface {

/// Runs tasks by a function of the caller. Whatever that does before it returns, each task runs
/// once, and no two at a time have the same worker. Results are therefore complete, and
/// was_obeyed() says whether the function kept to the rules.
class TaskRunner {
 public:
  TaskRunner(heed_run_tasks by, void* pool, std::int64_t workers)
      : run_(by), pool_(pool), workers_(workers) {}

  bool was_obeyed() const { return obeyed_; }

  /// A heed_run_tasks, whose pool is the TaskRunner.
  static void run(void* self, std::int64_t tasks, heed_task task, void* context) {
    static_cast<TaskRunner*>(self)->run(tasks, task, context);
  }

 private:
  using Flags = std::unique_ptr<std::atomic<bool>[]>;

  struct Call {
    heed_task task;
    void* context;
    std::int64_t tasks, workers;
    Flags taken, busy;  ///< of each task; of each worker
    std::atomic<std::int64_t> running{0};
    std::atomic<bool> obeyed{true};

    void run(std::int64_t number, std::int64_t worker) {
      ++running;
      if (number < 0 || number >= tasks || worker < 0 || worker >= workers ||
          busy[std::size_t(worker)].exchange(true)) {
        obeyed = false;
      } else {
        if (taken[std::size_t(number)].exchange(true))
          obeyed = false;
        else
          task(context, number, worker);
        busy[std::size_t(worker)] = false;
      }
      --running;
    }
  };

  void run(std::int64_t tasks, heed_task task, void* context) {
    Call call{task, context, tasks, workers_, flags(tasks), flags(workers_)};
    if (!call.taken || !call.busy) {  // memory is exhausted
      for (std::int64_t number = 0; number < tasks; ++number) task(context, number, 0);
      return;
    }
    try {
      run_(
          pool_, tasks,
          [](void* to, std::int64_t number, std::int64_t worker) {
            static_cast<Call*>(to)->run(number, worker);
          },
          &call);
    } catch (...) {  // of a caller in C++
      call.obeyed = false;
    }
    while (call.running != 0) call.obeyed = false, std::this_thread::yield();
    for (std::int64_t number = 0; number < tasks; ++number)
      if (!call.taken[std::size_t(number)]) call.run(number, 0), call.obeyed = false;
    if (!call.obeyed) obeyed_ = false;
  }
  static Flags flags(std::int64_t count) {
    return Flags(new (std::nothrow) std::atomic<bool>[std::size_t(count)]());
  }

  heed_run_tasks run_;
  void* pool_;
  std::int64_t workers_;
  bool obeyed_ = true;
};

}  // namespace heed::inline HEED_ABI::c_interface
