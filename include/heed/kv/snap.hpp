// SPDX-License-Identifier: MIT
/// @file
/// Evict what the last rows of a prompt do not look at: SnapKV. arXiv:2404.14469
#pragma once

#include "heed/kv/eviction_rule.hpp"

#include <algorithm>

namespace heed::inline HEED_ABI {

/// When a step ends, evicts the tokens to which its last rows gave the least weight, summed over
/// these rows and heads. So that neighbours of a token stay with it, the weight of a token is the
/// largest of the `kernel` tokens around it. The newest tokens, as many as rows, stay.
///
/// Made for prompts that one step takes. In a step of one row the weights are those of this row.
struct Snap {
  static constexpr const char* name = "snap";
  static constexpr Evidence evidence = Evidence::window;

  Index rows = 32;   ///< at most this many of the step's last rows count
  Index kernel = 7;  ///< tokens around a token, odd

  constexpr Snap operator()(Index window, Index around = 7) const { return {window, around}; }

  Index recent(std::optional<Index> budget, Index protected_tokens) const {
    if (!budget || *budget < 1) return 1;
    return std::max<Index>(std::min(rows, std::min(*budget, *budget - protected_tokens)), 1);
  }
  template <class T>
  T claim(const HeldToken<T>& token) const {
    return -token.weight;
  }
  bool operator==(const Snap&) const = default;
};
inline constexpr Snap snap{};

}  // namespace heed::inline HEED_ABI
