// SPDX-License-Identifier: MIT
/// @file
/// Selective self-attention's temperatures (Zhang et al., arXiv:2411.12892):
///
///     τ[b,h,i] = tanh(f[b,h,i]) + 1 + g(α) log n,   n = offset + i + 1
#pragma once

#include "reference/array.hpp"

#include <cmath>

namespace reference {

enum class Gain { none, sigmoid, gompertz, linear };

inline double gain(Gain kind, double alpha) {
  switch (kind) {
    case Gain::sigmoid:
      return 1 / (1 + std::exp(-alpha));
    case Gain::gompertz:
      return std::exp(-std::exp(alpha));
    case Gain::linear:
      return alpha;
    case Gain::none:
      break;
  }
  return 0;
}

inline double position_temperature(Gain kind, double alpha, Index position) {
  return 1 + gain(kind, alpha) * std::log(double(position + 1));
}

/// From features f [B, heads, N].
inline Array temperatures(const Array& f, Gain kind, double alpha, Index offset = 0) {
  Array tau(f.dims);
  for (Index b = 0; b < f.dim(0); ++b)
    for (Index h = 0; h < f.dim(1); ++h)
      for (Index i = 0; i < f.dim(2); ++i)
        tau(b, h, i) = std::tanh(f(b, h, i)) + position_temperature(kind, alpha, offset + i);
  return tau;
}

/// By position alone: [1, 1, N], the same for every head.
inline Array position_temperatures(Index tokens, Gain kind, double alpha, Index offset = 0) {
  Array tau({1, 1, tokens});
  for (Index i = 0; i < tokens; ++i) tau(0, 0, i) = position_temperature(kind, alpha, offset + i);
  return tau;
}

/// The shared form of the feature: f[b,h,i] = w[h] · x[b,h,i].
inline Array token_feature(const Array& x, const Array& w) {
  Array f({x.dim(0), x.dim(1), x.dim(2)});
  for (Index b = 0; b < x.dim(0); ++b)
    for (Index h = 0; h < x.dim(1); ++h)
      for (Index i = 0; i < x.dim(2); ++i) f(b, h, i) = dot(w.row(h), x.row(b, h, i), x.dim(3));
  return f;
}

}  // namespace reference
