// SPDX-License-Identifier: MIT
/// @file
/// Which pieces of the text a step learns from: a function of seed and step alone, so that
/// going on where one stopped needs no memory of what was drawn.
#pragma once

#include "lm/text.hpp"

#include <ATen/core/Tensor.h>
#include <cstdint>
#include <span>
#include <vector>

namespace lm {

class Batches {
 public:
  /// @throws FileError if no stretch holds `length` + 1 bytes.
  Batches(const Text& text, std::int64_t rows, std::int64_t length, std::uint64_t seed);

  /// int64 [rows, length + 1]: inputs, and each one's successor. Every place of the training part
  /// is as likely as any other.
  at::Tensor of(std::int64_t step) const;

 private:
  std::vector<Bytes> stretches_;
  std::vector<std::uint64_t> ends_;  ///< places up to the end of each stretch
  std::int64_t rows_, length_;
  std::uint64_t seed_;
};

/// int64 [rows, length] of windows that are all equally long.
at::Tensor as_tensor(std::span<const Bytes> windows);

}  // namespace lm
