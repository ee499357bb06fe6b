// SPDX-License-Identifier: MIT
/// @file Eigen's thread pool as an executor.
#pragma once

#include "heed/core/executor.hpp"

#include <unsupported/Eigen/CXX11/ThreadPool>

#include <atomic>
#include <condition_variable>
#include <mutex>

namespace heed::inline HEED_ABI {

/// Runs on an Eigen::ThreadPool the caller keeps alive: its threads, and none beside them. A call
/// made by one of these threads runs in that thread alone, since to wait for the others might be to
/// wait for ever.
inline Executor executor(Eigen::ThreadPoolInterface& pool) {
  const auto run = [](void* pool_, Index tasks, Executor::Body body, void* context) {
    auto& threads = *static_cast<Eigen::ThreadPoolInterface*>(pool_);
    if (threads.CurrentThreadId() >= 0) {
      for (Index task = 0; task < tasks; ++task) body(context, task, 0);
      return;
    }
    const Index workers = std::min<Index>(threads.NumThreads(), tasks);
    std::atomic<Index> next{0};
    std::mutex mutex;
    std::condition_variable all_done;
    Index running = workers;
    for (Index worker = 0; worker < workers; ++worker)
      threads.Schedule([&, worker] {
        for (Index task; (task = next.fetch_add(1, std::memory_order_relaxed)) < tasks;)
          body(context, task, worker);
        const std::lock_guard lock(mutex);  // held while notifying: `all_done` dies soon after
        if (--running == 0) all_done.notify_one();
      });
    std::unique_lock lock(mutex);
    all_done.wait(lock, [&] { return running == 0; });
  };
  return {&pool, Index(pool.NumThreads()), run};
}

}  // namespace heed::inline HEED_ABI
