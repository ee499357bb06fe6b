// SPDX-License-Identifier: MIT
/// @file Where the first query row sits.
#pragma once

#include "heed/score/stage.hpp"

namespace heed::inline HEED_ABI {

/// Row i sits at position offset + i among the keys: a chunk, or decode, with a past of `offset`
/// tokens. Masks, distances and position-aware temperatures count from there.
struct QueryOffset : StageOf<Rank::place> {
  Index offset = 0;

  std::optional<Index> query_offset(const Shape&) const { return offset; }
  bool plain_past() const { return true; }
  void check(const Problem&) const {
    if (offset < 0) throw ValueError("query_offset is ", offset, ", must not be negative");
  }
};
constexpr QueryOffset query_offset(Index offset) {
  return {{}, offset};
}

}  // namespace heed::inline HEED_ABI
