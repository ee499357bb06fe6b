// SPDX-License-Identifier: MIT
/// @file
/// Sequences in files that have a name.
#pragma once

#include "heed/c/tables.hpp"
#include "heed/core/checked_file.hpp"

#include <atomic>
#include <cerrno>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <system_error>
#include <unistd.h>

namespace heed::inline HEED_ABI::c_interface {

/// @throws ValueError if it is null or empty.
inline std::filesystem::path path_of(const char* path) {
  if (path == nullptr || *path == '\0')
    throw ValueError("the path is ", path == nullptr ? "null" : "empty");
  return path;
}

[[noreturn]] inline void refuse_file(const std::filesystem::path& path, const char* what) {
  const std::string reason = errno == 0 ? "" : ": " + std::generic_category().message(errno);
  throw FileError(path.c_str(), " ", what, reason.c_str());
}

inline void write_file(const std::filesystem::path& path, const c::Sequence& sequence) {
  errno = 0;
  std::ofstream file(path, std::ios::binary);
  if (!file) refuse_file(path, "cannot be opened");
  sequence.save(file);
  errno = 0;
  file.close();
  if (!file) refuse_file(path, "took less than the whole sequence");
}

/// Renames a file that is complete to `name`, so that an older one is replaced at once.
/// @throws FileError
inline void save_to(const char* name, const c::Sequence& sequence) {
  const std::filesystem::path path = path_of(name);
  std::error_code error;
  const std::filesystem::file_status status = std::filesystem::status(path, error);
  if (std::filesystem::exists(status) && !std::filesystem::is_regular_file(status))
    return write_file(path, sequence);
  // Where the name leads, so that a link stays one.
  std::filesystem::path place = std::filesystem::weakly_canonical(path, error);
  if (error) place = path;
  static std::atomic<unsigned> files{0};
  std::filesystem::path part = place;
  part += "." + std::to_string(::getpid()) + "." + std::to_string(++files) + ".part";
  try {
    write_file(part, sequence);
    std::filesystem::rename(part, place, error);
    if (error) {
      errno = error.value();
      refuse_file(path, "cannot be replaced");
    }
  } catch (...) {
    std::filesystem::remove(part, error);
    throw;
  }
}

/// @throws FileError, or what loading throws.
inline c::Sequence* load_from(const char* name, const c::Cache& cache) {
  const std::filesystem::path path = path_of(name);
  std::error_code error;
  errno = 0;
  if (std::filesystem::is_directory(path, error)) refuse_file(path, "is a folder");
  std::ifstream file(path, std::ios::binary);
  if (!file) refuse_file(path, "cannot be opened");
  const auto destroy = [](c::Sequence* sequence) { sequence->destroy(); };
  std::unique_ptr<c::Sequence, decltype(destroy)> sequence(cache.load(file), destroy);
  errno = 0;
  if (file.peek() != std::ifstream::traits_type::eof())
    refuse_file(path, "has something behind the sequence");
  return sequence.release();
}

}  // namespace heed::inline HEED_ABI::c_interface
