// SPDX-License-Identifier: MIT
/// @file
/// The variants the demonstration runs, and what is measured of each.
#pragma once

#include "demo/text.hpp"

#include <cstdint>
#include <string>
#include <vector>

namespace demo {

/// A variant at work.
struct Run {
  std::string name;       ///< in the table
  std::string id;         ///< on the page, empty if it is not there
  Index pairs = 0;        ///< (query, key, head) computed
  double kept = 0;        ///< tokens in memory at the last row
  std::size_t bytes = 0;  ///< that a buffer takes for them, in whole pages; 0: there is none
  double seconds = 0;     ///< the shortest of several passes

  std::vector<double> entropy;  ///< of the weights, in bits, for each head, mean over the rows
  double recall = 0;            ///< see recall_of()
  std::vector<float> weights;   ///< [heads, N, N]
  std::vector<std::int64_t> evict_row;  ///< [N] if there was a buffer

  double mean_entropy() const;
};

/// The evictions of a buffer, by one rule and budget.
struct Eviction {
  std::string rule;  ///< the library's name
  Index budget;
  std::vector<std::int64_t> row;  ///< [N] the row at which each key was evicted, N if never
};

/// Four layers, one of them full and the others in blocks.
struct Mixture {
  std::string name;
  Index pairs = 0;     ///< computed in all layers
  double of_full = 0;  ///< over those of four full layers
  double formula = 0;  ///< the same by the cost formula, from visible pairs
  double seconds = 0;
};

struct Runs {
  std::vector<Run> runs;
  Mixture mixture;
  std::vector<float> f;             ///< [N, N]
  std::vector<float> memory;        ///< [N] tokens not yet masked at each row, M of the paper
  std::vector<Eviction> evictions;  ///< budgets × rules, for the page
};

/// The budget that stands for pruning in picture and page.
inline constexpr Index shown_budget = 64;
/// Tokens of a page of the buffers.
inline constexpr Index page_tokens = 32;
/// The window, and the block, that stand for short spans.
inline constexpr Index span = 64;

/// Runs everything; each pass is repeated and the shortest taken.
Runs run_all(const Text& text, int repeat);

}  // namespace demo
