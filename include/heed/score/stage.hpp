// SPDX-License-Identifier: MIT
/// @file
/// What an attention variant is: a stage, or stages joined by `|`.
///
/// A stage is a value derived from StageOf that defines the hooks it needs, and only those; see
/// hooks.hpp for each. The engine calls them in this order, for every batch entry:
///
///     begin                          what is carried is cleared
///     for each row block, ascending
///       query_factor, keys, sink     once a row: its scale, the interval of keys it sees
///       for each key block           value_factor was applied when it was packed, key_factor too,
///                                    or to the product, where pairs of bfloat16 are multiplied
///         block_mask                 empty: skipped for this head; full: `visible` is not asked
///         selecting head             its scores, then scan_tile, then
///         for each head              score → visible → scan_bias → online softmax
///     end
///
/// The register hooks (score, visible, scan_bias, weight) see one register of scores, still in
/// flight between the product and the exponential; nothing is written to memory. scan_tile sees a
/// whole tile of the selecting head's scores before any other head goes on: what a scan down the
/// rows needs.
///
/// A hook with another signature does not compile, and neither does a member whose name is nearly a
/// hook's (well_formed.hpp).
#pragma once

#include "heed/score/chain.hpp"
#include "heed/score/well_formed.hpp"

namespace heed::inline HEED_ABI {

/// Base of a stage of the given rank.
template <Rank R>
struct StageOf {
  static constexpr Rank first_rank = R, last_rank = R;
};

}  // namespace heed::inline HEED_ABI
