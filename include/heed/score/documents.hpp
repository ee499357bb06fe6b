// SPDX-License-Identifier: MIT
/// @file Packed sequences.
#pragma once

#include "heed/score/stage.hpp"

#include <algorithm>

namespace heed::inline HEED_ABI {

/// Several documents in one row of tokens; a query sees the keys of its own document:
///
///     visible(p, j)  ⇔  id[b][p] = id[b][j]
///
/// @throws ShapeError if id is not [B, Nk].
/// @throws ValueError if the ids of a batch entry fall anywhere: documents must be contiguous and
///     numbered upwards; or if a query sits behind the last id.
struct Documents : StageOf<Rank::mask> {
  static constexpr bool indexes_keys = true;

  View<const std::int64_t, 2> id;

  bool same_tokens() const { return true; }
  void check(const Problem& p) const {
    expect_dims("documents", id.dims(), {p.batch, p.keys}, "one id per token");
    if (id.stride(1) != 1) throw ShapeError("documents: ids of one batch entry must be contiguous");
    if (p.query_offset < 0 || p.query_offset + p.queries > p.keys)
      throw ValueError("documents: queries sit at ", p.query_offset, " … ",
                       p.query_offset + p.queries - 1, ", ids are given for ", p.keys,
                       " positions");
    for (Index b = 0; b < p.batch; ++b)
      for (Index n = 1; n < p.keys; ++n)
        if (id(b, n) < id(b, n - 1))
          throw ValueError("documents: id falls from ", id(b, n - 1), " to ", id(b, n),
                           " at token ", n);
  }
  KeyRange keys(const KeyRange& range, const Row& row) const {
    const std::int64_t* ids = id.row(row.batch);
    const auto [first, last] = std::equal_range(ids, ids + id.dim(1), ids[row.position]);
    return range & KeyRange{first - ids, last - ids};
  }
};
inline Documents documents(View<const std::int64_t, 2> id) {
  return {{}, id};
}

}  // namespace heed::inline HEED_ABI
