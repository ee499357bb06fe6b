// SPDX-License-Identifier: MIT
#include "programs/row_file.hpp"

#include "programs/output_files.hpp"

#include <cerrno>
#include <fstream>
#include <system_error>
#include <utility>

namespace programs {

RowFile::RowFile(std::filesystem::path path, const std::string& rows) : path_(std::move(path)) {
  write_whole(path_, [&](std::ostream& stream) { stream << rows; });
}

void RowFile::add(const std::string& row) const {
  std::error_code error;
  const std::uintmax_t before = std::filesystem::file_size(path_, error);
  errno = 0;
  std::ofstream stream(path_, std::ios::binary | std::ios::app);
  stream << row;
  stream.close();
  if (stream) return;
  const int reason = errno;
  if (!error) std::filesystem::resize_file(path_, before, error);
  throw unwritten(path_, reason);
}

}  // namespace programs
