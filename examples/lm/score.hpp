// SPDX-License-Identifier: MIT
/// @file
/// How well a model predicts a text through a memory that forgets.
#pragma once

#include "lm/model.hpp"

namespace lm {

/// Mean losses in bits a byte.
struct Score {
  double loss = 0;       ///< of all bytes but a window's first
  double late_loss = 0;  ///< of those in a window's second half, which have a past to lose
  std::int64_t bytes = 0;
  std::int64_t answers = 0;       ///< of riddles (lm/tasks.hpp) in the windows
  double accuracy = 0;            ///< share of them whose every byte was the likeliest
  std::int64_t late_answers = 0;  ///< of those in a window's second half
  double late_accuracy = 0;
  double kept = 0;  ///< tokens held at the end over tokens read, mean of layers and windows
  /// Memory::bytes() after a window, mean; and Memory::most_bytes() after all of them.
  std::size_t memory_bytes = 0, most_memory_bytes = 0;
  double tokens_per_second = 0;
};

/// −log2 of the probability that logits give to a byte.
double bits_of(const Eigen::Ref<const Eigen::Matrix<float, 1, Eigen::Dynamic>>& logits,
               std::uint8_t byte);

/// Each window is read by itself, from an empty memory. They are N + 1 bytes for a context of N.
///
/// A rule that acts when a step ends (heed::snap) reads the first half of a window as a prompt, in
/// one step with all in memory, and the rest token by token on the budget: of it the late figures
/// alone tell what forgetting costs. The others evict the same tokens however a window is cut.
Score score(const Model& model, const Forgetting& forgetting, std::span<const Bytes> windows);

}  // namespace lm
