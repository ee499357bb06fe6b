// SPDX-License-Identifier: MIT
/// @file
/// Block-local attention.
#pragma once

#include "heed/score/stage.hpp"

namespace heed::inline HEED_ABI {

/// Each sequence is cut into blocks of `size`. A query sees the keys of its own block and of the
/// `previous` blocks before it; without a causal mask, also of as many blocks after it:
///
///     visible(p, j)  ⇔  |p div size − j div size| ≤ previous              arXiv:2310.12442 (10)
///
/// where p and j count from the first key of the sequence.
///
/// @throws ValueError if size < 1 or previous < 0.
/// @note Masked tiles are skipped.
struct BlockSpan : StageOf<Rank::mask> {
  Index size = 1, previous = 0;

  void check(const Problem&) const {
    if (size < 1) throw ValueError("block_span size is ", size, ", must be at least 1");
    if (previous < 0)
      throw ValueError("block_span previous is ", previous, ", must not be negative");
  }
  KeyRange keys(const KeyRange& range, const Row& row) const {
    if (row.position < row.first_key) return {0, 0};
    // Multiply only if the product is below the number of keys: `size` may be any 64-bit number.
    const Index own = (row.position - row.first_key) / size,
                blocks = std::max<Index>(range.last - row.first_key, 0) / size,
                reach = std::min(previous, own + blocks + 1);
    return range &
           KeyRange{row.first_key + (reach < own ? (own - reach) * size : 0),
                    own + reach < blocks ? row.first_key + (own + reach + 1) * size : range.last};
  }
};
/// A query sees its own block of `size` keys, and `previous` blocks on either side. ValueError if
/// size < 1 or previous < 0.
constexpr BlockSpan block_span(Index size, Index previous = 0) {
  return {{}, size, previous};
}

}  // namespace heed::inline HEED_ABI
