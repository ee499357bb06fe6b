// SPDX-License-Identifier: MIT
/// @file
/// One text in the caches of all layers of a model, as a value.
#pragma once

#include "heed/kv/kv_sequence.hpp"

namespace heed::inline HEED_ABI {

/// One text in the caches of all layers of a model: a KvSequence per layer. KvModel::open() makes
/// one. Copies are forks, and the destructor or close() returns its pages, as of a KvSequence.
template <class T, StorageOf<T> S = T>
class KvModelSequence {
 public:
  using Layer = KvSequence<T, S>;

  /// The state of all layers at one time. Immutable.
  class Mark {
    friend class KvModelSequence;
    Vector<KvMark<T, S>> layers_;
  };

  KvModelSequence() = default;  ///< Closed.
  /// @param layers  a sequence of each layer's cache, all at the same position.
  explicit KvModelSequence(Vector<Layer> layers) : layers_(std::move(layers)) {}

  KvModelSequence(const KvModelSequence&) = default;
  KvModelSequence(KvModelSequence&&) noexcept = default;
  /// Of all layers, or of none if memory runs out.
  KvModelSequence& operator=(const KvModelSequence& o) {
    Vector<Layer> copy = o.layers_;
    layers_ = std::move(copy);
    return *this;
  }
  KvModelSequence& operator=(KvModelSequence&&) noexcept = default;

  bool is_open() const { return !layers_.empty(); }
  /// Returns the pages of all layers to the pool.
  void close() { layers_.clear(); }

  /// Layers; 0 if it is closed.
  Index size() const { return Index(layers_.size()); }
  /// @throws ValueError if there is no such layer.
  Layer& operator[](Index layer) { return layers_[checked(layer)]; }
  const Layer& operator[](Index layer) const { return layers_[checked(layer)]; }

  /// Position of the next token in the first layer: in all of them, between the steps of a model.
  Index next() const { return layers_.empty() ? 0 : layers_.front().next(); }
  /// Pages that it refers to, shared ones as well.
  Index pages() const {
    return sum([](const Layer& s) { return s.pages(); });
  }
  /// What close() returns to the pool.
  Index own_pages() const {
    return sum([](const Layer& s) { return s.own_pages(); });
  }
  /// Bytes allocated beside the pages.
  std::size_t bytes() const {
    return std::size_t(sum([](const Layer& s) { return Index(s.bytes()); }));
  }
  /// Tokens held / tokens appended, over all layers and key heads: Σ K_l / (L N) in
  /// arXiv:2410.02703; 1 if there is none.
  double memory_ratio() const {
    double held = 0, seen = 0;
    for (const Layer& s : layers_)
      for (Index g = 0; g < s.shape().key_heads; ++g)
        held += double(s.count(g)), seen += double(s.next());
    return seen > 0 ? held / seen : 1;
  }

  /// The state as it is now, to return to; see KvSequence::mark(). @throws ValueError if closed
  Mark mark() const {
    expect_open();
    Mark mark;
    mark.layers_.reserve(layers_.size());
    for (const Layer& s : layers_) mark.layers_.push_back(s.mark());
    return mark;
  }
  /// Returns all layers to a mark of this text: undoes steps, also one that only some of the layers
  /// have taken.
  /// @throws ValueError if it is closed or the mark is of another text; std::bad_alloc. No layer
  ///     has changed then.
  void roll_back(const Mark& mark) {
    expect_open();
    if (mark.layers_.size() != layers_.size())
      throw ValueError("the mark has ", mark.layers_.size(), " layers, the sequence to roll back ",
                       layers_.size());
    for (std::size_t l = 0; l < layers_.size(); ++l)
      if (!mark.layers_[l].is_of(layers_[l]))
        throw ValueError("the mark is of another sequence than the one to roll back, in layer ", l);
    Mark copy = mark;  // what can fail comes first
    for (std::size_t l = 0; l < layers_.size(); ++l)
      layers_[l].roll_back(std::move(copy.layers_[l]));
  }

 private:
  void expect_open() const {
    if (!is_open()) throw ValueError("the sequence is closed");
  }
  std::size_t checked(Index layer) const {
    if (layer < 0 || layer >= size())
      throw ValueError("layer ", layer, " is asked for, the sequence has ", size());
    return std::size_t(layer);
  }
  template <class Of>
  Index sum(Of&& of) const {
    Index sum = 0;
    for (const Layer& s : layers_) sum += of(s);
    return sum;
  }

  Vector<Layer> layers_;
};

}  // namespace heed::inline HEED_ABI
