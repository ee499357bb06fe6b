// SPDX-License-Identifier: MIT
#include "lm/train/batches.hpp"

#include "lm/safetensors.hpp"

#include <ATen/ATen.h>
#include <algorithm>
#include <cstddef>
#include <string>

namespace lm {
namespace {

/// SplitMix64: every number a thorough mixture of its argument's bits.
std::uint64_t mixed(std::uint64_t x) {
  x += 0x9e3779b97f4a7c15u;
  x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
  x = (x ^ x >> 27) * 0x94d049bb133111ebu;
  return x ^ x >> 31;
}

}  // namespace

Batches::Batches(const Text& text, std::int64_t rows, std::int64_t length, std::uint64_t seed)
    : rows_(rows), length_(length), seed_(seed) {
  std::uint64_t places = 0;
  for (const Bytes stretch : text.stretches(Part::train)) {
    if (stretch.size() < std::size_t(length) + 1) continue;
    stretches_.push_back(stretch);
    places += stretch.size() - std::size_t(length);
    ends_.push_back(places);
  }
  if (stretches_.empty())
    throw FileError("the text's training part holds no stretch of " + std::to_string(length + 1) +
                    " bytes");
}

at::Tensor Batches::of(std::int64_t step) const {
  std::vector<Bytes> windows;
  for (std::int64_t row = 0; row < rows_; ++row) {
    const std::uint64_t draw =
        mixed(mixed(mixed(seed_) + std::uint64_t(step)) + std::uint64_t(row)) % ends_.back();
    const auto i = std::size_t(std::ranges::upper_bound(ends_, draw) - ends_.begin());
    const std::uint64_t first = i == 0 ? 0 : ends_[i - 1];
    windows.push_back(stretches_[i].subspan(draw - first, std::size_t(length_) + 1));
  }
  return as_tensor(windows);
}

at::Tensor as_tensor(std::span<const Bytes> windows) {
  const std::size_t length = windows.front().size();
  const at::Tensor tokens =
      at::empty({std::int64_t(windows.size()), std::int64_t(length)}, at::kLong);
  std::int64_t* to = tokens.data_ptr<std::int64_t>();
  for (const Bytes window : windows) to = std::ranges::copy(window, to).out;
  return tokens;
}

}  // namespace lm
