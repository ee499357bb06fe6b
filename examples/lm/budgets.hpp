// SPDX-License-Identifier: MIT
/// @file
/// Budgets and rules of eviction as they are written on a command line.
#pragma once

#include "lm/memory.hpp"

namespace lm {

/// "64": that for every layer. "64,32,all,8": one a layer, of which one keeps all. "all": nothing
/// is forgotten.
/// @throws ConfigError
std::vector<std::optional<std::int64_t>> budgets_of(const std::string& text, std::int64_t layers);
std::string to_string(const std::vector<std::optional<std::int64_t>>& budgets);

/// @param text  a name of name_of(), or "selection" or "mass", as tables once called the first two.
/// @throws ConfigError for any other text.
heed::Evict evict_of(const std::string& text);

}  // namespace lm
