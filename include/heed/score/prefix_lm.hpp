// SPDX-License-Identifier: MIT
/// @file
/// Prefix language modelling.
#pragma once

#include "heed/score/stage.hpp"

namespace heed::inline HEED_ABI {

/// The first tokens of each sequence see one another, all later tokens see the past only:
///
///     visible(p, j)  ⇔  j < prefix[b]  or  j ≤ p
///
/// where p and j count from the first key of the sequence. Use it in place of a causal mask.
/// @throws ShapeError if there is not one prefix per batch entry, or one for all.
/// @throws ValueError if a prefix is negative.
struct PrefixLm : StageOf<Rank::mask> {
  Index shared = 0;
  View<const std::int64_t, 1> each;

  void place(Problem& p) const { p.self_attention = true; }
  void check(const Problem& p) const {
    if (each) expect_dims("prefix_lm", each.dims(), {p.batch}, "one prefix per batch entry");
    detail::reads(p.tensors, "prefix_lm", each);
    for (Index b = 0; b < p.batch; ++b)
      if (prefix(b) < 0) throw ValueError("prefix_lm is ", prefix(b), ", must not be negative");
  }
  KeyRange keys(const KeyRange& range, const Row& row) const {
    return range & KeyRange{0, std::max(row.first_key + prefix(row.batch), row.position + 1)};
  }
  Index prefix(Index batch) const { return each ? Index(each(batch)) : shared; }
};

/// Tokens below `prefix` see one another, later ones the past; one prefix for all batch entries.
/// ValueError if it is negative.
inline PrefixLm prefix_lm(Index prefix) {
  return {{}, prefix, {}};
}
/// The same with one prefix per batch entry, [B]. ShapeError for other shapes, ValueError if one is
/// negative.
inline PrefixLm prefix_lm(View<const std::int64_t, 1> prefixes) {
  return {{}, 0, prefixes};
}

}  // namespace heed::inline HEED_ABI
