// SPDX-License-Identifier: MIT
/// @file
/// The position of the first query row.
#pragma once

#include "heed/score/stage.hpp"

namespace heed::inline HEED_ABI {

/// Row i is at position offset + i among the keys: for a chunk, or for decode, after a past of
/// `offset` tokens. The offset is at least 0 and at most 2^61. Masks, distances and temperatures of
/// positions count from there.
///
/// @throws ValueError if an offset is out of range; ShapeError if there is not one per batch entry.
struct QueryOffset : StageOf<Rank::place> {
  Index shared = 0;
  View<const std::int64_t, 1> each;

  void place(Problem& p) const {
    if (each)
      p.set_query_offset(each);
    else
      p.set_query_offset(shared);
  }
  void check(const Problem& p) const {
    if (each) expect_dims("query_offset", each.dims(), {p.batch}, "one offset per batch entry");
    if (each) detail::reads(p.tensors, "query_offset", each);
    for (Index b = 0; b < p.batch; ++b)
      if (p.first_position(b) < 0)
        throw ValueError("query_offset is ", p.first_position(b), ", must not be negative");
  }
};
/// Puts row i at position offset + i, in all batch entries. ValueError unless 0 ≤ offset ≤ 2^61.
constexpr QueryOffset query_offset(Index offset) {
  return {{}, offset, {}};
}
/// The same with one offset per batch entry, [B], for sequences of different lengths in one call.
/// ShapeError for other shapes.
inline QueryOffset query_offset(View<const std::int64_t, 1> offsets) {
  return {{}, 0, offsets};
}

}  // namespace heed::inline HEED_ABI
