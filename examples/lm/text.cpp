// SPDX-License-Identifier: MIT
#include "lm/text.hpp"

#include "lm/safetensors.hpp"

#include <algorithm>
#include <fstream>
#include <iterator>

namespace lm {
namespace {

Part part_of(std::size_t block) {
  const std::size_t place = block % Text::period;
  return place == Text::validation_block ? Part::validation
         : place == Text::test_block     ? Part::test
                                         : Part::train;
}

}  // namespace

std::string name_of(Part part) {
  switch (part) {
    case Part::train:
      return "train";
    case Part::validation:
      return "validation";
    case Part::test:
      break;
  }
  return "test";
}

Text Text::read(const std::filesystem::path& path) {
  std::ifstream stream(path, std::ios::binary);
  if (!stream) throw FileError(path.string() + ": no such file, or it may not be read");
  std::vector<std::uint8_t> bytes{std::istreambuf_iterator<char>(stream), {}};
  if (bytes.empty()) throw FileError(path.string() + ": it is empty");
  return Text(std::move(bytes));
}

std::vector<Bytes> Text::stretches(Part part) const {
  std::vector<Bytes> list;
  const Bytes all = bytes_;
  const std::size_t blocks = (all.size() + block - 1) / block;
  for (std::size_t first = 0; first < blocks;) {
    std::size_t last = first;
    while (last < blocks && part_of(last) == part_of(first)) ++last;
    if (part_of(first) == part)
      list.push_back(
          all.subspan(first * block, std::min(last * block, all.size()) - first * block));
    first = last;
  }
  return list;
}

std::vector<Bytes> Text::windows(Part part, std::size_t length) const {
  std::vector<Bytes> list;
  for (const Bytes stretch : stretches(part))
    for (std::size_t at = 0; at + length <= stretch.size(); at += length)
      list.push_back(stretch.subspan(at, length));
  return list;
}

}  // namespace lm
