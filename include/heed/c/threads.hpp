// SPDX-License-Identifier: MIT
/// @file
/// Threads of the C interface: Eigen's pool.
#pragma once

#include "heed/c/call.hpp"
#include "heed/core/thread_pool.hpp"

#include <system_error>

namespace heed::inline HEED_ABI::c_interface {

/// @throws ValueError, Error
inline heed_handle open_threads(int count) {
  constexpr int most = 1024;
  if (count < 1 || count > most)
    throw ValueError("heed_threads_open: ", count, " threads, must lie in 1 … ", most);
  try {
    return Handles::all().add(Kind::threads, new Eigen::ThreadPool(count),
                              [](void* pool) { delete static_cast<Eigen::ThreadPool*>(pool); });
  } catch (const std::system_error& e) {
    throw Error(HEED_OUT_OF_MEMORY, "heed_threads_open: ", e.what());
  }
}

inline void RunInUse::use_threads() {
  auto& pool = threads_.as<Eigen::ThreadPool>();
  run_.pool = &pool, run_.workers = pool.NumThreads();
  run_.run_tasks = [](void* of, std::int64_t tasks, heed_task task, void* context) {
    executor (*static_cast<Eigen::ThreadPool*>(of))(
        tasks, [=](Index number, Index worker) { task(context, number, worker); });
  };
}

}  // namespace heed::inline HEED_ABI::c_interface
