// SPDX-License-Identifier: MIT
/// @file Bounds that tell which keys selection has masked for good.
#pragma once

#include "heed/core/executor.hpp"
#include "heed/engine/pack/stored_tensor.hpp"
#include "heed/score/stage.hpp"

#include <algorithm>
#include <cmath>

namespace heed::inline HEED_ABI::detail {

/// Which keys are dead: masked so much that no row to come can give them any weight. From norms,
/// |s(i, j)| ≤ |q_i| |k_j|, in log2 units. One set a batch entry, of all heads together, so that
/// who is dead does not depend on how heads are shared out.
template <class T>
class ScoreBounds {
 public:
  /// Nobody is dead.
  ScoreBounds() = default;
  /// @param negligible  the share of a row's weight that all dead keys together may have had.
  ScoreBounds(const Problem& p, double negligible, Index block_rows, Arena& arena)
      : problem_(p),
        least_(T(std::log2(negligible / double(p.keys)))),
        block_rows_(block_rows),
        blocks_((p.queries + block_rows - 1) / block_rows) {
    queries_ = arena.take<T>(p.batch * (blocks_ + 1));
    keys_ = arena.take<T>(p.batch * (p.keys + 1));
  }

  /// Do the bounds hold of a bound variant's scores? The row's own key it must see, unmasked.
  template <class V>
  static bool hold(const V& variant, const Problem& p) {
    for (Index b = 0; b < p.batch; ++b)
      if (p.first_position(b) < 0 || p.first_position(b) > p.keys - p.queries) return false;
    return hook::keeps_causal_past(variant);
  }

  /// To be called once, before the rest. `variant` is bound; room_of(worker) is for a token,
  /// where they are not in place.
  template <class V, class RoomOf>
  void measure(const StoredTensor<T>& q, const StoredTensor<T>& k, const V& variant,
               const Executor& executor, RoomOf&& room_of) const {
    executor(problem_.batch * (blocks_ + key_blocks()),
             [&](Index task, Index worker) { measure(task, q, k, variant, room_of(worker)); });
    finish();
  }

  /// Whose weight stays below 2^least is dead.
  T least() const { return least_; }
  /// Is key j dead from this row block on, if −F is this much and falling?
  bool is_dead(Index b, Index row_block, Index j, T minus_f) const {
    return lead(b, row_block, j) + minus_f < least_;
  }
  /// The most that a row of this block or below gives to key j.
  double weight(Index b, Index row_block, Index j, T minus_f) const {
    return std::exp2(double(lead(b, row_block, j) + minus_f));
  }

 private:
  /// By how much key j can exceed the key of a row itself, in this row block or a later one.
  T lead(Index b, Index row_block, Index j) const {
    const T* keys = keys_ + b * (problem_.keys + 1);
    return queries_[b * (blocks_ + 1) + row_block] * (keys[j] + keys[problem_.keys]);
  }

  /// A row block, or as many keys: pieces that can be measured independently.
  template <class V>
  void measure(Index task, const StoredTensor<T>& q, const StoredTensor<T>& k, const V& variant,
               T* room) const {
    const Index b = task / (blocks_ + key_blocks()), piece = task % (blocks_ + key_blocks());
    if (piece < blocks_) {
      T most = 0;
      const Index first = piece * block_rows_,
                  last = std::min(first + block_rows_, problem_.queries);
      for (Index h = 0; h < problem_.heads; ++h)
        for (Index i = first; i < last; ++i)
          most = std::max(
              most, std::abs(hook::query_factor(variant, simd::log2e<T>, problem_.row(b, h, i))) *
                        norm(q.row(b, h, i, room), problem_.dim));
      queries_[b * (blocks_ + 1) + piece] = most;
    } else {
      const Index first = (piece - blocks_) * block_rows_,
                  last = std::min(first + block_rows_, problem_.keys);
      for (Index j = first; j < last; ++j) {
        T most = 0;
        for (Index g = 0; g < problem_.key_heads; ++g)
          most = std::max(most, std::abs(hook::key_factor(variant, T(1), b, g, j)) *
                                    norm(k.row(b, g, j, room), problem_.dim));
        keys_[b * (problem_.keys + 1) + j] = most;
      }
    }
  }
  void finish() const {
    for (Index b = 0; b < problem_.batch; ++b) {
      T* queries = queries_ + b * (blocks_ + 1);
      queries[blocks_] = 0;
      for (Index i = blocks_; i-- > 0;) queries[i] = std::max(queries[i], queries[i + 1]);
      T* keys = keys_ + b * (problem_.keys + 1);
      keys[problem_.keys] = *std::max_element(keys, keys + problem_.keys);
    }
  }

  Index key_blocks() const { return (problem_.keys + block_rows_ - 1) / block_rows_; }
  static T norm(const T* x, Index dim) {
    Batch<T> squares(T(0));
    Index d = 0;
    for (; d + simd::width<T> <= dim; d += simd::width<T>) {
      const Batch<T> y = simd::load(x + d);
      squares = simd::fma(y, y, squares);
    }
    T sum = simd::reduce_add(squares);
    for (; d < dim; ++d) sum += x[d] * x[d];
    return std::sqrt(sum);
  }

  Problem problem_;
  T least_ = masked<T>;
  Index block_rows_ = 1, blocks_ = 0;
  T* queries_ = nullptr;  ///< [B][row blocks + 1] of this row block and all below, with its factors
  T* keys_ = nullptr;     ///< [B][Nk + 1] of each key, and the largest
};

}  // namespace heed::inline HEED_ABI::detail
