// SPDX-License-Identifier: MIT
/// @file
/// Padding in front of sequences.
#pragma once

#include "heed/score/stage.hpp"

namespace heed::inline HEED_ABI {

/// The sequence of batch entry b begins at key start[b]. Keys j < start[b] are padding: they are
/// masked, and no result depends on what they hold. If queries and keys are the same tokens
/// (causal, prefix_lm, documents, a window that does not look ahead), rows at positions < start[b]
/// see no key either: they are zero, with lse −∞, and cast no votes.
///
/// All other stages count from start[b]: position_temperature, block_span, prefix_lm and selective
/// give a sequence after its padding the result that it has alone. A boolean_mask over the padding
/// does not set where the sequence begins.
///
/// @throws ShapeError if there is not one start per batch entry.
/// @throws ValueError if a start is negative or above the number of keys.
struct Starts : StageOf<Rank::mask> {
  View<const std::int64_t, 1> start;
  bool masks_rows = false;

  template <class T>
  Starts bind(const Problem& p, Arena&) const {
    return {{}, start, p.self_attention};
  }
  void place(Problem& p) const { p.set_starts(start); }
  void check(const Problem& p) const {
    expect_dims("starts", start.dims(), {p.batch}, "one start per batch entry");
    detail::reads(p.tensors, "starts", start);
    detail::expect_counts("starts", start, p.keys, ", the number of keys");
  }
  KeyRange keys(const KeyRange& range, const Row& row) const {
    const Index first = Index(start(row.batch));
    return masks_rows && row.position < first ? KeyRange{0, 0}
                                              : range & KeyRange{first, range.last};
  }
};
/// Padding in front: masks keys j < per_entry[b], [B], and counts positions from there. ShapeError
/// unless [B], ValueError unless 0 ≤ start ≤ Nk.
inline Starts starts(View<const std::int64_t, 1> per_entry) {
  return {{}, per_entry, false};
}

}  // namespace heed::inline HEED_ABI
