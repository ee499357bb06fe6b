// SPDX-License-Identifier: MIT
#include "programs/output_files.hpp"

#include <algorithm>
#include <cerrno>
#include <fstream>
#include <random>
#include <string>
#include <system_error>

namespace programs {
namespace fs = std::filesystem;
namespace {

FileError failure(const fs::path& path, const std::string& reason) {
  return FileError(path.string() + ": " + reason);
}

/// Where the file really goes: a link keeps pointing to it. Absolute, so that two names of one file
/// are the same.
fs::path place_of(const fs::path& path) {
  std::error_code error;
  const fs::path place = fs::weakly_canonical(fs::absolute(path), error);
  return error ? fs::absolute(path) : place;
}

/// A name in the same folder, since a rename within one file system is all or nothing.
fs::path part_of(const fs::path& place) {
  std::random_device random;
  const auto unused = [&] {
    fs::path part = place;
    part += "." + std::to_string(random()) + ".part";
    return part;
  };
  fs::path part = unused();
  while (fs::exists(part)) part = unused();
  return part;
}

}  // namespace

OutputFiles::~OutputFiles() {
  std::error_code ignored;
  for (const File& file : files_) fs::remove(file.part, ignored);
}

void OutputFiles::check(const fs::path& path) {
  std::error_code error;
  if (path.filename().empty()) throw failure(path, "it names no file");
  const fs::path folder = path.has_parent_path() ? path.parent_path() : fs::path(".");
  if (!fs::is_directory(folder, error)) throw failure(path, "its folder does not exist");
  const fs::file_status status = fs::status(path, error);
  if (fs::exists(status) && !fs::is_regular_file(status))
    throw failure(path, "it exists and is not a regular file");
}

void OutputFiles::add(const fs::path& path, const Write& write) {
  check(path);
  const fs::path place = place_of(path);
  if (std::ranges::find(files_, place, &File::place) != files_.end())
    throw failure(path, "two outputs go to this file");
  files_.push_back({part_of(place), place});
  errno = 0;
  std::ofstream stream(files_.back().part, std::ios::binary);
  if (stream) write(stream);
  stream.close();
  if (!stream) throw unwritten(path, errno);
}

void OutputFiles::commit() {
  for (auto file = files_.begin(); file != files_.end(); ++file) {
    std::error_code error;
    fs::rename(file->part, file->place, error);
    if (!error) continue;
    std::error_code ignored;
    for (auto done = files_.begin(); done != file; ++done) fs::remove(done->place, ignored);
    throw failure(file->place, error.message());
  }
  files_.clear();
}

void write_whole(const fs::path& path, const OutputFiles::Write& write) {
  OutputFiles files;
  files.add(path, write);
  files.commit();
}

}  // namespace programs
