// SPDX-License-Identifier: MIT
/// @file
/// Padded batches.
#pragma once

#include "heed/score/stage.hpp"

namespace heed::inline HEED_ABI {

/// Batch entry b holds length[b] tokens. Keys j ≥ length[b] are padding: they are masked, and no
/// result depends on what they hold. If queries and keys are the same tokens (causal, prefix_lm,
/// documents, a window that does not look ahead), rows at positions ≥ length[b] see no key either:
/// they are zero, with lse −∞, and cast no votes.
///
/// @throws ShapeError if there is not one length per batch entry.
/// @throws ValueError if a length is negative or above the number of keys.
struct Lengths : StageOf<Rank::mask> {
  View<const std::int64_t, 1> length;
  bool masks_rows = false;

  template <class T>
  Lengths bind(const Problem& p, Arena&) const {
    return {{}, length, p.self_attention};
  }

  void check(const Problem& p) const {
    expect_dims("lengths", length.dims(), {p.batch}, "one length per batch entry");
    detail::reads(p.tensors, "lengths", length);
    detail::expect_counts("lengths", length, p.keys, ", the number of keys");
  }
  KeyRange keys(const KeyRange& range, const Row& row) const {
    const Index n = Index(length(row.batch));
    return range & KeyRange{0, masks_rows && row.position >= n ? 0 : n};
  }
};
/// Padding at the end: masks keys j ≥ per_entry[b], [B]. ShapeError unless [B], ValueError unless
/// 0 ≤ length ≤ Nk.
inline Lengths lengths(View<const std::int64_t, 1> per_entry) {
  return {{}, per_entry, false};
}

}  // namespace heed::inline HEED_ABI
