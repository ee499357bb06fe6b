// SPDX-License-Identifier: MIT
/// @file
/// Causal masks. Where queries and keys differ in number, the name says how they are aligned.
#pragma once

#include "heed/score/stage.hpp"

namespace heed::inline HEED_ABI {

namespace detail {

/// A row at position p sees keys j ≤ p.
struct CausalMask : StageOf<Rank::mask> {
  void place(Problem& p) const { p.self_attention = true; }
  bool keeps_causal_past() const { return true; }
  KeyRange keys(const KeyRange& range, const Row& row) const {
    return range & KeyRange{0, row.position + 1};
  }
};

}  // namespace detail

/// Row i sees keys j ≤ i. Needs as many queries as keys, or a query_offset(n) that sets the
/// position of row 0: row i then sees keys j ≤ n + i.
///
/// @throws ShapeError if queries and keys differ in number and no stage sets the offset.
struct Causal : detail::CausalMask {
  void check(const Problem& p) const {
    if (!p.has_query_offset() && p.queries != p.keys)
      throw ShapeError(
          "causal: q has ", p.queries, " rows, k has ", p.keys,
          "; say where they sit: query_offset(n), causal_top_left, causal_bottom_right");
  }
};
/// Causal mask: row i sees keys j ≤ i; Nq = Nk, else ShapeError, or j ≤ n + i after
/// query_offset(n).
inline constexpr Causal causal;

/// Row i sees keys j ≤ i, for any number of keys: PyTorch's is_causal.
struct CausalTopLeft : detail::CausalMask {
  void place(Problem& p) const {
    CausalMask::place(p);
    p.set_query_offset(0);
  }
};
/// Causal mask for any number of keys, aligned at the first row: row i sees keys j ≤ i.
inline constexpr CausalTopLeft causal_top_left;

/// Row i sees keys j ≤ i + Nk − Nq, so that the last row sees all keys: FlashAttention 2.1's
/// causal. If there are more queries than keys, the first rows see none.
struct CausalBottomRight : detail::CausalMask {
  void place(Problem& p) const {
    CausalMask::place(p);
    p.set_query_offset(p.keys - p.queries);
  }
};
/// Causal mask for any number of keys, aligned at the last row: row i sees keys j ≤ i + Nk − Nq.
inline constexpr CausalBottomRight causal_bottom_right;

/// Row i sees keys j ≤ offset + i. If the offset is negative, the first rows see none.
struct CausalAt : detail::CausalMask {
  Index offset = 0;

  void place(Problem& p) const {
    CausalMask::place(p);
    p.set_query_offset(offset);
  }
};
/// Causal mask: row i sees keys j ≤ offset + i; `offset` may be negative. ValueError if another
/// stage sets another offset.
constexpr CausalAt causal_at(Index offset) {
  return {{}, offset};
}

}  // namespace heed::inline HEED_ABI
