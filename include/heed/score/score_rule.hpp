// SPDX-License-Identifier: MIT
/// @file
/// A score modification written by the user.
#pragma once

#include "heed/score/stage.hpp"

namespace heed::inline HEED_ABI {

/// s ← rule(s, at), where s is a register of natural scores and `at` the Lanes it belongs to:
///
///     standard | score_rule([](auto s, const auto& at) { return s + at.distance() * 0.1f; }) |
///     causal
///
/// The rule may use any arithmetic of xsimd batches. Its result must be finite; to mask keys, use a
/// mask, which also skips the work. Nothing is written to memory. backward() also needs the
/// adjoint, adjoint(grad, s, at), which returns ∂L/∂s given grad = ∂L/∂rule(s):
///
///     score_rule(rule, [](auto grad, auto s, const auto& at) { return grad; })
template <class Rule, class Adjoint = void*>
struct ScoreRule : StageOf<Rank::bias> {
  static constexpr Reads reads = Reads::distance;
  static constexpr bool never_masks = true;

  Rule rule;
  Adjoint adjoint{};

  template <class T>
  HEED_INLINE Batch<T> score(const Batch<T>& s, const Lanes<T>& at) const {
    return Batch<T>(rule(s * Batch<T>(simd::ln2<T>), at)) * Batch<T>(simd::log2e<T>);
  }

  bool shares_gradients() const { return false; }
  template <class T>
  HEED_INLINE Batch<T> grad_score(const Batch<T>& grad, const Batch<T>& s, const Lanes<T>& at) {
    static_assert(
        !std::is_same_v<Adjoint, void*>,
        "heed: backward through a score_rule needs its adjoint: score_rule(rule, adjoint)");
    return Batch<T>(adjoint(grad, s * Batch<T>(simd::ln2<T>), at));
  }
};
/// Changes each score: s ← rule(s, at), natural scores, a register at a time. Forward only; see
/// ScoreRule.
template <class Rule>
ScoreRule<Rule> score_rule(Rule rule) {
  return {{}, std::move(rule)};
}
/// The same, with adjoint(grad, s, at) = ∂L/∂s for backward().
template <class Rule, class Adjoint>
ScoreRule<Rule, Adjoint> score_rule(Rule rule, Adjoint adjoint) {
  return {{}, std::move(rule), std::move(adjoint)};
}

}  // namespace heed::inline HEED_ABI
