// SPDX-License-Identifier: MIT
#include "lm/budgets.hpp"

#include "programs/eviction_rules.hpp"
#include "programs/number.hpp"

#include <algorithm>

namespace lm {

std::vector<std::optional<std::int64_t>> budgets_of(const std::string& text, std::int64_t layers) {
  std::vector<std::optional<std::int64_t>> budgets;
  for (std::size_t first = 0; first <= text.size();) {
    const std::size_t end = std::min(text.find(',', first), text.size());
    const std::string word = text.substr(first, end - first);
    constexpr auto range = programs::count(2, 1 << 24);
    const auto budget = programs::number_of<std::int64_t>(word);
    if (word == "all")
      budgets.emplace_back();
    else if (!budget || !range.holds(*budget))
      throw ConfigError("a budget is '" + word + "', must be all or " + range.text());
    else
      budgets.emplace_back(budget);
    first = end + 1;
  }
  if (budgets.size() == 1) budgets.resize(std::size_t(layers), budgets.front());
  if (std::int64_t(budgets.size()) != layers)
    throw ConfigError("there are " + std::to_string(budgets.size()) + " budgets and " +
                      std::to_string(layers) + " layers");
  return budgets;
}

std::string to_string(const std::vector<std::optional<std::int64_t>>& budgets) {
  std::string text;
  for (const auto& budget : budgets)
    text += (text.empty() ? "" : ",") + (budget ? std::to_string(*budget) : std::string("all"));
  return text;
}

heed::EvictionRule rule_of(const std::string& name) {
  if (const auto rule = programs::eviction_rule(name)) return *rule;
  throw ConfigError("eviction is by '" + name + "', must be by one of " +
                    programs::eviction_rule_names(", "));
}

}  // namespace lm
