// SPDX-License-Identifier: MIT
/// @file
/// Packed sequences.
#pragma once

#include "heed/score/stage.hpp"

#include <algorithm>

namespace heed::inline HEED_ABI {

/// Several documents in one batch entry. A query sees the keys of its own document:
///
///     visible(p, j)  ⇔  id[b][p] = id[b][j]
///
/// Each document is a sequence of its own for all other stages: position_temperature, block_span,
/// prefix_lm and selective count from its first key, so that a document gets the result that it has
/// alone. Tensors and random numbers that are indexed by pairs or positions of the call (bias,
/// boolean_mask, alive, dropout) are still indexed by them.
///
/// @throws ShapeError if id is not [B, Nk].
/// @throws ValueError if the ids of a batch entry decrease anywhere (documents must be contiguous
/// and numbered upwards), or if a query is at a position without an id.
struct Documents : StageOf<Rank::mask> {
  View<const std::int64_t, 2> id;

  void place(Problem& p) const {
    p.self_attention = true;
    p.set_documents(id);
  }
  void check(const Problem& p) const {
    expect_dims("documents", id.dims(), {p.batch, p.keys}, "one id per token");
    detail::reads(p.tensors, "documents", id);
    if (id.stride(1) != 1 && id.dim(1) > 1)
      throw ShapeError("documents: ids of one batch entry must be contiguous");
    for (Index b = 0; b < p.batch; ++b) {
      const Index first = p.first_position(b);
      detail::expect_positions("the position of row 0", first, p.queries);
      if (first < 0 || first > p.keys - p.queries)
        throw ValueError("documents: queries sit at ", first, " … ", first + p.queries - 1,
                         ", ids are given for ", p.keys, " positions");
      for (Index n = 1; n < p.keys; ++n)
        if (id(b, n) < id(b, n - 1))
          throw ValueError("documents: id falls from ", id(b, n - 1), " to ", id(b, n),
                           " at token ", n);
    }
  }
  KeyRange keys(const KeyRange& range, const Row& row) const {
    const std::int64_t* ids = id.row(row.batch);
    const std::int64_t* const own = ids + row.position;
    return range & KeyRange{row.first_key, std::upper_bound(own, ids + id.dim(1), *own) - ids};
  }
};
/// Packed sequences: a query sees keys of its own id; `id` is [B, Nk]. ShapeError for other shapes,
/// ValueError if ids decrease.
inline Documents documents(View<const std::int64_t, 2> id) {
  return {{}, id};
}

}  // namespace heed::inline HEED_ABI
