// SPDX-License-Identifier: MIT
/// @file
/// An executor that runs on Eigen's thread pool.
#pragma once

#include "heed/core/executor.hpp"

#include <unsupported/Eigen/CXX11/ThreadPool>

#include <atomic>
#include <condition_variable>
#include <mutex>

namespace heed::inline HEED_ABI {

/// Runs tasks on an Eigen::ThreadPool, and on no other thread. The caller keeps the pool alive. A
/// call from one of the pool's own threads runs in that thread alone, because waiting there for the
/// other threads could deadlock.
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
        const std::lock_guard lock(mutex);  // held while notifying: the waiter destroys `all_done`
        if (--running == 0) all_done.notify_one();
      });
    std::unique_lock lock(mutex);
    all_done.wait(lock, [&] { return running == 0; });
  };
  return {&pool, Index(pool.NumThreads()), run};
}

}  // namespace heed::inline HEED_ABI
