// SPDX-License-Identifier: MIT
/// @file
/// Evict the oldest token: a sliding window, with sinks if the first positions are protected.
/// arXiv:2309.17453
#pragma once

#include "heed/kv/eviction_rule.hpp"

namespace heed::inline HEED_ABI {

/// All claims are equal; ties evict the oldest token.
struct Oldest {
  static constexpr const char* name = "oldest";
  static constexpr Evidence evidence = Evidence::age;

  Index recent(std::optional<Index>, Index) const { return 1; }
  template <class T>
  T claim(const HeldToken<T>&) const {
    return T(0);
  }
  bool operator==(const Oldest&) const = default;
};
inline constexpr Oldest oldest{};

}  // namespace heed::inline HEED_ABI
