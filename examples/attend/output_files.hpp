// SPDX-License-Identifier: MIT
/// @file Output files that appear all together and whole, or not at all.
#pragma once

#include "attend/npy.hpp"

#include <filesystem>
#include <vector>

namespace attend {

/// Writes files beside their places, and moves them there in one go.
///
///     OutputFiles files;
///     files.add("out.npy", out);   // written to out.npy.1f3a….part
///     files.add("lse.npy", lse);
///     files.commit();              // renamed; without it, destruction removes what was written
class OutputFiles {
 public:
  OutputFiles() = default;
  OutputFiles(const OutputFiles&) = delete;
  OutputFiles& operator=(const OutputFiles&) = delete;
  ~OutputFiles();

  /// Looks whether a file could be written there, before any work is done for it.
  /// @throws npy::Error if the folder does not exist, or the path is something other than a file.
  static void check(const std::filesystem::path& path);

  /// Writes the array beside `path`.
  /// @throws npy::Error if it cannot be written, or if the same file was added before.
  void add(const std::filesystem::path& path, const npy::Array& array);

  /// Renames every file. If one rename fails, removes those that were done.
  /// @throws npy::Error
  void commit();

 private:
  struct File {
    std::filesystem::path part;
    std::filesystem::path place;
  };
  std::vector<File> files_;
};

}  // namespace attend
