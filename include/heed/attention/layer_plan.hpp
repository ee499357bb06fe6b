// SPDX-License-Identifier: MIT
/// @file
/// MASFormer's mixed spans: full attention in a few layers, a limited span in the others (Zhang et
/// al.: Efficient Long-Range Transformers, arXiv:2310.12442).
#pragma once

#include "heed/score/block_span.hpp"
#include "heed/score/when.hpp"
#include "heed/score/window.hpp"

#include <vector>

namespace heed::inline HEED_ABI {

/// Pairs (query, key) of one head that are visible under a causal mask: n (n + 1) / 2.
constexpr double causal_pairs(Index tokens) {
  return double(tokens) * double(tokens + 1) / 2;
}

/// Visible pairs of a block span under a causal mask. Without previous blocks they are q b
/// (b + 1) / 2 + r (r + 1) / 2 with n = q b + r. With p previous blocks, each row after the first p
/// blocks sees p b more keys.
constexpr double visible_pairs(const BlockSpan& span, Index tokens) {
  const Index reach = std::min(span.previous, tokens / span.size + 1) * span.size;
  const Index first = std::min(tokens, reach), rest = tokens - first;
  const Index blocks = rest / span.size, tail = rest % span.size;
  return causal_pairs(first) + double(rest) * double(reach) +
         double(blocks) * causal_pairs(span.size) + causal_pairs(tail);
}

/// Visible pairs of a window under a causal mask: Σ_i min(i + 1, left + 1).
constexpr double visible_pairs(const Window& window, Index tokens) {
  const Index ramp = std::min(tokens, std::min(window.left, unbounded) + 1);
  return causal_pairs(ramp) + double(tokens - ramp) * double(ramp);
}

/// The layers of a model that attend to all keys ("full" layers). Which ones these are is for the
/// user to choose.
class LayerPlan {
 public:
  /// @param full  indices of the full layers, in any order.
  /// @throws ValueError if `layers` is below 1 or above 2^20, or if a layer in `full` does not
  /// exist.
  LayerPlan(Index layers, const std::vector<Index>& full)
      : full_(std::size_t(count(layers)), false) {
    for (Index l : full) {
      if (l < 0 || l >= layers) throw ValueError("layer ", l, " is to be full, there are ", layers);
      full_[std::size_t(l)] = true;
    }
  }
  /// The first `full` layers are full.
  /// @throws ValueError unless 1 ≤ layers ≤ 2^20 and 0 ≤ full ≤ layers.
  static LayerPlan bottom(Index layers, Index full) {
    return chosen(layers, full, [](Index i, Index, Index) { return i; });
  }
  /// The last `full` layers are full; throws as bottom().
  static LayerPlan top(Index layers, Index full) {
    return chosen(layers, full, [](Index i, Index n, Index) { return n - 1 - i; });
  }
  /// `full` layers are full, evenly spread, among them the last one; throws as bottom().
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

  /// The stage of a layer: `span`, or nothing if the layer is full.
  /// @throws ValueError if there is no such layer.
  ///
  ///     forward(q, k, v, standard | causal | plan.stage(layer, block_span(512)), out);
  template <Stage Span>
  When<Span> stage(Index layer, const Span& span) const {
    return when(!is_full(layer), span);
  }

  /// Visible pairs of all layers, divided by those of as many full layers. Exact; to leading order
  /// ℓ/L + (1 − ℓ/L) b/n for ℓ full layers of L and blocks of b, equation (12).
  /// @throws ValueError if `tokens` is below 1 or above 2^61, or if the span is out of its domain.
  template <class Span>
  double cost_ratio(const Span& span, Index tokens) const {
    if (tokens < 1 || tokens > detail::max_position)
      throw ValueError("cost_ratio of ", tokens, " tokens");
    span.check({});
    const double full = double(full_layers()), all = double(layers());
    return (full + (all - full) * visible_pairs(span, tokens) / causal_pairs(tokens)) / all;
  }

 private:
  static Index count(Index layers) {
    if (layers < 1 || layers > detail::max_layers)
      throw ValueError("a plan of ", layers, " layers: must be 1 … ", detail::max_layers);
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
