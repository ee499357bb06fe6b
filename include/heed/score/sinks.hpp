// SPDX-License-Identifier: MIT
/// @file
/// Attention sinks.
#pragma once

#include "heed/score/stage.hpp"

namespace heed::inline HEED_ABI {

/// A learned logit per head is added to the softmax denominator. It has no value, so that a row can
/// attend to nothing:
///
///     w(i, j) = exp s(i, j) / (exp sink_h + Σ_j exp s(i, j))
///
/// The lse includes the sink. A row that sees no key is zero, with lse = sink_h. A logit below
/// −1e37, such as −∞, means no sink. +∞ is an error: no key would get weight beside it.
/// @throws ShapeError if there is not one logit per head.
/// @throws ValueError if a logit is NaN or above 1e37.
template <class T>
struct Sinks : StageOf<Rank::mask> {
  View<const T, 1> logits;
  View<T, 1> gradient{};

  /// Where backward() writes ∂L/∂sink_h, [H]; overwritten.
  Sinks grad(std::type_identity_t<View<T, 1>> to) const { return {{}, logits, to}; }

  template <class U>
  Sinks bind(const Problem&, Arena&) const {
    static_assert(std::is_same_v<T, U>, "heed: sinks must have the number type of out");
    return *this;
  }
  void check(const Problem& p) const {
    expect_dims("sinks", logits.dims(), {p.heads}, "one logit per head");
    detail::reads(p.tensors, "sinks", logits);
    for (Index h = 0; h < p.heads; ++h)
      if (detail::is_nan(logits(h)) || logits(h) > T(1e37))
        throw ValueError("sinks[", h, "] is ", logits(h), ", must be a number of at most 1e37");
    if (!gradient) return;
    expect_dims("sinks' gradient", gradient.dims(), {p.heads}, "one logit per head");
    if (p.backward) detail::writes(p.tensors, "sinks' gradient", gradient);
  }
  T sink(T, Index, Index head) const { return logits(head) < T(-1e37) ? masked<T> : logits(head); }
  void clear_gradients() {
    if (gradient)
      for (Index h = 0; h < gradient.dim(0); ++h) gradient(h) = T(0);
  }
  void grad_sink(T grad, Index, Index head) {
    if (gradient) gradient(head) += grad;
  }
};

/// Adds exp logits[h] to the softmax denominators of head h; `logits` is [H]. ShapeError for other
/// shapes, ValueError for NaN or above 1e37.
template <TensorLike<1> X>
auto sinks(X&& logits) {
  using T = ScalarOf<X>;
  return Sinks<T>{{}, View<const T, 1>(std::forward<X>(logits)), {}};
}

}  // namespace heed::inline HEED_ABI
