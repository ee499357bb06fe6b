// SPDX-License-Identifier: MIT
/// @file
/// Evict the token to which the newest row gave the least weight: TOVA. arXiv:2401.06104
#pragma once

#include "heed/kv/eviction_rule.hpp"

namespace heed::inline HEED_ABI {

/// Evicts the token with the least softmax weight in the last row that attended, summed over heads.
struct LeastAttendedLast {
  static constexpr const char* name = "least_attended_last";
  static constexpr Evidence evidence = Evidence::weights;
  static constexpr double weights_kept = 0;

  Index recent(std::optional<Index>, Index) const { return 1; }
  template <class T>
  T claim(const HeldToken<T>& token) const {
    return -token.weight;
  }
  bool operator==(const LeastAttendedLast&) const = default;
};
inline constexpr LeastAttendedLast least_attended_last{};

}  // namespace heed::inline HEED_ABI
