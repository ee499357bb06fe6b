// SPDX-License-Identifier: MIT
/// @file
/// What figures are worth nothing without: on what they were measured.
#pragma once

#include <string>

namespace compare {

struct Machine {
  std::string processor, compiler, flags;
  int threads = 1;
};

Machine this_machine(int threads);

/// What the machine can do on so many threads.
struct Limits {
  double peak = 0;    ///< multiply-adds, FLOP/s, float
  double stream = 0;  ///< bytes/s read from memory

  /// Of two measurements of a machine that others use too.
  Limits& operator|=(const Limits& other);
};

/// Measures it, in half a second.
Limits limits(int threads);

}  // namespace compare
