// SPDX-License-Identifier: MIT
/// @file
/// PyTorch's threads as an executor.
#pragma once

#include "heed/core/executor.hpp"

#include <ATen/Parallel.h>
#include <algorithm>
#include <atomic>
#include <cstdint>

namespace heed_torch {

/// As many as at::get_num_threads() says, and none beside them; inside a parallel region the
/// calling thread alone.
inline heed::Executor threads() {
  const auto run = [](void*, heed::Index tasks, heed::Executor::Body body, void* context) {
    const auto workers = std::min<heed::Index>(at::get_num_threads(), tasks);
    std::atomic<heed::Index> next{0};
    // parallel_for splits its range statically, and tasks differ in length. Therefore the range is
    // the workers, and each worker takes tasks dynamically.
    at::parallel_for(0, workers, 1, [&](std::int64_t first, std::int64_t last) {
      for (std::int64_t worker = first; worker < last; ++worker)
        for (heed::Index task; (task = next.fetch_add(1, std::memory_order_relaxed)) < tasks;)
          body(context, task, worker);
    });
  };
  return {nullptr, at::in_parallel_region() ? 1 : at::get_num_threads(), run};
}

}  // namespace heed_torch
