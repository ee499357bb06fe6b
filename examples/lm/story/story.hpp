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
  std::size_t bytes = 0;           ///< Memory::bytes() at the end
  double tokens_per_second = 0;    ///< of what was generated
};
Continuation go_on(const Model& model, Bytes prompt, std::int64_t tokens,
                   const Forgetting& forgetting);

/// Loss by budget of one model and rule, in bits a byte of the second half of each window.
struct Curve {
  struct Point {
    std::int64_t budget;  ///< tokens a layer keeps
    double loss;
    std::size_t bytes;  ///< of memory, all layers
  };
  std::string model, rule;
  double unpruned = 0;
  std::vector<Point> points;
};
Curve curve_of(const std::string& name, const Model& model, const heed::EvictionRule& rule,
               std::span<const Bytes> windows, double unpruned);

}  // namespace lm
