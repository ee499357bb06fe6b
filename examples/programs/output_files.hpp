// SPDX-License-Identifier: MIT
/// @file
/// Output files that appear all together and whole, or not at all.
#pragma once

#include "programs/file_error.hpp"

#include <filesystem>
#include <functional>
#include <iosfwd>
#include <vector>

namespace programs {

/// Writes files beside their places, and moves them there in one go.
///
///     OutputFiles files;
///     files.add("out.npy", write_out);  // written to out.npy.1f3a….part
///     files.add("lse.npy", write_lse);
///     files.commit();                   // renamed; without it, destruction removes what was
///     written
class OutputFiles {
 public:
  using Write = std::function<void(std::ostream&)>;

  OutputFiles() = default;
  OutputFiles(const OutputFiles&) = delete;
  OutputFiles& operator=(const OutputFiles&) = delete;
  ~OutputFiles();

  /// Looks whether a file could be written there, before any work is done for it.
  /// @throws FileError if the folder does not exist, or the path is something other than a file.
  static void check(const std::filesystem::path& path);

  /// Writes beside `path`, in binary.
  /// @throws FileError if it cannot be written, or if the same file was added before.
  void add(const std::filesystem::path& path, const Write& write);

  /// Renames every file. If one rename fails, removes those that were done.
  /// @throws FileError
  void commit();

 private:
  struct File {
    std::filesystem::path part;
    std::filesystem::path place;
  };
  std::vector<File> files_;
};

/// One file that appears whole or not at all.
/// @throws FileError
void write_whole(const std::filesystem::path& path, const OutputFiles::Write& write);

}  // namespace programs
