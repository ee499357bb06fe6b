// SPDX-License-Identifier: MIT
/// @file
/// Rotary position embedding (Su et al., arXiv:2104.09864): pair p of the first `rotated`
/// coordinates turns by position · base^(−2p / rotated).
#pragma once

#include "reference/array.hpp"

#include <cmath>

namespace reference {

struct Rotary {
  double base = 10000;
  Index rotated = 0;         // how many coordinates turn; 0: all
  bool interleaved = false;  // pairs (2p, 2p + 1); else (p, p + rotated / 2)
};

/// x [B, H, N, D]; token i of batch entry b sits at positions(b, i), a number of any kind.
inline Array rotary(Array x, const Array& positions, const Rotary& options = {}) {
  const Index rotated = options.rotated ? options.rotated : x.dim(3), half = rotated / 2;
  for (Index b = 0; b < x.dim(0); ++b)
    for (Index h = 0; h < x.dim(1); ++h)
      for (Index i = 0; i < x.dim(2); ++i)
        for (Index p = 0; p < half; ++p) {
          const double angle =
              positions(b, i) * std::pow(options.base, -2 * double(p) / double(rotated));
          double& first = x(b, h, i, options.interleaved ? 2 * p : p);
          double& second = x(b, h, i, options.interleaved ? 2 * p + 1 : p + half);
          const double a = first, c = second;
          first = a * std::cos(angle) - c * std::sin(angle);
          second = a * std::sin(angle) + c * std::cos(angle);
        }
  return x;
}

}  // namespace reference
