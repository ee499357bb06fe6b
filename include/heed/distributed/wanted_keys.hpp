// SPDX-License-Identifier: MIT
/// @file
/// Which keys a rank asks the others for.
#pragma once

#include "heed/distributed/votes.hpp"

#include <cmath>
#include <optional>

namespace heed::inline HEED_ABI::distributed::detail {

/// Ascending positions as they travel: runs first, last, first, last, ….
inline Vector<Index> as_runs(const Vector<Index>& positions) {
  Vector<Index> runs;
  for (const Index p : positions) {
    if (runs.empty() || runs.back() != p) runs.push_back(p), runs.push_back(p);
    ++runs.back();
  }
  return runs;
}
inline Vector<Index> from_runs(const Vector<Index>& runs) {
  Vector<Index> positions;
  for (std::size_t r = 0; r + 1 < runs.size(); r += 2)
    for (Index p = runs[r]; p < runs[r + 1]; ++p) positions.push_back(p);
  return positions;
}

/// The row of each position in the tensors of its rank.
inline Vector<Index> rows_of(const Sharding& sharding, const Vector<Index>& positions) {
  const auto chunks = sharding.chunks();
  Vector<Index> rows;
  std::size_t c = 0;
  for (const Index p : positions) {
    while (chunks[c].last <= p) ++c;
    rows.push_back(chunks[c].row + p - chunks[c].first);
  }
  return rows;
}

/// The positions that satisfy wants(position), sorted by the rank that holds them.
template <class Wants>
Vector<Vector<Index>> by_rank(const Sharding& sharding, Wants&& wants) {
  Vector<Vector<Index>> positions{std::size_t(sharding.ranks())};
  for (const Chunk& chunk : sharding.chunks())
    for (Index p = chunk.first; p < chunk.last; ++p)
      if (wants(p)) positions[std::size_t(chunk.rank)].push_back(p);
  return positions;
}

/// Decides which keys selection has masked for good where a chunk begins: those that all together
/// can give none of its rows more weight than is negligible.
template <class T>
class ForgottenKeys {
 public:
  /// Nothing is forgotten.
  ForgottenKeys() = default;
  template <Stage V>
  ForgottenKeys(const RankCall<T, V>& call, const FoldedTokens<T>& folded, const Votes<T>& votes,
                double negligible, Index c)
      : chunk_(call.chunks()[std::size_t(c)]), votes_(&votes), f_(votes.f(c)) {
    if (!keys_can_die(call, negligible)) return;
    bounds_.emplace(negligible, call.whole().keys);
    for (Index b = 0; b < f_.dim(0); ++b) {
      double own = 0;
      for (Index p = chunk_.first; p < chunk_.last; ++p)
        own = std::max(own, double(votes.norm(b, p)));
      bounds_->add(double(largest_norm(folded.q.view(), b, chunk_.row, chunk_.rows())), own);
    }
  }

  /// Is the key forgotten by all batch entries? If so, adds what it could have received.
  bool operator()(Index position) {
    if (!bounds_ || position >= chunk_.first) return false;
    double most = 0;
    for (Index b = 0; b < f_.dim(0); ++b) {
      const double norm = double(votes_->norm(b, position)), f = double(f_(b, position));
      if (!bounds_->is_dead(b, norm, f)) return false;
      most = std::max(most, bounds_->weight(b, norm, f));
    }
    weight_ += most;
    return true;
  }
  /// Upper bound of the weight that the forgotten keys would have received in any row.
  double weight() const { return weight_; }

 private:
  Chunk chunk_{};
  const Votes<T>* votes_ = nullptr;
  View<const T, 2> f_;
  std::optional<NormBounds> bounds_;
  double weight_ = 0;
};

/// The keys that the rows of this rank still need.
struct WantedKeys {
  Vector<Vector<bool>> by_chunk;  ///< of this rank: [N] true if a row of the chunk needs the key
  Vector<Vector<Index>> by_rank;  ///< by the rank that holds them: positions that any chunk needs
  double dropped = 0;  ///< upper bound of the weight of keys that are forgotten, in any row

  WantedKeys() = default;
  template <class T, Stage V>
  WantedKeys(const RankCall<T, V>& call, const FoldedTokens<T>& folded, const Votes<T>& votes,
             double negligible) {
    const std::size_t tokens = std::size_t(call.whole().keys);
    for (std::size_t c = 0; c < call.chunks().size(); ++c) {
      ForgottenKeys<T> forgotten;
      if (call.selection().active)
        forgotten = ForgottenKeys<T>(call, folded, votes, negligible, Index(c));
      Vector<bool> wanted(tokens, false);
      const KeyRange seen = call.seen_by(call.chunks()[c]);
      for (Index p = seen.first; p < seen.last; ++p) wanted[std::size_t(p)] = !forgotten(p);
      by_chunk.push_back(std::move(wanted));
      dropped = std::max(dropped, forgotten.weight());
    }
    by_rank = detail::by_rank(call.sharding(), [&](Index p) {
      return std::any_of(by_chunk.begin(), by_chunk.end(),
                         [&](const Vector<bool>& wanted) { return wanted[std::size_t(p)]; });
    });
  }
};

}  // namespace heed::inline HEED_ABI::distributed::detail
