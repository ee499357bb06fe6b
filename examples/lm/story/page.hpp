// SPDX-License-Identifier: MIT
/// @file
/// The story as a page of HTML that needs nothing beside itself.
#pragma once

#include "lm/story/story.hpp"

#include <filesystem>

namespace lm {

struct Story {
  std::int64_t context = 0, budget = 0;
  std::string prompt;
  Continuation whole, pruned;
  Score score_whole, score_pruned;
  Reading reading;
  std::vector<Curve> curves;
};

/// @param frame  page.html, in which the data take their place.
/// @throws std::runtime_error if either cannot be read or written.
void write_page(const std::filesystem::path& path, const std::filesystem::path& frame,
                const Story& story);

}  // namespace lm
