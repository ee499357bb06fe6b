// SPDX-License-Identifier: MIT
/// @file Evict the token that received the least weight in all: H2O. arXiv:2306.14048
#pragma once

#include "heed/kv/eviction_rule.hpp"

#include <algorithm>

namespace heed::inline HEED_ABI {

/// The token with the least sum of softmax weights, over all heads and all rows since it came,
/// goes.
///
/// heavy_hitters keeps half of the budget for the last tokens, or what protected positions leave of
/// it: what has just come had no time to be attended to. heavy_hitters(r) keeps r.
struct HeavyHitters {
  static constexpr const char* name = "heavy_hitters";
  static constexpr Evidence evidence = Evidence::weights;
  static constexpr double weights_kept = 1;

  std::optional<Index> last{};  ///< So many of the last tokens stay; none: half of the budget.

  constexpr HeavyHitters operator()(Index recent_tokens) const { return {recent_tokens}; }

  Index recent(std::optional<Index> budget, Index protected_tokens) const {
    if (last) return *last;
    if (!budget || *budget < 1) return 1;
    return std::max<Index>(std::min(*budget / 2, *budget - protected_tokens), 1);
  }
  template <class T>
  T claim(const HeldToken<T>& token) const {
    return -token.weight;
  }
  bool operator==(const HeavyHitters&) const = default;
};
inline constexpr HeavyHitters heavy_hitters{};

}  // namespace heed::inline HEED_ABI
