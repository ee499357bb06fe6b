// SPDX-License-Identifier: MIT
/// @file Who runs the independent pieces of a call.
#pragma once

#include "heed/core/views.hpp"

#include <algorithm>

namespace heed::inline HEED_ABI {

/// Runs task 0 … tasks − 1, each once, on at most `workers` threads, and returns when all are done.
/// The library creates no thread: the caller brings a pool, or everything runs in its own thread.
/// No result depends on the number of workers or on which of them runs what. A task may wait for
/// another that has begun, so that what has begun must go on while others run; tasks do not throw.
class Executor {
 public:
  /// body(context, task, worker): worker is below `workers`, and never in two places at once. There
  /// may be any number of workers: memory is taken for as many as have tasks.
  using Body = void (*)(void* context, Index task, Index worker);
  using Run = void (*)(void* pool, Index tasks, Body body, void* context);

  Executor() = default;  ///< In the calling thread.
  /// @throws ValueError if workers are negative in number, or several and nothing runs them.
  Executor(void* pool, Index workers, Run run) : pool_(pool), workers_(workers), run_(run) {
    if (workers < 0 || (workers > 1 && run == nullptr))
      throw ValueError("Executor: workers are ", workers, ", run is ", run ? "given" : "null",
                       ": none may be negative, and several need a function that runs them");
  }

  Index workers() const { return workers_; }
  /// How many of them so many tasks can use. What a task is told of its worker is below.
  Index workers(Index tasks) const { return std::max<Index>(std::min(workers_, tasks), 1); }

  template <class F>
  void operator()(Index tasks, F&& f) const {
    // Of more workers than tasks some are idle: each task counts as a worker of its own, so that
    // scratch for as many as there are tasks is enough.
    struct Call {
      std::remove_reference_t<F>* f;
      bool by_task;
    } call{&f, tasks < workers_};
    // One function for every thread. Inlined into each place that runs tasks, its sums of products
    // would be fused here and not there, and results would depend on which thread runs what. Read
    // back from memory, it is a function that the compiler does not know, and cannot inline.
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

/// Everything in the calling thread.
inline Executor serial() {
  return {};
}

}  // namespace heed::inline HEED_ABI
