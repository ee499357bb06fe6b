// SPDX-License-Identifier: MIT
/// @file
/// Which keys selection has masked for good, by norms.
#pragma once

#include "heed/distributed/rank_call.hpp"
#include "heed/engine/prune/dead_keys.hpp"

namespace heed::inline HEED_ABI::distributed::detail {

/// Do norms bound the scores, and can F only grow, so that keys may be dead for good?
template <class T, Stage V>
bool keys_can_die(const RankCall<T, V>& call, double negligible) {
  return call.selection().active && call.keeps_past() && negligible > 0 &&
         heed::detail::votes_as_in_the_paper(call.selection().options);
}

/// Bounds for some rows, as ScoreBounds has them: |s(i, j)| ≤ |q_i| |k_j|, against the row's own
/// key, which has F = 0.
class NormBounds {
 public:
  /// @param negligible  what a row may lose of its weight with all `keys` together.
  NormBounds(double negligible, Index keys) : dead_(negligible / double(keys)) {}

  /// Sets the largest norms of the queries and of the own keys of the rows, batch entry by entry.
  void add(double query, double own_key) {
    queries_.push_back(query), own_keys_.push_back(own_key);
  }
  /// Is a key with this norm dead once F has reached f?
  bool is_dead(Index b, double norm, double f) const {
    return dead_.contain(lead(b, norm), -f * simd::log2e<double>);
  }
  /// Upper bound of the weight that a row gives to it.
  double weight(Index b, double norm, double f) const {
    return dead_.weight(lead(b, norm), -f * simd::log2e<double>);
  }

 private:
  double lead(Index b, double norm) const {
    return simd::log2e<double> * queries_[std::size_t(b)] * (norm + own_keys_[std::size_t(b)]);
  }

  heed::detail::DeadKeys<double> dead_;
  Vector<double> queries_, own_keys_;
};

/// The Euclidean norm of a row, rounded to T.
template <class T>
T norm_of(const T* x, Index dim) {
  T sum = 0;
  for (Index d = 0; d < dim; ++d) sum += x[d] * x[d];
  return std::sqrt(sum);
}

/// The largest norm of the queries of some rows, over the heads.
template <class T>
T largest_norm(const View<const T, 4>& q, Index b, Index first, Index rows) {
  T largest = 0;
  for (Index h = 0; h < q.dim(1); ++h)
    for (Index i = first; i < first + rows; ++i)
      largest = std::max(largest, norm_of(q.row(b, h, i), q.dim(3)));
  return largest;
}

}  // namespace heed::inline HEED_ABI::distributed::detail
