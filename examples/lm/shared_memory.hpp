// SPDX-License-Identifier: MIT
/// @file
/// What a model remembers of many texts at once, in memory of a fixed size.
#pragma once

#include "heed/kv/kv_model.hpp"
#include "lm/memory.hpp"
#include "lm/text.hpp"

namespace lm {

/// A layer's queries, keys and values as its buffer takes them, [1, H, tokens, D].
struct Heads {
  heed::View<float, 4> q, k, v;
};

/// What is remembered of one text. Copies are forks, which share pages.
using TextMemory = heed::KvModelSequence<float>;

/// A cache a layer, all over one pool of pages.
class SharedMemory {
 public:
  /// @param bytes  of the pool, allocated at once.
  /// @throws ConfigError as options_of() does, or if the model has temperatures or blocks, or the
  ///     bytes hold no page.
  SharedMemory(const Config& config, const Forgetting& forgetting, std::size_t bytes);

  TextMemory open() const { return layers_.open(); }
  heed::KvPool<float> pool() const { return layers_.pool(); }
  std::int64_t layers() const { return layers_.size(); }
  const heed::KvCache<float>& operator[](std::int64_t layer) const { return layers_[layer]; }

 private:
  friend class SharedStep;

  heed::KvModel<float> layers_;
  heed::Workspace workspace_;
};

/// Tokens that one text goes on with.
struct Piece {
  TextMemory* memory;
  Bytes tokens;
};

/// One step of several texts, layer by layer, in rows that lie one text after the other.
class SharedStep {
 public:
  SharedStep(SharedMemory& memory, std::span<const Piece> pieces);

  /// Takes the rows' keys and values, and attends from each. While the pool has too few pages the
  /// last text is closed, and the layer begun again without it: a step that runs out of pages has
  /// changed nothing in its layer, and what the layers before have taken goes with the text.
  /// @param out  its rows past rows() are zero.
  /// @throws OutOfPages if there is no room for the first text alone, which is closed too.
  void attend(std::int64_t layer, const Heads& heads, const heed::View<float, 4>& out);

  /// Rows of the texts that are left.
  std::int64_t rows() const { return starts_.back(); }

 private:
  /// @return false if there are too few pages for all the texts.
  bool take(std::int64_t layer, const Heads& heads, const heed::View<float, 4>& out);

  SharedMemory& memory_;
  std::vector<TextMemory*> texts_;
  std::vector<std::int64_t> starts_{0};
};

}  // namespace lm
