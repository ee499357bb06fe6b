// SPDX-License-Identifier: MIT
/// @file Rotary position embedding.
#pragma once

#include "heed/core/vector.hpp"
#include "heed/core/views.hpp"

#include <cmath>
#include <cstdint>

namespace heed::inline HEED_ABI {

/// How a head's numbers are paired, and how fast the pairs turn.
struct RotaryOptions {
  enum Pairs {
    interleaved,  ///< (0, 1), (2, 3), …: the paper's, GPT-J's
    half_split,   ///< (0, d/2), (1, d/2 + 1), …: GPT-NeoX's, Llama's in Transformers
  };
  Pairs pairs = half_split;
  double base = 10000;
  Index dims = 0;        ///< Only the first so many of a head's numbers turn; 0: all.
  Index offset = 0;      ///< Position of token 0.
  double scale = 1;      ///< Positions are multiplied by it: 1 / 4 stretches the context fourfold.
  bool inverse = false;  ///< Turn back: also the adjoint.
  View<const std::int64_t, 2> positions{};  ///< [B, N] in place of offset + n.
};

/// Turns each pair of numbers of x by an angle that grows with the token's position p, in place:
///
///     (a, b) ← (a cos θ − b sin θ, a sin θ + b cos θ),   θ = scale · p · base^(−2 i / d), pair i
///     of d / 2
///
/// so that q_i · k_j depends on i − j alone. For q and k alike, before attention. arXiv:2104.09864
///
/// @param x  [B, H, N, D].
/// @throws ShapeError if positions are not [B, N]; ValueError if dims is odd or beyond D.
/// @note Angles are computed in double, once a token for all heads.
template <TensorLike<4> X>
void rotary(X&& x_, const RotaryOptions& options = {}) {
  using T = ScalarOf<X>;
  const View<T, 4> x(x_);
  const Index dims = options.dims == 0 ? x.dim(3) : options.dims, half = dims / 2;
  if (dims < 0 || dims > x.dim(3) || dims % 2 != 0)
    throw ValueError("rotary: ", dims, " of ", x.dim(3),
                     " numbers are to turn; they must be even in number, and there");
  if (options.positions)
    expect_dims("positions", options.positions.dims(), {x.dim(0), x.dim(2)}, "one per token of x");
  const bool split = options.pairs == RotaryOptions::half_split;
  Vector<T> cosine(std::size_t(half), T(0)), sine(std::size_t(half), T(0));
  for (Index b = 0; b < x.dim(0); ++b)
    for (Index n = 0; n < x.dim(2); ++n) {
      const double position =
          options.scale *
          double(options.positions ? Index(options.positions(b, n)) : options.offset + n);
      for (Index i = 0; i < half; ++i) {
        const double angle = position * std::pow(options.base, -2.0 * double(i) / double(dims));
        cosine[std::size_t(i)] = T(std::cos(angle));
        sine[std::size_t(i)] = T(options.inverse ? -std::sin(angle) : std::sin(angle));
      }
      for (Index h = 0; h < x.dim(1); ++h)
        for (Index i = 0; i < half; ++i) {
          T& first = x(b, h, n, split ? i : 2 * i);
          T& second = x(b, h, n, split ? i + half : 2 * i + 1);
          const T a = first, c = cosine[std::size_t(i)], s = sine[std::size_t(i)];
          first = a * c - second * s;
          second = a * s + second * c;
        }
    }
}

}  // namespace heed::inline HEED_ABI
