// SPDX-License-Identifier: MIT
/// @file
/// What is computed, and how much work that is.
#pragma once

#include "heed/attention/layer_plan.hpp"

#include <array>
#include <string>

namespace compare {

using heed::Index;

enum class Kind {
  causal,              ///< forward
  selective,           ///< forward, arXiv:2410.02703
  causal_training,     ///< forward and backward
  selective_training,  ///< the same
  decode,              ///< one query a head over all keys
  forgetting,          ///< the same over the K keys that selection kept, and the next eviction
};

inline constexpr std::array<const char*, 6> kind_names{
    "causal", "selective", "causal-training", "selective-training", "decode", "forgetting"};

inline const char* name(Kind kind) {
  return kind_names[std::size_t(kind)];
}

/// One sequence, float.
struct Case {
  Kind kind = Kind::causal;
  Index tokens = 0;  ///< of the text; decode: keys there are
  Index dim = 64, heads = 8, key_heads = 8;
  Index budget = 0;  ///< forgetting: K

  bool trains() const { return kind == Kind::causal_training || kind == Kind::selective_training; }
  bool selects() const { return kind == Kind::selective || kind == Kind::selective_training; }
  /// One token at a time: bounded by what memory gives.
  bool decodes() const { return kind == Kind::decode || kind == Kind::forgetting; }

  /// Keys and values a decoded token reads.
  Index keys() const { return kind == Kind::forgetting ? budget : tokens; }
  /// Visible (query, key, head). A contender that skips some of them is faster for it.
  double pairs() const {
    return double(heads) * (decodes() ? double(keys()) : heed::causal_pairs(tokens));
  }
  /// Two products forward, five backward.
  double flop() const { return (trains() ? 14 : 4) * double(dim) * pairs(); }
  /// Of the keys and values, each once.
  double bytes() const { return 2 * double(key_heads * keys() * dim) * sizeof(float); }

  std::string label() const {
    std::string text = name(kind);
    text += ", N = " + std::to_string(tokens) + ", D = " + std::to_string(dim);
    if (kind == Kind::forgetting) text += ", K = " + std::to_string(budget);
    text += ", " + std::to_string(heads) + " heads";
    if (key_heads != heads) text += " on " + std::to_string(key_heads);
    return text;
  }
};

}  // namespace compare
