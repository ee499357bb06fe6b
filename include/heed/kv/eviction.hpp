// SPDX-License-Identifier: MIT
/// @file
/// The options of a KvBuffer: budget, eviction rule, protected tokens.
#pragma once

#include "heed/core/error.hpp"
#include "heed/core/vector.hpp"
#include "heed/kv/heavy_hitters.hpp"
#include "heed/kv/key_difference.hpp"
#include "heed/kv/kv_rotary.hpp"
#include "heed/kv/least_attended_last.hpp"
#include "heed/kv/most_masked.hpp"
#include "heed/kv/oldest.hpp"
#include "heed/kv/snap.hpp"
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
  throw ValueError("evict is ", int(name), ", must be most_masked, least_attended or oldest");
}

/// When tokens are evicted.
enum class EvictWhen {
  before_row,  ///< Before a row attends. The row sees at most K tokens, including itself; the
               ///< decision uses earlier rows only.
  after_row,   ///< After a row has attended. The row sees up to K + 1 tokens; the decision uses its
               ///< votes too.
  chunk_end,   ///< After all rows of a chunk have attended: cheaper, but the result depends on the
               ///< chunk size.
};

/// Do the key heads of a layer hold the same tokens?
enum class KvHeads {
  together,  ///< Yes: the rule judges a token for all of them.
  apart,     ///< No: the rule chooses K tokens for each key head, by the evidence of that head.
  shared,    ///< No: G key heads hold K · G tokens in all. The token with the largest claim of all
             ///< goes, so that a head whose weights are spread keeps more. Adaptive budgets:
             ///< arXiv:2407.11550
};

/// Options of a KvBuffer.
struct KvOptions {
  std::optional<Index> budget{};     ///< K, the most tokens held; none: the buffer grows.
  EvictionRule evict = most_masked;  ///< Which token is evicted.
  EvictWhen when = EvictWhen::before_row;
  KvHeads heads = KvHeads::together;  ///< Others need select to be none: F is of all heads.
  Vector<Index> protect{0};           ///< Positions that are never evicted.
  /// Number of newest tokens that are never evicted, at least 1. None: the rule's own number, which
  /// is 1 for most rules. See recent_tokens().
  std::optional<Index> recent{};
  std::optional<SelectOptions> select = SelectOptions{};  ///< None: no selection, F stays 0.
  /// Rows processed at once, at most 96. None: see rows_at_once(). A step of several rows needs
  /// memory for K + chunk − 1 tokens, and returns what exceeds K when it ends.
  std::optional<Index> chunk{};
  /// Bound b on the scores of all later rows i, in every head: s(i, j) ≤ b for every visible key j,
  /// and s(i, i) ≥ −b. Here s is the softmax input without F: scaled, capped, biased, in natural
  /// units, computed from the stored keys (rounding may lengthen a key). b is known where queries
  /// and keys are normalised.
  ///
  /// With b, the weight of a token in any later row is at most e^(2b − F). A token is evicted as
  /// soon as this is below 10⁻⁶ · negligible; a budget is then optional.
  ///
  /// Without a budget a step allocates slots for all of its tokens. Feed a long prompt in several
  /// steps to limit memory.
  std::optional<double> score_bound{};
  /// Softmax weight in [0, 1] that a row may lose to one million tokens evicted by score_bound:
  /// each may take 10⁻⁶ of it. Default: half a unit in the last place of 1.
  std::optional<double> negligible{};
  /// The cache turns queries and keys itself, by their positions among the tokens held; none: they
  /// are as the caller gives them. Stages see these positions too: the distance of alibi(), the row
  /// of position_temperature(). Where a token leaves between two rows of a step, all behind it
  /// move, and the step goes row by row. key_difference compares keys as they are stored, unturned.
  std::optional<KvRotary> rotary{};

  /// `recent`, or the rule's own number if it is not set.
  Index recent_tokens() const { return recent_tokens(budget); }
  /// The same for a sequence with a budget of its own.
  Index recent_tokens(const std::optional<Index>& own_budget) const {
    return recent ? *recent : evict.recent(own_budget, Index(protect.size()));
  }
  /// Must rows be processed one by one?
  bool goes_by_token() const {
    return evict.uses_weights() || evict.uses_keys() || heads == KvHeads::shared;
  }
  /// `chunk` within `most`. If it is not set: as many rows as the budget, so that a small one does
  /// not take much more memory, but one where the rule uses weights, or where evictions depend on
  /// the chunk.
  Index rows_at_once(Index most) const {
    if (chunk) return std::min(*chunk, most);
    if (goes_by_token() || when == EvictWhen::chunk_end) return 1;
    return budget ? std::min(*budget, most) : most;
  }
};

namespace detail {

/// Rows that a rule with Evidence::window may look at: a row block.
inline constexpr Index largest_window = 96;

inline void check(const KvOptions& o, Index heads) {
  if (o.when < EvictWhen::before_row || o.when > EvictWhen::chunk_end)
    throw ValueError("when is ", int(o.when), ", must be before_row, after_row or chunk_end");
  const Index recent = o.recent_tokens();
  if (recent < 1) throw ValueError("recent is ", recent, ", the newest token itself always stays");
  if (o.chunk && *o.chunk < 1) throw ValueError("chunk is ", *o.chunk, ", must be at least 1");
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
  if (o.goes_by_token() && o.chunk && *o.chunk != 1)
    throw ValueError(o.heads == KvHeads::shared ? "KvHeads::shared" : o.evict.name(),
                     " goes token by token: chunk is ", *o.chunk, ", must be 1");
  if (o.evict.uses_window()) {
    const EvidenceWindow window = o.evict.window();
    if (window.rows < 1 || window.rows > largest_window || window.kernel < 1 ||
        window.kernel % 2 == 0)
      throw ValueError(o.evict.name(), " looks at ", window.rows, " rows and ", window.kernel,
                       " tokens around each: rows must be 1 … ", largest_window,
                       ", and the tokens odd");
    if (o.rotary && o.score_bound)
      throw ValueError(
          o.evict.name(),
          " weighs rows when a step ends, but score_bound evicts before, "
          "and rotary turns by the positions that are left: leave one of the three out");
    if (o.when != EvictWhen::before_row)
      throw ValueError(o.evict.name(), " evicts when a step ends: when is ", int(o.when),
                       ", must be before_row, the default");
  }
  if (o.heads < KvHeads::together || o.heads > KvHeads::shared)
    throw ValueError("heads is ", int(o.heads), ", must be together, apart or shared");
  if (o.heads != KvHeads::together && o.select)
    throw ValueError("heads hold different tokens, but head ", o.select->head,
                     " selects for all of them: select must be none");
  if (o.heads == KvHeads::shared && o.when != EvictWhen::before_row)
    throw ValueError("heads share a budget, which is kept before each row: when is ", int(o.when),
                     ", must be before_row");
}

}  // namespace detail
}  // namespace heed::inline HEED_ABI
