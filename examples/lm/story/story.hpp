// SPDX-License-Identifier: MIT
/// @file
/// What two memories of one model make of a text: one that keeps all, one on a budget.
#pragma once

#include "lm/score.hpp"

#include <string>
#include <vector>

namespace lm {

/// A passage read twice.
struct Reading {
  std::vector<std::uint8_t> text;
  std::vector<double> bits, bits_pruned;  ///< of each byte but the first
  /// [layer][token] the row that no longer sees it; the passage's length: it stayed.
  std::vector<std::vector<std::int64_t>> evict_row;
  std::vector<std::vector<float>> f;                     ///< [layer] N × N
  std::vector<std::vector<std::vector<float>>> weights;  ///< [layer][head] N × N, nothing forgotten
};

/// @throws ConfigError unless the model selects, and does nothing else to its attention.
Reading read_passage(const Model& model, Bytes passage, const Forgetting& forgetting);

/// The continuation of a prompt.
struct Continuation {
  std::string text;
  std::vector<std::int64_t> kept;  ///< tokens, layer by layer
  std::size_t key_value_bytes = 0;
  double tokens_per_second = 0;  ///< of what was generated
};
Continuation go_on(const Model& model, Bytes prompt, std::int64_t tokens,
                   const Forgetting& forgetting);

/// Loss by budget of one model and rule.
struct Curve {
  std::string name;
  double unpruned = 0;
  std::vector<std::pair<std::int64_t, double>> points;  ///< tokens a layer keeps, bits a byte
};
Curve curve_of(const std::string& name, const Model& model, heed::Evict evict,
               std::span<const Bytes> windows, double unpruned);

}  // namespace lm
