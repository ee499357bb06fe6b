// SPDX-License-Identifier: MIT
/// @file
/// An array whose size is known at run time, and small as a rule.
#pragma once

#include "heed/core/vector.hpp"

#include <span>

namespace heed::inline HEED_ABI::detail {

/// Elements in place if there are at most 16, else in memory of their own.
template <class X>
class SmallArray {
 public:
  static constexpr std::size_t in_place = 16;

  /// @throws std::bad_alloc
  explicit SmallArray(std::size_t count) : many_(count > in_place ? count : 0), count_(count) {}
  SmallArray(const SmallArray&) = delete;
  SmallArray& operator=(const SmallArray&) = delete;

  std::span<X> all() { return {many_.empty() ? few_ : many_.data(), count_}; }

 private:
  X few_[in_place]{};
  Vector<X> many_;
  std::size_t count_;
};

}  // namespace heed::inline HEED_ABI::detail
