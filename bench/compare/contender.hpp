// SPDX-License-Identifier: MIT
/// @file
/// An implementation of attention that takes part in the comparison.
#pragma once

#include "inputs.hpp"

#include <memory>
#include <string>
#include <vector>

namespace compare {

/// A case with its memory, ready to run again and again.
class Job {
 public:
  virtual ~Job() = default;
  /// What is timed: one call, or one token.
  virtual void run() = 0;
  /// Of the last run.
  virtual Results results() const = 0;
};

class Contender {
 public:
  virtual ~Contender() = default;
  virtual std::string name() const = 0;
  /// Of the library behind it.
  virtual std::string version() const = 0;
  /// Null if it does not compute such a case. The inputs outlive the job.
  virtual std::unique_ptr<Job> prepare(const Inputs& inputs) = 0;
};

using Contenders = std::vector<std::unique_ptr<Contender>>;

/// heed, and then the other libraries that were found when this was configured.
Contenders all_contenders(int threads);

/// Names of the libraries that were not found.
std::vector<std::string> absent();

}  // namespace compare
