// SPDX-License-Identifier: MIT
/// @file
/// Which rank holds which tokens.
#pragma once

#include "heed/core/vector.hpp"
#include "heed/core/views.hpp"

#include <algorithm>
#include <span>

namespace heed::inline HEED_ABI::distributed {

/// A run of tokens that one rank holds.
struct Chunk {
  Index first, last;  ///< positions first ≤ p < last; may be empty
  int rank;
  Index row;  ///< of the first token in the tensors of its rank

  Index rows() const { return last - first; }
};

/// A sequence of tokens cut into chunks, and the rank of each. The tensors of a rank hold its
/// chunks one after the other, in the order of their positions.
///
/// Under a causal mask later rows see more keys. zigzag() gives each rank an early chunk and a late
/// one, so that all have as much to do; contiguous() leaves half of the ranks idle, but suits
/// windows, since a rank then needs only its neighbours' keys.
class Sharding {
 public:
  /// Chunk c holds the positions bounds[c] … bounds[c + 1] − 1 and belongs to ranks[c]. A rank may
  /// have any number of chunks, none included.
  /// @throws ValueError unless there is one more bound than ranks, the first is 0 and none falls,
  /// and all ranks lie in 0 … size − 1.
  Sharding(std::span<const Index> bounds, std::span<const int> ranks, int size)
      : rows_(std::size_t(checked_size(size)), 0) {
    if (bounds.size() != ranks.size() + 1)
      throw ValueError("sharding: ", Index(ranks.size()), " chunks have ", Index(bounds.size()),
                       " bounds, should be one more");
    if (bounds[0] != 0) throw ValueError("sharding: the first bound is ", bounds[0], ", must be 0");
    for (std::size_t c = 0; c < ranks.size(); ++c) {
      if (bounds[c + 1] < bounds[c])
        throw ValueError("sharding: bounds fall from ", bounds[c], " to ", bounds[c + 1]);
      if (ranks[c] < 0 || ranks[c] >= size)
        throw ValueError("sharding: a chunk belongs to rank ", ranks[c], ", there are ", size);
      Index& rows = rows_[std::size_t(ranks[c])];
      chunks_.push_back({bounds[c], bounds[c + 1], ranks[c], rows});
      rows += bounds[c + 1] - bounds[c];
    }
  }

  /// Rank r holds chunk r of `ranks`; bounds has one more entry than there are ranks.
  static Sharding contiguous(std::span<const Index> bounds, int ranks) {
    return dealt(bounds, ranks, ranks, [](int chunk, int) { return chunk; });
  }
  /// The same with chunks as even as can be.
  static Sharding contiguous(Index tokens, int ranks) {
    return contiguous(even(tokens, ranks), ranks);
  }
  /// Rank r holds the chunks r and 2R − 1 − r of 2R; bounds has 2R + 1 entries.
  static Sharding zigzag(std::span<const Index> bounds, int ranks) {
    return dealt(bounds, 2 * ranks, ranks,
                 [](int chunk, int size) { return chunk < size ? chunk : 2 * size - 1 - chunk; });
  }
  /// The same with chunks as even as can be.
  static Sharding zigzag(Index tokens, int ranks) {
    return zigzag(even(tokens, 2 * checked_size(ranks)), ranks);
  }

  Index tokens() const { return chunks_.empty() ? 0 : chunks_.back().last; }
  int ranks() const { return int(rows_.size()); }
  /// In the order of their positions.
  std::span<const Chunk> chunks() const { return {chunks_.data(), chunks_.size()}; }
  /// The number of tokens that a rank holds.
  Index rows(int rank) const { return rows_[std::size_t(rank)]; }

 private:
  static int checked_size(int size) {
    if (size < 1 || size > most_ranks)
      throw ValueError("sharding: there are ", size, " ranks, must be 1 … ", most_ranks);
    return size;
  }
  /// `parts` chunks of `tokens`, whose sizes differ by at most one.
  static Vector<Index> even(Index tokens, int parts) {
    checked_size(parts);
    if (tokens < 0) throw ValueError("sharding: there are ", tokens, " tokens");
    Vector<Index> bounds{0};
    for (int c = 0; c < parts; ++c)
      bounds.push_back(bounds.back() + tokens / parts + (c < tokens % parts ? 1 : 0));
    return bounds;
  }
  template <class RankOf>
  static Sharding dealt(std::span<const Index> bounds, int chunks, int size, RankOf&& rank_of) {
    checked_size(size);
    Vector<int> ranks;
    for (int c = 0; c < chunks; ++c) ranks.push_back(rank_of(c, size));
    return {bounds, ranks, size};
  }

  static constexpr int most_ranks = 1 << 20;

  Vector<Chunk> chunks_;
  Vector<Index> rows_;
};

}  // namespace heed::inline HEED_ABI::distributed
