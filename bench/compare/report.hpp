// SPDX-License-Identifier: MIT
/// @file
/// What was measured, as a table and as JSON.
#pragma once

#include "contender.hpp"
#include "machine.hpp"
#include "timing.hpp"

#include <string>
#include <utility>
#include <vector>

namespace compare {

/// A contender's part in a case.
struct Entry {
  std::string name;
  Timing timing;
  double difference = 0;  ///< of its results from heed's, see compare::difference
};

/// heed comes first.
struct Measured {
  Case what;
  Limits limits;
  std::vector<Entry> entries;

  /// What a rate is held against: the multiply-add peak, or reading from memory.
  double limit() const { return what.decodes() ? limits.stream : limits.peak; }
  /// Of the limit.
  double share(const Entry& entry) const {
    return (what.decodes() ? what.bytes() : what.flop()) / entry.timing.least / limit();
  }
  double time_over_heed(const Entry& entry) const {
    return entry.timing.least / entries.front().timing.least;
  }
};

class Report {
 public:
  Report(const Machine& machine, const Contenders& contenders);

  /// Prints on what all is measured.
  void print_head() const;
  /// Prints a case, and keeps it.
  void add(const Measured& measured);
  /// @throws std::runtime_error if the file cannot be written.
  void write_json(const std::string& file) const;

 private:
  Machine machine_;
  std::vector<std::pair<std::string, std::string>> versions_;  ///< name, version
  std::vector<Measured> all_;
};

}  // namespace compare
