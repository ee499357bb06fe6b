// SPDX-License-Identifier: MIT
/// @file
/// What is thrown where a file cannot be read or written, or is not what it should be.
#pragma once

#include <filesystem>
#include <stdexcept>
#include <string>
#include <system_error>

namespace programs {

/// The message is one line: the file, then the reason.
struct FileError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// That a file could not be written. @param error  errno, 0 if the system gave no reason.
inline FileError unwritten(const std::filesystem::path& path, int error) {
  return FileError(path.string() + ": it cannot be written" +
                   (error == 0 ? "" : ": " + std::generic_category().message(error)));
}

}  // namespace programs
