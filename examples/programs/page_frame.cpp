// SPDX-License-Identifier: MIT
#include "programs/page_frame.hpp"

#include "programs/output_files.hpp"

#include <algorithm>
#include <fstream>
#include <sstream>
#include <stdexcept>
#include <string_view>

namespace programs {

std::string base64(const std::vector<unsigned char>& bytes) {
  constexpr std::string_view letters =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string text;
  for (std::size_t i = 0; i < bytes.size(); i += 3) {
    const std::size_t count = std::min<std::size_t>(3, bytes.size() - i);
    unsigned group = 0;
    for (std::size_t b = 0; b < 3; ++b) group = group << 8 | (b < count ? bytes[i + b] : 0u);
    for (std::size_t d = 0; d < 4; ++d)
      text += d <= count ? letters[group >> (18 - 6 * d) & 63] : '=';
  }
  return text;
}

namespace {

std::string text_of(const std::filesystem::path& path) {
  std::ifstream input(path, std::ios::binary);
  std::stringstream content;
  content << input.rdbuf();
  if (!input) throw std::runtime_error(path.string() + ": cannot be read");
  return content.str();
}

}  // namespace

void write_framed(const std::filesystem::path& path, const std::filesystem::path& frame,
                  const std::string& data) {
  const std::filesystem::path head =
      std::filesystem::path(HEED_EXAMPLES) / "programs" / "page_head.html";
  std::string page = text_of(head) + text_of(frame);
  constexpr std::string_view place = "/*data*/ null";
  const std::size_t at = page.find(place);
  if (at == std::string::npos)
    throw std::runtime_error(frame.string() + ": has no place for the data");
  page.replace(at, place.size(), data);

  write_whole(path, [&](std::ostream& output) { output << page; });
}

}  // namespace programs
