// SPDX-License-Identifier: MIT
/// @file
/// Evict the token with the least accumulated attention weight: H2O. arXiv:2306.14048
#pragma once

#include "heed/kv/eviction_rule.hpp"

#include <algorithm>

namespace heed::inline HEED_ABI {

/// Evicts the token with the least sum of softmax weights, over all heads and all rows since it was
/// appended.
///
/// New tokens have received little weight yet. Therefore heavy_hitters keeps the newest tokens:
/// half of the budget, or less if protected positions leave less. heavy_hitters(r) keeps r of them.
struct HeavyHitters {
  static constexpr const char* name = "heavy_hitters";
  static constexpr Evidence evidence = Evidence::weights;
  static constexpr double weights_kept = 1;

  std::optional<Index> last{};  ///< Number of newest tokens kept; none: half of the budget.

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
