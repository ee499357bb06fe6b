// SPDX-License-Identifier: MIT
/// @file Who runs the independent pieces of a call.
#pragma once

#include "heed/core/views.hpp"

namespace heed::inline HEED_ABI {

/// Runs task 0 … tasks − 1, each once, on at most `workers` threads, and returns when all are done.
/// The library creates no thread: the caller brings a pool, or everything runs in its own thread.
/// No result depends on the number of workers or on which of them runs what. A task may wait for
/// another that has begun, so that what has begun must go on while others run; tasks do not throw.
class Executor {
 public:
  /// body(context, task, worker): worker is below `workers`, and never in two places at once.
  using Body = void (*)(void* context, Index task, Index worker);
  using Run = void (*)(void* pool, Index tasks, Body body, void* context);

  Executor() = default;  ///< In the calling thread.
  Executor(void* pool, Index workers, Run run) : pool_(pool), workers_(workers), run_(run) {}

  Index workers() const { return workers_; }

  template <class F>
  void operator()(Index tasks, F&& f) const {
    // One function for every thread. Inlined into each place that runs tasks, its sums of products
    // would be fused here and not there, and results would depend on who runs what. Read back from
    // memory, it is a function that the compiler does not know, and cannot inline.
    const volatile Body unknown = [](void* context, Index task, Index worker) {
      (*static_cast<std::remove_reference_t<F>*>(context))(task, worker);
    };
    const Body body = unknown;
    if (workers_ <= 1 || tasks <= 1)
      for (Index task = 0; task < tasks; ++task) body(&f, task, Index(0));
    else
      run_(pool_, tasks, body, &f);
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
