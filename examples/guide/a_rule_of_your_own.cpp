// SPDX-License-Identifier: MIT
// An eviction rule of one's own: what it is made of, and what it keeps.
#include "guide/tokens.hpp"
#include "heed/heed.hpp"
#include "programs/output.hpp"

#include <iostream>

namespace {

/// Evicts the most masked token, but landmarks only where there is nothing else.
struct MaskedButLandmarks {
  static constexpr const char* name = "masked_but_landmarks";
  static constexpr heed::Evidence evidence = heed::Evidence::votes;

  heed::Index every = 16;  ///< The first of so many tokens is a landmark.

  /// The newest tokens, which always stay.
  heed::Index recent(std::optional<heed::Index>, heed::Index) const { return 4; }
  /// The token with the largest claim goes.
  template <class T>
  T claim(const heed::HeldToken<T>& token) const {
    return token.position % every == 0 ? token.f - T(1e6) : token.f;
  }
};

/// Landmarks among the tokens that are held after a text.
heed::Index landmarks(const heed::EvictionRule& rule, guide::Tokens& text) {
  heed::KvCache<float> layer({.heads = 8, .key_heads = 2, .dim = 64, .value_dim = 64},
                             {.budget = 64, .evict = rule});
  auto s = layer.open();
  layer.step({&s}, text.q, text.k, text.v, heed::standard, text.out);
  heed::Index count = 0;
  for (const auto& token : s.held()) count += token.position % 16 == 0;
  return count;
}

}  // namespace

int main() {
  guide::Tokens text(1, 300);
  const heed::Index masked = landmarks(heed::most_masked, text),
                    mine = landmarks(MaskedButLandmarks(), text);
  std::cout << "of 300 tokens 19 are landmarks, 64 are held, and among these\n"
            << "by most_masked           " << masked << " landmarks\n"
            << "by masked_but_landmarks  " << mine << " landmarks\n";
  return programs::ended("a_rule_of_your_own", mine == 19 && masked < 19 ? 0 : 1);
}
