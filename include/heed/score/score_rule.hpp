// SPDX-License-Identifier: MIT
/// @file A caller's own rule.
#pragma once

#include "heed/score/stage.hpp"

namespace heed::inline HEED_ABI {

/// s ← rule(s, at), s a register of natural scores, `at` the Lanes it belongs to:
///
///     standard | score_rule([](auto s, const auto& at) { return s + at.distance() * 0.1f; }) |
///     causal
///
/// Any arithmetic of xsimd batches will do. Nothing is written to memory.
template <class Rule>
struct ScoreRule : StageOf<Rank::bias> {
  Rule rule;

  template <class T>
  HEED_INLINE Batch<T> score(const Batch<T>& s, const Lanes<T>& at) const {
    return Batch<T>(rule(s * Batch<T>(simd::ln2<T>), at)) * Batch<T>(simd::log2e<T>);
  }
};
template <class Rule>
ScoreRule<Rule> score_rule(Rule rule) {
  return {{}, std::move(rule)};
}

}  // namespace heed::inline HEED_ABI
