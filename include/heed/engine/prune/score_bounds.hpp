// SPDX-License-Identifier: MIT
/// @file
/// Score bounds that prove which keys selection has masked for good.
#pragma once

#include "heed/core/executor.hpp"
#include "heed/engine/pack/stored_tensor.hpp"
#include "heed/engine/prune/dead_keys.hpp"
#include "heed/score/stage.hpp"

#include <algorithm>
#include <cmath>

namespace heed::inline HEED_ABI::detail {

/// Bounds the lead of each key, see DeadKeys, by norms: |s(i, j)| ≤ |q_i| |k_j|, in log2 units.
/// Each batch entry has one set of bounds for all heads together, so that pruning does not depend
/// on the assignment of heads to tasks.
template <class T>
class ScoreBounds {
 public:
  /// No key is dead.
  ScoreBounds() = default;
  /// @param negligible  the share of a row's weight that all dead keys together may lose.
  ScoreBounds(const Problem& p, double negligible, Index block_rows, Arena& arena)
      : problem_(p),
        dead_(negligible / double(p.keys)),
        block_rows_(block_rows),
        blocks_((p.queries + block_rows - 1) / block_rows) {
    queries_ = arena.take<T>(p.batch * (blocks_ + 1));
    keys_ = arena.take<T>(p.batch * (p.keys + 1));
  }

  /// True if the bounds hold for the scores of a bound variant. It requires that every row sees its
  /// own key, unmasked.
  template <class V>
  static bool hold(const V& variant, const Problem& p) {
    for (Index b = 0; b < p.batch; ++b)
      if (p.first_position(b) < 0 || p.first_position(b) > p.keys - p.queries) return false;
    return hook::keeps_causal_past(variant);
  }

  /// Computes the norms; must be called once, before the functions below. `variant` is bound.
  /// scratch_of(worker) holds one token, needed only if tokens must be widened.
  template <class V, class ScratchOf>
  void compute_norms(const StoredTensor<T>& q, const StoredTensor<T>& k, const V& variant,
                     const Executor& executor, ScratchOf&& scratch_of) const {
    executor(problem_.batch * (blocks_ + key_blocks()), [&](Index task, Index worker) {
      compute_norms(task, q, k, variant, scratch_of(worker));
    });
    accumulate_maxima();
  }

  /// A key is dead if its weight stays below 2^least.
  T least() const { return dead_.least(); }
  /// True if key j is dead from this row block on, given that its bias −F never increases.
  bool is_dead(Index b, Index row_block, Index j, T bias) const {
    return dead_.contain(max_lead(b, row_block, j), bias);
  }
  /// Upper bound of the weight that a row of this block or a later one gives to key j.
  double weight(Index b, Index row_block, Index j, T bias) const {
    return dead_.weight(max_lead(b, row_block, j), bias);
  }

 private:
  /// Upper bound of the score of key j minus that of the row's own key, for rows of this block or a
  /// later one.
  T max_lead(Index b, Index row_block, Index j) const {
    const T* keys = keys_ + b * (problem_.keys + 1);
    return queries_[b * (blocks_ + 1) + row_block] * (keys[j] + keys[problem_.keys]);
  }

  /// Computes the norms of one row block, or of as many keys; the tasks are independent.
  template <class V>
  void compute_norms(Index task, const StoredTensor<T>& q, const StoredTensor<T>& k,
                     const V& variant, T* scratch) const {
    const Index b = task / (blocks_ + key_blocks()), piece = task % (blocks_ + key_blocks());
    if (piece < blocks_) {
      T largest = 0;
      const Index first = piece * block_rows_,
                  last = std::min(first + block_rows_, problem_.queries);
      for (Index h = 0; h < problem_.heads; ++h)
        for (Index i = first; i < last; ++i)
          largest = std::max(largest, std::abs(hook::query_factor(variant, simd::log2e<T>,
                                                                  problem_.row(b, h, i))) *
                                          norm(q.row(b, h, i, scratch), problem_.dim));
      queries_[b * (blocks_ + 1) + piece] = largest;
    } else {
      const Index first = (piece - blocks_) * block_rows_,
                  last = std::min(first + block_rows_, problem_.keys);
      for (Index j = first; j < last; ++j) {
        T largest = 0;
        for (Index g = 0; g < problem_.key_heads; ++g)
          largest = std::max(largest, std::abs(hook::key_factor(variant, T(1), b, g, j)) *
                                          norm(k.row(b, g, j, scratch), problem_.dim));
        keys_[b * (problem_.keys + 1) + j] = largest;
      }
    }
  }
  void accumulate_maxima() const {
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
  DeadKeys<T> dead_{0};
  Index block_rows_ = 1, blocks_ = 0;
  /// [B][row blocks + 1] the largest scaled norm of this row block and all later ones.
  T* queries_ = nullptr;
  T* keys_ = nullptr;  ///< [B][Nk + 1] the norm of each key, then the largest
};

/// What a pass must know of a variant's scan before it lays out its scratch.
struct ScanUse {
  bool scans = false;     ///< Does a stage that is switched on scan the rows?
  bool prunable = false;  ///< Do the bounds hold that allow pruning?

  /// @throws ValueError if the selecting head does not exist.
  template <class T, class V>
  static ScanUse of(const V& variant, const Problem& p) {
    ScanUse use;
    if constexpr (hook::scans_rows<BoundOf<T, V>>) {
      Arena measure;
      const BoundOf<T, V> bound_variant = bound<T>(variant, p, measure);
      const Index head = hook::selecting_head(bound_variant);
      if (head >= p.heads)
        throw ValueError("a stage selects by head ", head, ", there are ", p.heads);
      use = {head >= 0, ScoreBounds<T>::hold(bound_variant, p)};
    }
    return use;
  }
};

}  // namespace heed::inline HEED_ABI::detail
