// SPDX-License-Identifier: MIT
/// @file
/// Evict the most masked token, as selective attention does. arXiv:2410.02703
#pragma once

#include "heed/kv/eviction_rule.hpp"

namespace heed::inline HEED_ABI {

/// Evicts the token with the largest F. Without selection F is 0, and the oldest token is evicted.
struct MostMasked {
  static constexpr const char* name = "most_masked";
  static constexpr Evidence evidence = Evidence::votes;

  Index recent(std::optional<Index>, Index) const { return 1; }
  template <class T>
  T claim(const HeldToken<T>& token) const {
    return token.f;
  }
  bool operator==(const MostMasked&) const = default;
};
inline constexpr MostMasked most_masked{};

}  // namespace heed::inline HEED_ABI
