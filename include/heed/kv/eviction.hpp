// SPDX-License-Identifier: MIT
/// @file Which token a full buffer lets go.
#pragma once

#include "heed/core/vector.hpp"
#include "heed/score/selective.hpp"
#include "heed/simd/pack.hpp"

#include <algorithm>
#include <limits>
#include <optional>

namespace heed::inline HEED_ABI {

/// What makes a token the next to go.
enum class Evict {
  most_masked,     ///< The largest F, as selective attention prunes.             arXiv:2410.02703
  least_attended,  ///< The least weight received, all heads and rows together (H2O).
                   ///< arXiv:2306.14048
  oldest,          ///< A window, with sinks if first positions are protected.   arXiv:2309.17453
};

/// When it goes.
enum class EvictWhen {
  before_row,  ///< A row attends to at most K tokens, itself among them, and judges by earlier
               ///< rows.
  after_row,   ///< A row attends to K + 1, then one goes, judged by its votes too.
  chunk_end,   ///< After the rows of a chunk have attended: cheaper, and depends on the chunk.
};

/// The rules of a KvBuffer.
struct KvOptions {
  std::optional<Index> budget{};  ///< K, tokens at most; none: the buffer grows.
  Evict evict = Evict::most_masked;
  EvictWhen when = EvictWhen::before_row;
  Vector<Index> protect{0};  ///< Positions that never go.
  /// So many of the last tokens never go, the newest included. None: 1, but half of the budget
  /// where the least attended goes (H2O): a new token has had no time to be attended to. See
  /// recent_tokens().
  std::optional<Index> recent{};
  std::optional<SelectOptions> select = SelectOptions{};  ///< None: nothing is masked, F stays 0.
  /// Rows taken at once, 96 at most: a longer chunk is taken in pieces. Takes memory for
  /// K + chunk − 1 tokens.
  Index chunk = 1;
  /// b with s(i, j) ≤ b for every row i to come and every key j it sees, and s(i, i) ≥ −b, in every
  /// head; s is what would enter the softmax but for F: scaled, capped, biased, in natural units,
  /// of keys as they are stored, which rounding may lengthen. Where queries and keys are normalised
  /// b is known. Given it, a token goes as soon as its weight in any row to come, e^(2b − F) at
  /// most, is below a millionth of `negligible`; a budget is not needed then. A step makes room for
  /// all its tokens: a long prompt in several steps takes memory for what is left of each.
  std::optional<double> score_bound{};
  /// Softmax weight, of 1 in all, that a row may lose to a million tokens that went so: one goes at
  /// a millionth of it. By default half a unit in the last place of 1.
  std::optional<double> negligible{};

  /// `recent`, or what it is where none is given: never more than `protect` leaves of the budget.
  Index recent_tokens() const {
    if (recent) return *recent;
    if (evict != Evict::least_attended || !budget || *budget < 1) return 1;
    return std::max<Index>(std::min(*budget / 2, *budget - Index(protect.size())), 1);
  }
};

namespace detail {

inline void check(const KvOptions& o, Index heads) {
  const Index recent = o.recent_tokens();
  if (recent < 1) throw ValueError("recent is ", recent, ", the newest token itself always stays");
  if (o.chunk < 1) throw ValueError("chunk is ", o.chunk, ", must be at least 1");
  for (Index position : o.protect)
    if (position < 0) throw ValueError("protected position ", position, " is negative");
  const Index named = Index(o.protect.size());
  const Index kept = recent + std::min(named, std::numeric_limits<Index>::max() - recent);
  if (o.budget && *o.budget < kept)
    throw ValueError("budget is ", *o.budget, ", must be at least ", kept,
                     ": KvOptions::protect keeps ", named, ", recent keeps ", recent);
  if (o.select && (o.select->head < 0 || o.select->head >= heads))
    throw ValueError("head ", o.select->head, " selects, there are ", heads);
  if (o.score_bound && !(o.select && o.select->relu && o.select->accumulate))
    throw ValueError("score_bound is ", *o.score_bound,
                     ", but F may fall again: it needs select, with relu and accumulate");
  if (o.score_bound && !o.select->forbid_self && !o.select->shift)
    throw ValueError("score_bound is ", *o.score_bound,
                     ", but a row may mask itself: it needs forbid_self or shift");
  if (o.score_bound && (!simd::all_finite(&*o.score_bound, 0, 1, 1) || *o.score_bound < 0))
    throw ValueError("score_bound is ", *o.score_bound, ", must be finite and at least 0");
  if (o.evict == Evict::least_attended && o.chunk != 1)
    throw ValueError("least_attended goes token by token: chunk is ", o.chunk, ", must be 1");
}

}  // namespace detail
}  // namespace heed::inline HEED_ABI
