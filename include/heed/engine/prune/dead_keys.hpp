// SPDX-License-Identifier: MIT
/// @file
/// When a key that selection has masked is dead.
#pragma once

#include "heed/core/error.hpp"
#include "heed/simd/pack.hpp"

#include <cmath>
#include <limits>
#include <optional>

namespace heed::inline HEED_ABI::detail {

/// The share of a row's weight that all dead keys together may lose: `negligible` of Options or
/// KvOptions, or half a unit in the last place of 1.
/// @throws ValueError
template <class T>
double negligible_weight(const std::optional<double>& given) {
  const double all = given.value_or(std::numeric_limits<T>::epsilon() / 2);
  if (!simd::all_finite(&all, 0, 1, 1) || all < 0 || all > 1)  // by bits: -ffast-math
    throw ValueError("negligible is ", all, ", a share of a row's weight lies in 0 … 1");
  return all;
}

/// A key is dead if no later row can give it more than a negligible weight. Every row sees its own
/// key, which it cannot mask, so the weight of another key is at most e^(lead − F): the lead bounds
/// how far its score exceeds that of the row's own key. F must never fall again. The lead and the
/// bias −F are in log2 units.
template <class T>
class DeadKeys {
 public:
  /// @param weight  what one dead key may lose: a part of negligible_weight().
  explicit DeadKeys(double weight) : least_(T(std::log2(weight))) {}

  /// The smallest lead − F of a live key.
  T least() const { return least_; }
  /// A key whose bias is NaN is alive.
  bool contain(T lead, T bias) const { return lead + bias < least_; }
  /// Upper bound of the weight that a later row gives to the key.
  static double weight(T lead, T bias) { return std::exp2(double(lead + bias)); }

 private:
  T least_;
};

}  // namespace heed::inline HEED_ABI::detail
