// SPDX-License-Identifier: MIT
/// @file What was measured, as a table and as JSON.
#pragma once

#include "contender.hpp"
#include "machine.hpp"
#include "timing.hpp"

#include <nlohmann/json_fwd.hpp>

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
  std::vector<Entry> entries;
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
  /// What a time is held against: the multiply-add peak, or reading from memory.
  double share(const Case& what, double seconds) const;
  nlohmann::json machine_as_json() const;

  Machine machine_;
  std::vector<std::pair<std::string, std::string>> versions_;  ///< name, version
  std::vector<Measured> all_;
};

}  // namespace compare
