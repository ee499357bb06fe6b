// SPDX-License-Identifier: MIT
/// @file
/// Evict the token whose key differs least from the others: KeyDiff. arXiv:2504.15364
#pragma once

#include "heed/kv/eviction_rule.hpp"

namespace heed::inline HEED_ABI {

/// Evicts the token whose key is most similar to the mean of the directions of the keys held: it
/// adds least to what the other keys cover. Needs no weights, and is known before a row attends.
struct KeyDifference {
  static constexpr const char* name = "key_difference";
  static constexpr Evidence evidence = Evidence::keys;

  Index recent(std::optional<Index>, Index) const { return 1; }
  template <class T>
  T claim(const HeldToken<T>& token) const {
    return token.similarity;
  }
  bool operator==(const KeyDifference&) const = default;
};
inline constexpr KeyDifference key_difference{};

}  // namespace heed::inline HEED_ABI
