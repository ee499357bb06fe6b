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

/// A rule by the library's name for it. @throws ConfigError if it has none of that name.
heed::EvictionRule rule_of(const std::string& name);

}  // namespace lm
