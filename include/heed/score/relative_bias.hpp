// SPDX-License-Identifier: MIT
/// @file
/// A learned bias per distance, in buckets.
#pragma once

#include "heed/score/stage.hpp"

#include <algorithm>
#include <cmath>

namespace heed::inline HEED_ABI {

/// How distances map to buckets.
struct RelativeBuckets {
  /// The largest max_distance. A call makes a table of that many indices.
  static constexpr Index farthest = Index(1) << 24;

  Index max_distance = 128;    ///< Distances from here on share the last bucket.
  bool bidirectional = false;  ///< The second half of the buckets is for keys after the query.
};

/// s(i, j) += table[h, bucket(j − p)], where p is the position of row i, as in T5 (Raffel et al.,
/// arXiv:1910.10683). Of n buckets per direction, distances below n / 2 have one each. Beyond,
/// bucket widths grow by a constant factor up to max_distance:
///
///     bucket(d) = |d|                                                   if |d| < n / 2
///               = min(n − 1, ⌊n/2 (1 + log(2|d|/n) / log(2 max_distance/n))⌋)   else
///
/// Without `bidirectional`, keys after the query are in bucket 0.
///
/// @param table  [H, buckets].
/// @throws ShapeError unless the table has one row per head; ValueError unless there are at least 2
/// buckets per direction, max_distance is above half their number and at most 2^24, and each number
/// of the table lies within ±10^18.
/// @note One addition for a register of keys that are all at least max_distance before the query;
/// otherwise one look-up per key.
template <class T>
struct RelativeBias : StageOf<Rank::bias> {
  static constexpr Reads reads = Reads::distance;
  static constexpr bool never_masks = true;

  View<const T, 2> table;
  RelativeBuckets buckets;
  View<T, 2> gradient{};
  const Index* bucket = nullptr;  ///< [max_distance + 1] by distance to the past
  double* sums = nullptr;         ///< [H][buckets] the gradient as it accumulates

  /// Where backward() writes ∂L/∂table, [H, buckets]; overwritten.
  RelativeBias grad(std::type_identity_t<View<T, 2>> to) const {
    RelativeBias stage = *this;
    stage.gradient = to;
    return stage;
  }

  template <class U>
  RelativeBias bind(const Problem& p, Arena& arena) const {
    static_assert(std::is_same_v<T, U>, "heed: relative_bias must have the number type of out");
    RelativeBias bound = *this;
    Index* of = arena.take<Index>(buckets.max_distance + 1);
    if (!arena.measuring())
      for (Index d = 0; d <= buckets.max_distance; ++d) of[d] = bucket_of(d);
    bound.bucket = of;
    if (gradient) bound.sums = arena.take<double>(p.heads * table.dim(1));
    return bound;
  }
  void check(const Problem& p) const {
    expect_dims("relative_bias", table.dims(), {p.heads, table.dim(1)}, "a row per head");
    detail::reads(p.tensors, "relative_bias", table);
    if (one_way() < 2 || buckets.max_distance <= one_way() / 2)
      throw ValueError("relative_bias: ", one_way(), " buckets for a direction and max_distance ",
                       buckets.max_distance,
                       ": there must be 2, and max_distance beyond half of "
                       "them");
    if (buckets.max_distance > RelativeBuckets::farthest)
      throw ValueError("relative_bias: max_distance is ", buckets.max_distance,
                       ", must be at most ", RelativeBuckets::farthest);
    for (Index h = 0; h < table.dim(0); ++h)
      for (Index i = 0; i < table.dim(1); ++i)
        detail::expect_within("a number of relative_bias", double(table(h, i)), -1e18, 1e18);
    if (!gradient) return;
    expect_dims("relative_bias' gradient", gradient.dims(), table.dims(),
                "the dimensions of the table");
    if (p.backward) detail::writes(p.tensors, "relative_bias' gradient", gradient);
  }

  template <class U>
  HEED_INLINE Batch<U> score(const Batch<U>& s, const Lanes<U>& at) const {
    const Batch<U> distance = at.distance(), last(U(buckets.max_distance));
    if (!simd::any(distance > Batch<U>(U(0)) - last))  // the far past
      return s + Batch<U>(table(at.head, bucket[buckets.max_distance]) * simd::log2e<U>);
    U lanes[std::size_t(simd::width<U>)];
    distance.store_unaligned(lanes);
    for (U& x : lanes) x = table(at.head, bucket_at(Index(x))) * simd::log2e<U>;
    return s + simd::load(lanes);
  }

  bool shares_gradients() const { return bool(gradient); }
  void clear_gradients() {
    std::fill_n(sums, gradient.size(), 0.0);
    end_gradients(0, 0);
  }
  template <class U>
  HEED_INLINE Batch<U> grad_score(const Batch<U>& grad, const Batch<U>&, const Lanes<U>& at) {
    if (!gradient) return grad;
    U distance[std::size_t(simd::width<U>)], lanes[std::size_t(simd::width<U>)];
    at.distance().store_unaligned(distance);
    grad.store_unaligned(lanes);
    for (Index lane = 0; lane < std::min(simd::width<U>, at.keys); ++lane)
      sums[at.head * table.dim(1) + bucket_at(Index(distance[lane]))] += double(lanes[lane]);
    return grad;
  }
  void end_gradients(Index, Index) {
    for (Index h = 0; h < gradient.dim(0); ++h)
      for (Index i = 0; i < gradient.dim(1); ++i) gradient(h, i) = T(sums[h * table.dim(1) + i]);
  }

 private:
  Index one_way() const { return buckets.bidirectional ? table.dim(1) / 2 : table.dim(1); }
  /// The bucket of a key `distance` before the query.
  Index bucket_of(Index distance) const {
    const Index n = one_way(), exact = n / 2;
    if (distance < exact) return distance;
    const double grown = std::log(double(distance) / double(exact)) /
                         std::log(double(buckets.max_distance) / double(exact));
    return std::min(n - 1, exact + Index(grown * double(n - exact)));
  }
  Index bucket_at(Index distance) const {
    const Index last = buckets.max_distance;
    if (distance <= 0) return bucket[std::min(-distance, last)];
    return buckets.bidirectional ? one_way() + bucket[std::min(distance, last)] : 0;
  }
};

/// Adds table[h, bucket(j − p)] to natural scores, a learned bias by distance; `table` is
/// [H, buckets]. ShapeError unless it has H rows, ValueError for too few buckets.
template <TensorLike<2> X>
auto relative_bias(X&& table, const RelativeBuckets& buckets = {}) {
  using T = ScalarOf<X>;
  return RelativeBias<T>{{}, View<const T, 2>(std::forward<X>(table)), buckets};
}

}  // namespace heed::inline HEED_ABI
