// SPDX-License-Identifier: MIT
/// @file
/// The caches of all layers of a model over one pool, and steps that all layers take or none.
#pragma once

#include "heed/kv/kv_model_step.hpp"

#include <vector>

namespace heed::inline HEED_ABI {

/// A KvCache per layer of a model, each with its own budget or options, over one pool of pages and
/// one scratch.
///
///     KvPool<float> pool(64, 64, {.bytes = 1 << 30});
///     KvModel<float> model({.heads = 8, .key_heads = 2, .dim = 64, .value_dim = 64},
///                          {512, 512, std::nullopt}, {}, pool);   // three layers
///     auto a = model.open(), b = model.open();
///     auto step = model.begin({&a, &b}, {1, 1});        // OutOfPages: here, or not at all
///     for (Index l = 0; l < model.size(); ++l) step.take(l, q, k, v, standard, out);
template <class T, StorageOf<T> S = T>
class KvModel {
 public:
  using Cache = KvCache<T, S>;
  using Sequence = KvModelSequence<T, S>;
  using Pool = KvPool<T, S>;
  using Sequences = std::span<Sequence* const>;

  /// @param layers  options of each layer, at least one.
  /// @param pool  memory for all of them; none: one that grows.
  /// @throws ValueError, ShapeError as KvCache
  KvModel(const KvShape& shape, std::span<const KvOptions> layers, std::optional<Pool> pool = {}) {
    if (layers.empty()) throw ValueError("KvModel: there are no layers, must be at least 1");
    // The pages of a pool of its own are those of the layer with the largest budget.
    const KvOptions* largest = &layers.front();
    for (const KvOptions& o : layers)
      if (largest->budget && (!o.budget || *o.budget > *largest->budget)) largest = &o;
    if (!pool) pool = Cache(shape, *largest).pool();
    layers_.reserve(layers.size());
    for (const KvOptions& o : layers) layers_.emplace_back(shape, o, pool);
  }
  /// @param budgets  K of each layer; none: that layer evicts nothing.
  KvModel(const KvShape& shape, const std::vector<std::optional<Index>>& budgets,
          const KvOptions& options, std::optional<Pool> pool = {})
      : KvModel(shape, std::span<const KvOptions>(each(budgets, options)), std::move(pool)) {}

  Index size() const { return Index(layers_.size()); }
  Cache& operator[](Index layer) { return layers_[checked(layer)]; }
  const Cache& operator[](Index layer) const { return layers_[checked(layer)]; }
  Pool pool() const { return layers_.front().pool(); }

  /// Bytes allocated for pages, held or free, and for scratch. KvModelSequence::bytes() is beside
  /// them.
  std::size_t bytes() const { return pool().bytes_reserved() + scratch_bytes(); }
  std::size_t scratch_bytes() const { return workspace_.bytes(); }
  /// The most pages that a text of so many tokens holds in all layers, while a step of `rows` of
  /// them runs; see KvCache::pages_for().
  Index pages_for(Index tokens, Index rows = 1) const {
    Index pages = 0;
    for (const Cache& layer : layers_) pages += layer.pages_for(tokens, rows);
    return pages;
  }

  /// A text without tokens.
  Sequence open() const {
    Vector<KvSequence<T, S>> all;
    all.reserve(layers_.size());
    for (const Cache& layer : layers_) all.push_back(layer.open());
    return Sequence(std::move(all));
  }
  /// A fork of a text that may be of another model's caches; see KvCache::open(from).
  /// @throws ValueError, ShapeError, naming both sides; OutOfPages, std::bad_alloc
  Sequence open(const Sequence& from) const {
    detail::expect_layers(from.size(), size());
    Vector<KvSequence<T, S>> all;
    all.reserve(layers_.size());
    for (Index l = 0; l < size(); ++l) all.push_back((*this)[l].open(from[l]));
    return Sequence(std::move(all));
  }

  /// Begins a step of rows[b] new tokens of each text, and sets aside the pages that all layers may
  /// need for it.
  ///
  /// @throws ValueError if a number of rows is negative, or a text is closed, named twice or of
  ///     another model, or its layers are at different positions; OutOfPages, std::bad_alloc.
  ///     Nothing has changed then, and the step can be repeated after a text was closed.
  /// @note Microseconds: a visit to each layer's pages, no numbers are copied. Pages are set aside
  ///     as if all layers ran at once; those that a layer turns out not to need return to the pool
  ///     when it has taken the step.
  KvModelStep<T, S> begin(Sequences sequences, std::span<const std::int64_t> rows) {
    return {layers_, workspace_, sequences, rows};
  }
  KvModelStep<T, S> begin(std::initializer_list<Sequence*> sequences,
                          std::initializer_list<std::int64_t> rows) {
    return begin(Sequences(sequences.begin(), sequences.size()),
                 std::span<const std::int64_t>(rows.begin(), rows.size()));
  }

 private:
  static Vector<KvOptions> each(const std::vector<std::optional<Index>>& budgets,
                                const KvOptions& options) {
    Vector<KvOptions> all(budgets.size(), options);
    for (std::size_t l = 0; l < all.size(); ++l) all[l].budget = budgets[l];
    return all;
  }
  std::size_t checked(Index layer) const {
    if (layer < 0 || layer >= size())
      throw ValueError("layer ", layer, " is asked for, the model has ", size());
    return std::size_t(layer);
  }

  Vector<Cache> layers_;
  Workspace workspace_;
};

}  // namespace heed::inline HEED_ABI
