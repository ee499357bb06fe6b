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
/// Any arithmetic of xsimd batches will do, as long as the result is finite: to mask a key is for a
/// mask, which also saves the work. Nothing is written to memory. To train, name the adjoint too,
/// adjoint(grad, s, at) = ∂L/∂s from ∂L/∂rule(s):
///
///     score_rule(rule, [](auto grad, auto s, const auto& at) { return grad; })
template <class Rule, class Adjoint = void*>
struct ScoreRule : StageOf<Rank::bias> {
  static constexpr Reads reads = Reads::distance;

  Rule rule;
  Adjoint adjoint{};

  template <class T>
  HEED_INLINE Batch<T> score(const Batch<T>& s, const Lanes<T>& at) const {
    const Batch<T> ruled =
        Batch<T>(rule(s * Batch<T>(simd::ln2<T>), at)) * Batch<T>(simd::log2e<T>);
    return simd::select(s < Batch<T>(masked_below<T>), s, ruled);  // a bias of −∞ stays masked
  }

  bool shares_gradients() const { return false; }
  template <class T>
  HEED_INLINE Batch<T> grad_score(const Batch<T>& grad, const Batch<T>& s, const Lanes<T>& at) {
    static_assert(
        !std::is_same_v<Adjoint, void*>,
        "heed: backward through a score_rule needs its adjoint: score_rule(rule, adjoint)");
    const Batch<T> zero(T(0));  // of a masked key, whose score may be NaN
    return simd::select(grad == zero, zero,
                        Batch<T>(adjoint(grad, s * Batch<T>(simd::ln2<T>), at)));
  }
};
template <class Rule>
ScoreRule<Rule> score_rule(Rule rule) {
  return {{}, std::move(rule)};
}
template <class Rule, class Adjoint>
ScoreRule<Rule, Adjoint> score_rule(Rule rule, Adjoint adjoint) {
  return {{}, std::move(rule), std::move(adjoint)};
}

}  // namespace heed::inline HEED_ABI
