// SPDX-License-Identifier: MIT
/// @file
/// A KvCache with a fixed batch of sequences.
#pragma once

#include "heed/kv/kv_cache.hpp"

namespace heed::inline HEED_ABI {

/// A KvCache whose batch of sequences is opened once, with a pool of its own: the short way in.
///
///     KvBuffer<float> buffer({.batch = 1, .heads = 8, .key_heads = 8, .dim = 64, .value_dim = 64},
///                            {.budget = 512});
///     buffer.step(q, k, v, standard, out);
///
/// Copying the buffer forks all of its sequences. For a single sequence, `snapshot` and `restore`
/// save and reset its state; `copy_sequence` forks it within the batch or into another buffer.
template <class T, StorageOf<T> S = T>
class KvBuffer {
 public:
  using Sequence = KvSequence<T, S>;
  using Step = KvStep<T>;

  /// @throws ValueError if a size is not positive, if the budget is smaller than the number of
  ///     protected and recent tokens, or if the buffer would exceed any machine's memory.
  KvBuffer(const KvShape& shape, KvOptions options, std::optional<KvPool<T, S>> pool = {})
      : cache_(shape, std::move(options), pool),
        sequences_(std::size_t(shape.batch), cache_.open()) {
    if (!pool) cache_.reserve(shape.batch);
  }

  const KvShape& shape() const { return cache_.shape(); }
  /// The options given, with `protect` sorted and `chunk` limited to a row block.
  const KvOptions& options() const { return cache_.options(); }
  /// The state of one sequence.
  /// @throws ValueError if `batch` is out of range, like every function that takes it.
  const Sequence& sequence(Index batch) const {
    check_index(batch);
    return sequences_[std::size_t(batch)];
  }

  /// A copy of the state of one sequence.
  Sequence snapshot(Index batch) const { return sequence(batch); }
  /// Replaces a sequence by the snapshot, including positions and F. It may be of another buffer,
  /// see KvCache::open().
  /// @throws ShapeError, ValueError, naming both sides; OutOfPages, std::bad_alloc. The buffer is
  /// then unchanged.
  void restore(Index batch, const Sequence& snapshot) {
    check_index(batch);
    sequences_[std::size_t(batch)] = cache_.open(snapshot);
  }
  /// Copies sequence `from_batch` of `from`, which may be this buffer, to sequence `to_batch`.
  void copy_sequence(const KvBuffer& from, Index from_batch, Index to_batch) {
    restore(to_batch, from.sequence(from_batch));
  }
  /// Removes all tokens of one sequence; its memory stays in the pool.
  void clear(Index batch) {
    check_index(batch);
    sequences_[std::size_t(batch)].clear();
  }

  /// Bytes allocated, including scratch. A pool that others share is counted whole.
  std::size_t bytes() const {
    std::size_t sum = cache_.pool().bytes_reserved() + cache_.scratch_bytes();
    for (const Sequence& s : sequences_) sum += s.bytes();
    return sum;
  }

  /// Appends N tokens to every sequence; see KvCache::step.
  template <class Q, TokensLike K, TokensLike V, Stage Variant, class Out>
  requires TensorLike<Q, 4> && StoredFor<Q, T> && StoredFor<K, T> && StoredFor<V, T> &&
      TensorLike<Out, 4>
          WorkStats step(const Q& q, const K& k, const V& v, const Variant& variant, Out&& out,
                         const Step& options = {}) {
    detail::SmallArray<Sequence*> all(sequences_.size());
    std::transform(sequences_.begin(), sequences_.end(), all.all().begin(),
                   [](Sequence& s) { return &s; });
    return cache_.step(typename KvCache<T, S>::Sequences(all.all()), q, k, v, variant, out,
                       options);
  }

 private:
  void check_index(Index batch) const {
    if (batch < 0 || batch >= shape().batch)
      throw ValueError("sequence ", batch, " is asked for, there are ", shape().batch);
  }

  KvCache<T, S> cache_;
  Vector<Sequence> sequences_;
};

}  // namespace heed::inline HEED_ABI
