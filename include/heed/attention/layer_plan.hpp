// SPDX-License-Identifier: MIT
/// @file MASFormer's mixed spans: full attention in a few layers, a span in the rest
/// (Zhang et al.: Efficient Long-Range Transformers, arXiv:2310.12442).
#pragma once

#include "heed/score/block_span.hpp"
#include "heed/score/when.hpp"
#include "heed/score/window.hpp"

#include <vector>

namespace heed::inline HEED_ABI {

/// Pairs (query, key) of one head that a causal mask shows.
constexpr double causal_pairs(Index tokens) {
  return double(tokens) * double(tokens + 1) / 2;
}

/// Under a causal mask, the pairs a span shows: q b (b + 1) / 2 + r (r + 1) / 2 with n = q b + r
/// for blocks alone, and p b keys more for each row behind the first p blocks.
constexpr double visible_pairs(const BlockSpan& span, Index tokens) {
  const Index reach = std::min(span.previous, tokens / span.size + 1) * span.size;
  const Index first = std::min(tokens, reach), rest = tokens - first;
  const Index blocks = rest / span.size, tail = rest % span.size;
  return causal_pairs(first) + double(rest) * double(reach) +
         double(blocks) * causal_pairs(span.size) + causal_pairs(tail);
}

/// Σ_i min(i + 1, left + 1).
constexpr double visible_pairs(const Window& window, Index tokens) {
  const Index ramp = std::min(tokens, std::min(window.left, unbounded) + 1);
  return causal_pairs(ramp) + double(tokens - ramp) * double(ramp);
}

/// Which layers of a model see everything. Which ones should is left to the user.
class LayerPlan {
 public:
  /// The layers named are full.
  /// @throws ValueError if one does not exist.
  LayerPlan(Index layers, const std::vector<Index>& full)
      : full_(std::size_t(count(layers)), false) {
    for (Index l : full) {
      if (l < 0 || l >= layers) throw ValueError("layer ", l, " is to be full, there are ", layers);
      full_[std::size_t(l)] = true;
    }
  }
  /// The first, the last, or evenly spread `full` of them, the last among these.
  static LayerPlan bottom(Index layers, Index full) {
    return chosen(layers, full, [](Index i, Index, Index) { return i; });
  }
  static LayerPlan top(Index layers, Index full) {
    return chosen(layers, full, [](Index i, Index n, Index) { return n - 1 - i; });
  }
  static LayerPlan spread(Index layers, Index full) {
    return chosen(layers, full, [](Index i, Index n, Index k) { return (i + 1) * n / k - 1; });
  }

  Index layers() const { return Index(full_.size()); }
  /// @throws ValueError if there is no such layer.
  bool is_full(Index layer) const {
    if (layer < 0 || layer >= layers())
      throw ValueError("layer ", layer, " is asked for, there are ", layers());
    return full_[std::size_t(layer)];
  }
  Index full_layers() const { return Index(std::count(full_.begin(), full_.end(), true)); }

  /// The stage of a layer: nothing if it is full, else the span.
  /// @throws ValueError if there is no such layer.
  ///
  ///     forward(q, k, v, standard | causal | plan.stage(layer, block_span(512)), out);
  template <Stage Span>
  When<Span> stage(Index layer, const Span& span) const {
    return when(!is_full(layer), span);
  }

  /// Visible pairs of all layers over those of full attention, exactly; to leading order
  /// ℓ/L + (1 − ℓ/L) b/n for ℓ full layers of L and blocks of b (12).
  template <class Span>
  double cost_ratio(const Span& span, Index tokens) const {
    if (tokens < 1 || tokens > detail::farthest_position)
      throw ValueError("cost_ratio of ", tokens, " tokens");
    span.check({});
    const double full = double(full_layers()), all = double(layers());
    return (full + (all - full) * visible_pairs(span, tokens) / causal_pairs(tokens)) / all;
  }

 private:
  static Index count(Index layers) {
    if (layers < 1 || layers > detail::most_layers)
      throw ValueError("a plan of ", layers, " layers: must be 1 … ", detail::most_layers);
    return layers;
  }
  template <class Pick>
  static LayerPlan chosen(Index layers, Index full, Pick&& pick) {
    if (full < 0 || full > count(layers))
      throw ValueError(full, " layers are to be full, there are ", layers);
    std::vector<Index> named;
    for (Index i = 0; i < full; ++i) named.push_back(pick(i, layers, full));
    return {layers, named};
  }

  std::vector<bool> full_;
};

}  // namespace heed::inline HEED_ABI
