// SPDX-License-Identifier: MIT
/// @file Causal masks. Where queries and keys differ in number, the alignment is in the name.
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

/// Row i sees keys j ≤ i. As many queries as keys, or else query_offset(n) says where they sit.
///
/// @throws ShapeError if there are more or fewer queries than keys and nothing says where they sit.
struct Causal : detail::CausalMask {
  void check(const Problem& p) const {
    if (!p.has_query_offset() && p.queries != p.keys)
      throw ShapeError(
          "causal: q has ", p.queries, " rows, k has ", p.keys,
          "; say where they sit: query_offset(n), causal_top_left, causal_bottom_right");
  }
};
inline constexpr Causal causal;

/// Row i sees keys j ≤ i, whatever the number of keys: PyTorch's is_causal.
struct CausalTopLeft : detail::CausalMask {
  void place(Problem& p) const {
    CausalMask::place(p);
    p.set_query_offset(0);
  }
};
inline constexpr CausalTopLeft causal_top_left;

/// Row i sees keys j ≤ i + Nk − Nq, so that the last row sees all: FlashAttention 2.1's causal.
/// With more queries than keys the first rows see nothing.
struct CausalBottomRight : detail::CausalMask {
  void place(Problem& p) const {
    CausalMask::place(p);
    p.set_query_offset(p.keys - p.queries);
  }
};
inline constexpr CausalBottomRight causal_bottom_right;

/// Row i sees keys j ≤ offset + i. The offset may be negative: the first rows then see nothing.
struct CausalAt : detail::CausalMask {
  Index offset = 0;

  void place(Problem& p) const {
    CausalMask::place(p);
    p.set_query_offset(offset);
  }
};
constexpr CausalAt causal_at(Index offset) {
  return {{}, offset};
}

}  // namespace heed::inline HEED_ABI
