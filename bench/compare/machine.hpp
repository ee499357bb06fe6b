// SPDX-License-Identifier: MIT
/// @file What figures are worth nothing without: on what they were measured.
#pragma once

#include <string>

namespace compare {

struct Machine {
  std::string processor, compiler, flags;
  int threads = 1;
  double peak = 0;    ///< multiply-adds, FLOP/s, float
  double stream = 0;  ///< bytes/s read from memory
};

/// Measures what this machine can do on so many threads.
Machine measured(int threads);

}  // namespace compare
