// SPDX-License-Identifier: MIT
/// @file Which token a full buffer lets go.
#pragma once

#include "heed/core/error.hpp"
#include "heed/core/vector.hpp"
#include "heed/kv/heavy_hitters.hpp"
#include "heed/kv/most_masked.hpp"
#include "heed/kv/oldest.hpp"
#include "heed/score/votes.hpp"
#include "heed/simd/pack.hpp"

#include <algorithm>
#include <limits>
#include <optional>

namespace heed::inline HEED_ABI {

inline EvictionRule::EvictionRule(Evict name) : EvictionRule(most_masked) {
  switch (name) {
    case Evict::most_masked:
      return;
    case Evict::least_attended:
      *this = heavy_hitters;
      return;
    case Evict::oldest:
      *this = oldest;
      return;
  }
  throw ValueError("evict is ", int(name), ", which names no rule");
}

/// When a token goes.
enum class EvictWhen {
  before_row,  ///< A row attends to at most K tokens, itself among them, and judges by earlier
               ///< rows.
  after_row,   ///< A row attends to K + 1, then one goes, judged by its votes too.
  chunk_end,   ///< After the rows of a chunk have attended: cheaper, and depends on the chunk.
};

/// The rules of a KvBuffer.
struct KvOptions {
  std::optional<Index> budget{};     ///< K, tokens at most; none: the buffer grows.
  EvictionRule evict = most_masked;  ///< Which goes: a rule, or its old name.
  EvictWhen when = EvictWhen::before_row;
  Vector<Index> protect{0};  ///< Positions that never go.
  /// So many of the last tokens never go, the newest included. None: as many as the rule says, 1
  /// for most. See recent_tokens().
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

  /// `recent`, or the rule's own number where none is given.
  Index recent_tokens() const {
    return recent ? *recent : evict.recent(budget, Index(protect.size()));
  }
};

namespace detail {

inline void check(const KvOptions& o, Index heads) {
  if (o.when < EvictWhen::before_row || o.when > EvictWhen::chunk_end)
    throw ValueError("when is ", int(o.when), ", must be before_row, after_row or chunk_end");
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
  if (o.score_bound && !(o.select && f_never_falls(*o.select)))
    throw ValueError("score_bound is ", *o.score_bound,
                     ", but F may fall again: it needs select, with relu and accumulate");
  if (o.score_bound && !o.select->forbid_self && !o.select->shift)
    throw ValueError("score_bound is ", *o.score_bound,
                     ", but a row may mask itself: it needs forbid_self or shift");
  if (o.score_bound && (!simd::all_finite(&*o.score_bound, 0, 1, 1) || *o.score_bound < 0))
    throw ValueError("score_bound is ", *o.score_bound, ", must be finite and at least 0");
  if (o.evict.judges_by_weights() && o.chunk != 1)
    throw ValueError(o.evict.name(), " goes token by token: chunk is ", o.chunk, ", must be 1");
}

}  // namespace detail
}  // namespace heed::inline HEED_ABI
