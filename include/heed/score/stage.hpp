// SPDX-License-Identifier: MIT
/// @file
/// Attention variants: a variant is a stage, or several stages joined by `|`.
///
/// A stage is a value type derived from StageOf that defines the hooks it needs, and no others. See
/// hooks.hpp for their contracts. The engine calls them in this order for every batch entry:
///
///     begin                          resets the scan state
///     for each row block, ascending
///       query_factor, keys, sink     once per row: its scale, its interval of visible keys
///       for each key block           value_factor and key_factor were applied when it was packed;
///                                    key_factor to the product, if it multiplies bfloat16 pairs
///         block_mask                 empty: skipped for this head; full: `visible` is not called
///         selecting head             computes its scores, then calls scan_tile
///         for each head              score → visible → scan_bias → online softmax
///     end
///
/// The register hooks (score, visible, scan_bias, weight) process one register of scores between
/// the product and the exponential; nothing is written to memory. scan_tile receives a whole tile
/// of the selecting head's scores before any head continues, as a scan down the rows requires.
///
/// A hook with a wrong signature does not compile. Neither does a member with a name close to a
/// hook's (well_formed.hpp).
#pragma once

#include "heed/score/chain.hpp"
#include "heed/score/well_formed.hpp"

namespace heed::inline HEED_ABI {

/// Base of a stage of rank R.
template <Rank R>
struct StageOf {
  static constexpr Rank first_rank = R, last_rank = R;
};

}  // namespace heed::inline HEED_ABI
