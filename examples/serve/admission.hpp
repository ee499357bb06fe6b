// SPDX-License-Identifier: MIT
/// @file
/// Whether a pool has room for one more request.
#pragma once

#include "lm/shared_memory.hpp"

#include <algorithm>

namespace serve {

using heed::Index;

/// Counts the pages that are promised to requests, so that none is admitted for which the pool may
/// later lack pages. A request is a fork of the prefix; no step reads more than one piece of a
/// prompt.
///
/// On a budget a request soon overwrites what it shared, and holds its budget. In full memory it
/// never writes to the prefix's full pages, which stay shared. A step sets pages aside for shared
/// ones that it might write to, which count too.
class Admission {
 public:
  /// @param prefix  tokens of the prefix.
  /// @param piece   most tokens of a prompt that a step reads.
  /// @param overbook  promises made over pages there are: above 1, steps may run out of pages.
  Admission(const lm::SharedMemory& memory, std::int64_t prefix, std::int64_t piece,
            double overbook = 1);

  /// Pages of a request that comes to so many tokens, the prefix's included.
  Index pages_of(std::int64_t tokens) const;
  /// Pages that the prefix holds, and those that a step may need to read a prompt.
  Index base() const { return base_; }
  /// Pages that may be promised in all, base() included.
  Index most() const { return most_; }
  Index promised() const { return promised_; }

  /// @return whether there is room, which is then taken.
  bool admit(std::int64_t tokens);
  void leave(std::int64_t tokens) { promised_ -= pages_of(tokens); }
  /// @throws lm::ConfigError, with both numbers, if not even this one fits.
  void expect_room(std::int64_t tokens) const;

 private:
  const lm::SharedMemory& memory_;
  std::int64_t prefix_;
  Index base_ = 0, most_, promised_;
};

}  // namespace serve
