// SPDX-License-Identifier: MIT
/// @file
/// Jobs timed by turns, so that what the machine does beside them meets all alike.
#pragma once

#include "contender.hpp"

#include <span>

namespace compare {

/// Seconds a run takes.
struct Timing {
  double least = 0, median = 0;
  int rounds = 0;
};

struct Patience {
  int rounds = 5;
  int seconds = 60;  ///< After so long there are no more rounds, but three there are.
};

/// One timing each. A round takes every job once, for at least five milliseconds, in order.
std::vector<Timing> by_turns(std::span<const std::unique_ptr<Job>> jobs, int threads,
                             const Patience& patience);

}  // namespace compare
