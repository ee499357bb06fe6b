// SPDX-License-Identifier: MIT
/// @file
/// A step that all layers of a model take, or none.
#pragma once

#include "heed/kv/kv_cache.hpp"
#include "heed/kv/kv_model_sequence.hpp"

#include <limits>
#include <numeric>

namespace heed::inline HEED_ABI {
namespace detail {

/// @throws ValueError unless a sequence has the layers of a model.
inline void expect_layers(Index of_sequence, Index of_model) {
  if (of_sequence != of_model)
    throw ValueError("the sequence has ", of_sequence, " layers, the model has ", of_model);
}

}  // namespace detail

template <class T, StorageOf<T> S>
class KvModel;

/// A step that all layers of a model take, one after the other. KvModel::begin() makes one. The
/// model and its sequences must outlive it, and change in no other way meanwhile. If an exception
/// ends it before the last layer, the layers before have taken their tokens: the pages cannot be
/// its reason, and KvModelSequence::mark() before the step undoes it.
template <class T, StorageOf<T> S = T>
class KvModelStep {
 public:
  /// The next layer's queries, keys and values of the new tokens: see KvCache::step(). Rows of a
  /// sequence past its own are zero.
  template <class Q, TokensLike K, TokensLike V, Stage Variant, class Out>
  WorkStats take(Index layer, const Q& q, const K& k, const V& v, const Variant& variant, Out&& out,
                 const KvStep<T>& options = {}) {
    KvStep<T> own = of_layer(layer, options);
    own.tokens = View<const std::int64_t, 1>(rows_.data(), {Index(rows_.size())});
    const WorkStats stats = layers_[std::size_t(layer)].step(
        typename KvCache<T, S>::Sequences(sequences_), q, k, v, variant, out, own);
    ++layer_;
    return stats;
  }
  /// The same of rows that are packed one sequence after the other: see KvCache::step_packed().
  template <class Q, class K, class V, Stage Variant, class Out>
  WorkStats take_packed(Index layer, const Q& q, const K& k, const V& v, const Variant& variant,
                        Out&& out, const KvStep<T>& options = {}) {
    const KvStep<T> own = of_layer(layer, options);
    const WorkStats stats = layers_[std::size_t(layer)].step_packed(
        typename KvCache<T, S>::Sequences(sequences_),
        View<const std::int64_t, 1>(starts_.data(), {Index(starts_.size())}), q, k, v, variant, out,
        own);
    ++layer_;
    return stats;
  }

 private:
  friend class KvModel<T, S>;

  KvModelStep(std::span<KvCache<T, S>> layers, Workspace& workspace,
              std::span<KvModelSequence<T, S>* const> texts, std::span<const std::int64_t> rows)
      : layers_(layers),
        workspace_(&workspace),
        texts_(texts.begin(), texts.end()),
        rows_(rows.begin(), rows.end()),
        starts_(rows.size() + 1, 0),
        sequences_(texts.size()),
        pool_(layers.front().pool()),
        reserved_(pool_.pages(), pages_of_all()) {
    std::partial_sum(rows_.begin(), rows_.end(), starts_.begin() + 1);
  }

  Index size() const { return Index(layers_.size()); }
  void set_layer(Index layer) {
    for (std::size_t b = 0; b < texts_.size(); ++b) sequences_[b] = &(*texts_[b])[layer];
  }
  /// What layers may take. @throws ValueError, std::bad_alloc
  Index pages_of_all() {
    if (rows_.size() != texts_.size())
      throw ValueError("begin: ", rows_.size(), " numbers of rows, there are ", texts_.size(),
                       " sequences");
    for (std::size_t b = 0; b < texts_.size(); ++b) {
      if (texts_[b] == nullptr) throw ValueError("sequence ", b, " of the step is null");
      detail::expect_layers(texts_[b]->size(), size());
      constexpr std::int64_t most = (std::int64_t(1) << std::numeric_limits<T>::digits) - 1;
      if (rows_[b] < 0 || rows_[b] > most)  // see KvInputs
        throw ValueError("begin: sequence ", b, " has ", rows_[b], " rows, must be 0 … ", most);
      for (Index l = 1; l < size(); ++l)
        if (const Index next = (*texts_[b])[l].next(); next != texts_[b]->next())
          throw ValueError("begin: layer ", l, " of sequence ", b, " is at position ", next,
                           ", layer 0 at ", texts_[b]->next());
    }
    Index pages = 0;
    for (Index l = 0; l < size(); ++l) {
      set_layer(l);
      pages += layers_[std::size_t(l)].prepare(sequences_, rows_);
    }
    return pages;
  }
  /// @throws ValueError unless it is the next layer.
  KvStep<T> of_layer(Index layer, const KvStep<T>& options) {
    if (layer != layer_ || layer >= size())
      throw ValueError("layer ", layer, " takes the step, the next one is ", layer_, " of ",
                       size());
    set_layer(layer);
    KvStep<T> own = options;
    if (own.workspace == nullptr) own.workspace = workspace_;
    own.reserved = &reserved_;
    return own;
  }

  std::span<KvCache<T, S>> layers_;
  Workspace* workspace_;
  Vector<KvModelSequence<T, S>*> texts_;
  Vector<std::int64_t> rows_, starts_;
  Vector<KvSequence<T, S>*> sequences_;  ///< of one layer
  KvPool<T, S> pool_;                    ///< of the pages set aside
  detail::ReservedPages reserved_;
  Index layer_ = 0;  ///< the next one
};

}  // namespace heed::inline HEED_ABI
