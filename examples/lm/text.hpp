// SPDX-License-Identifier: MIT
/// @file
/// A text as bytes, and what of it is for training, validation and test.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

namespace lm {

using Bytes = std::span<const std::uint8_t>;

/// Which part of a text.
enum class Part { train, validation, test };
std::string name_of(Part part);

/// A text, cut by position alone: of every 20 blocks of 16 KiB the tenth is for validation, the
/// last for test, the others for training. So each part sees all of the text's kinds of writing,
/// and none overlap.
class Text {
 public:
  static constexpr std::size_t block = 16384, period = 20, validation_block = 9, test_block = 19;

  explicit Text(std::vector<std::uint8_t> bytes) : bytes_(std::move(bytes)) {}
  /// @throws FileError if it cannot be read.
  static Text read(const std::filesystem::path& path);

  Bytes bytes() const { return bytes_; }

  /// The part as stretches of consecutive bytes, in order.
  std::vector<Bytes> stretches(Part part) const;

  /// Windows of `length` bytes of a part, none overlapping: as many as its stretches hold.
  std::vector<Bytes> windows(Part part, std::size_t length) const;

 private:
  std::vector<std::uint8_t> bytes_;
};

}  // namespace lm
