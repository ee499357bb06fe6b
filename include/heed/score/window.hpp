// SPDX-License-Identifier: MIT
/// @file
/// Sliding-window mask.
#pragma once

#include "heed/score/stage.hpp"

namespace heed::inline HEED_ABI {

/// A side of a window without a limit.
inline constexpr Index unbounded = std::numeric_limits<Index>::max() / 4;

/// The query at position p sees keys p − left ≤ j ≤ p + right: left + 1 keys under a causal mask.
/// arXiv:2310.12442 (11)
///
/// @throws ValueError if a side is negative.
/// @note Cost O(Nq (left + right + 1)): keys outside are not read.
struct Window : StageOf<Rank::mask> {
  Index left = unbounded, right = unbounded;

  void place(Problem& p) const { p.self_attention = p.self_attention || right == 0; }
  bool keeps_causal_past() const { return left >= unbounded; }
  void check(const Problem&) const {
    if (left < 0 || right < 0)
      throw ValueError("window is (", left, ", ", right, "), neither side may be negative");
  }
  KeyRange keys(const KeyRange& range, const Row& row) const {
    return range & KeyRange{row.position - std::min(left, unbounded),
                            row.position + std::min(right, unbounded) + 1};
  }
};
/// The query at position p sees keys p − left ≤ j ≤ p + right; `unbounded` lifts a limit.
/// ValueError if a side is negative.
constexpr Window window(Index left, Index right) {
  return {{}, left, right};
}

/// The same number of keys on both sides: window(side, side).
constexpr Window window(Index side) {
  return window(side, side);
}

}  // namespace heed::inline HEED_ABI
