// SPDX-License-Identifier: MIT
/// @file
/// Scaled dot product.
#pragma once

#include "heed/score/stage.hpp"

namespace heed::inline HEED_ABI {

namespace detail {

/// A factor of the scores, folded into q when q is packed.
struct ScaleOfScores : StageOf<Rank::scale> {
  double factor = 1;

  template <class T>
  T query_factor(T x, const Row&) const {
    return x * T(factor);
  }
};

}  // namespace detail

/// s = factor · q·k.                                                           arXiv:1706.03762
/// @throws ValueError unless the factor is in [−1e30, 1e30].
struct Scaled : StageOf<Rank::scale> {
  double factor = 1;

  void check(const Problem&) const { detail::expect_within("scaled", factor, -1e30, 1e30); }
  template <class T>
  detail::ScaleOfScores bind(const Problem&, Arena&) const {
    return {{}, factor};
  }
};

/// Scores q·k times `factor`, in place of 1/√D. ValueError unless it is in [−1e30, 1e30].
constexpr Scaled scaled(double factor) {
  return {{}, factor};
}

/// s = q·k / √D, D the head dimension.                                         arXiv:1706.03762
struct Standard : StageOf<Rank::scale> {
  template <class T>
  detail::ScaleOfScores bind(const Problem& p, Arena&) const {
    return {{}, 1 / std::sqrt(double(p.dim))};
  }
};
/// Scaled dot product: scores q·k / √D.
inline constexpr Standard standard;

}  // namespace heed::inline HEED_ABI
