// SPDX-License-Identifier: MIT
/// @file
/// What a model remembers of the text it reads: a KvBuffer a layer, all over one pool of pages.
#pragma once

#include "heed/kv/kv_buffer.hpp"
#include "lm/config.hpp"

#include <optional>
#include <string>
#include <vector>

namespace lm {

/// How a model is made to forget. Budgets are for the layers that see all of their past; one with
/// a window or a block holds just that.
struct Forgetting {
  /// Tokens each layer may hold; empty: nothing is forgotten.
  std::vector<std::optional<std::int64_t>> budgets;
  heed::EvictionRule evict = heed::most_masked;
  std::int64_t sinks = 1;          ///< First tokens that the rule oldest keeps.
  std::optional<double> recent{};  ///< Share of a budget for the newest tokens; none: the rule's.
  heed::KvHeads heads = heed::KvHeads::together;

  /// Is there a layer with a budget?
  bool forgets() const;
};

/// Slots of a page: few, so that small budgets and short texts waste little.
inline constexpr std::int64_t page_tokens = 32;

/// The options of each layer's cache.
/// @throws ConfigError if the budgets are not one a layer, or if a token's F is to decide in a
/// model
///     that has none.
std::vector<heed::KvOptions> options_of(const Config& config, const Forgetting& forgetting);
/// The sizes of a layer's cache.
heed::KvShape shape_of(const Config& config);

class Memory {
 public:
  /// @throws ConfigError as options_of() does.
  Memory(const Config& config, const Forgetting& forgetting);

  // Layers of a copy would be counted with the pages of both.
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;

  /// Forgets everything: the next token is the first.
  void clear();

  heed::KvBuffer<float>& operator[](std::int64_t layer) { return layers_[std::size_t(layer)]; }
  std::int64_t position() const { return position_; }  ///< of the next token

  /// How many of `tokens` tokens may be taken at once: a block ends where the next begins.
  std::int64_t next_piece(std::int64_t tokens) const;
  /// The buffers have taken so many tokens.
  void advance(std::int64_t tokens);

  /// Bytes that the cache takes: whole pages, and what is noted of their tokens.
  std::size_t bytes() const { return pool_.bytes_held() + notes_bytes(); }
  /// The same with the pages that were taken and returned: what a step of several rows needs more.
  std::size_t most_bytes() const { return pool_.bytes_reserved() + notes_bytes(); }
  /// Scratch of the layers' steps.
  heed::Workspace& workspace() { return workspace_; }
  std::vector<std::int64_t> kept() const;  ///< Tokens held, of each layer.

 private:
  void begin_block();
  std::size_t notes_bytes() const;

  std::optional<std::int64_t> block_;
  std::vector<bool> clears_;  ///< layers that begin anew with each block
  heed::KvPool<float> pool_;
  heed::Workspace workspace_;
  heed::Vector<heed::KvBuffer<float>> layers_;
  std::int64_t position_ = 0;
};

}  // namespace lm
