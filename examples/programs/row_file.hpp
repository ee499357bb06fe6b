// SPDX-License-Identifier: MIT
/// @file
/// A table on disk that grows row by row, for runs that take hours: whatever ends them, the
/// rows so far are there, and whole.
#pragma once

#include <filesystem>
#include <string>

namespace programs {

class RowFile {
 public:
  /// Takes the place of what was there, with these rows to begin with.
  /// @throws FileError, and then what was there still is.
  RowFile(std::filesystem::path path, const std::string& rows);

  /// Appends a row, its end of line included, which is on disk then.
  /// @throws FileError, and then nothing of the row is there.
  void add(const std::string& row) const;

 private:
  std::filesystem::path path_;
};

}  // namespace programs
