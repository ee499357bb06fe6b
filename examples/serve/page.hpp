// SPDX-License-Identifier: MIT
/// @file
/// The page that sets the runs side by side.
#pragma once

#include "serve/summary.hpp"

#include <filesystem>

namespace serve {

/// What all runs have in common.
struct Setting {
  std::string prefix, evict;
  double rate = 0;
  std::size_t pool_bytes = 0, page_bytes = 0;
  std::int64_t pool_pages = 0, page_tokens = 0, key_heads = 0;
  std::vector<Request> requests;
};

/// Writes `frame` with the runs in it. @throws std::runtime_error
void write_page(const std::filesystem::path& path, const std::filesystem::path& frame,
                const Setting& setting, const std::vector<Trial>& trials);

}  // namespace serve
