// SPDX-License-Identifier: MIT
/// @file
/// What a model remembers of the text it reads: a KvBuffer a layer.
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
  heed::Evict evict = heed::Evict::most_masked;
  std::int64_t sinks = 1;  ///< First tokens that the rule oldest keeps.
};

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

  /// Forgets everything: the next token is the first.
  void clear();

  heed::KvBuffer<float>& operator[](std::int64_t layer) { return layers_[std::size_t(layer)]; }
  std::int64_t position() const { return position_; }  ///< of the next token

  /// How many of `tokens` tokens may be taken at once: a block ends where the next begins.
  std::int64_t next_piece(std::int64_t tokens) const;
  /// The buffers have taken so many tokens.
  void advance(std::int64_t tokens);

  std::size_t bytes() const;  ///< Held by the buffers, everything counted.
  /// Bytes of the keys and values of the tokens held, as floats.
  std::size_t key_value_bytes() const;
  std::vector<std::int64_t> kept() const;  ///< Tokens held, of each layer.

 private:
  void begin_block();

  std::optional<std::int64_t> block_;
  std::vector<bool> clears_;  ///< layers that begin anew with each block
  heed::Vector<heed::KvBuffer<float>> layers_;
  std::int64_t position_ = 0;
};

/// "most_masked", "heavy_hitters", "oldest": the library's names, used in programs and tables.
std::string name_of(heed::Evict evict);

}  // namespace lm
