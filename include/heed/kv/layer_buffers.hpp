// SPDX-License-Identifier: MIT
/// @file
/// The KV buffers of all layers of a model.
#pragma once

#include "heed/kv/kv_buffer.hpp"

namespace heed::inline HEED_ABI {

/// One KvBuffer per layer, each with its own budget: a fixed batch. KvModel is for texts that come
/// and go.
template <class T, StorageOf<T> S = T>
class LayerBuffers {
 public:
  /// @param budgets  K of each layer; none: that layer evicts nothing.
  /// @param pool  memory that all layers share; none: each has its own.
  /// @throws ValueError if a budget is smaller than the number of protected and recent tokens.
  LayerBuffers(const KvShape& shape, const std::vector<std::optional<Index>>& budgets,
               KvOptions options, const std::optional<KvPool<T, S>>& pool = {}) {
    layers_.reserve(budgets.size());
    for (const std::optional<Index>& budget : budgets) {
      options.budget = budget;
      layers_.emplace_back(shape, options, pool);
    }
  }

  Index size() const { return Index(layers_.size()); }
  KvBuffer<T, S>& operator[](Index layer) { return layers_[std::size_t(layer)]; }
  const KvBuffer<T, S>& operator[](Index layer) const { return layers_[std::size_t(layer)]; }

  void clear(Index batch) {
    for (auto& layer : layers_) layer.clear(batch);
  }
  std::size_t bytes() const {
    std::size_t sum = 0;
    for (const auto& layer : layers_) sum += layer.bytes();
    return sum;
  }
  /// Tokens held / tokens appended, over all layers and sequences: Σ K_l / (L N) in the paper.
  double memory_ratio() const {
    double held = 0, seen = 0;
    for (const auto& layer : layers_)
      for (Index b = 0; b < layer.shape().batch; ++b)
        held += double(layer.sequence(b).count()), seen += double(layer.sequence(b).next());
    return seen > 0 ? held / seen : 1;
  }

 private:
  Vector<KvBuffer<T, S>> layers_;
};

}  // namespace heed::inline HEED_ABI
