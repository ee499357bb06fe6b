// SPDX-License-Identifier: MIT
/// @file
/// The library's eviction rules by name: the words of command lines, tables and pages.
#pragma once

#include "heed/kv/eviction.hpp"

#include <array>
#include <string>
#include <string_view>

namespace programs {

/// All of them, the paper's first.
inline const std::array<heed::EvictionRule, 6>& eviction_rules() {
  static const std::array<heed::EvictionRule, 6> rules{
      heed::most_masked,         heed::heavy_hitters, heed::oldest,
      heed::least_attended_last, heed::snap,          heed::key_difference,
  };
  return rules;
}

inline std::optional<heed::EvictionRule> eviction_rule(std::string_view name) {
  for (const heed::EvictionRule& rule : eviction_rules())
    if (rule.name() == name) return rule;
  return std::nullopt;
}

/// The names with a text between each two, as in a list of choices.
inline std::string eviction_rule_names(const char* between) {
  std::string names;
  for (const heed::EvictionRule& rule : eviction_rules())
    names += (names.empty() ? "" : between) + std::string(rule.name());
  return names;
}

/// What a command line says of them.
inline constexpr const char* eviction_rules_help =
    "Evicts the largest F (most_masked), the least weight received in all (heavy_hitters, H2O) or "
    "from the newest row (least_attended_last, TOVA), the oldest (a window with sinks), what the "
    "last rows look at least (snap, SnapKV, when a step ends) or the key most like the others "
    "(key_difference, KeyDiff)";

}  // namespace programs
