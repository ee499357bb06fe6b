// SPDX-License-Identifier: MIT
/// @file
/// A run's figures as CSV, one row at a time, each on disk when it is written.
#pragma once

#include "programs/row_file.hpp"

#include <cstdint>
#include <filesystem>
#include <optional>

namespace lm {

struct LogRow {
  std::int64_t step = 0, tokens = 0;
  double seconds = 0;                     ///< of training, stops left out
  double loss = 0;                        ///< bits a byte, mean since the row before
  std::optional<double> validation_loss;  ///< bits a byte
  std::optional<double> memory;           ///< max M over the context, mean of the layers
  double gradient = 0;                    ///< norm of the last one, before it was clipped
  double rate = 0;
  double tokens_per_second = 0;
};

class TrainingLog {
 public:
  /// Continues the file after the row of `step`; later rows are removed. Step 0 starts a new file.
  /// @throws FileError
  TrainingLog(const std::filesystem::path& path, std::int64_t step);
  /// @throws FileError
  void add(const LogRow& row) const;

 private:
  programs::RowFile file_;
};

}  // namespace lm
