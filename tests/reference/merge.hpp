// SPDX-License-Identifier: MIT
/// @file
/// Attention over two disjoint sets of keys, joined:
///
///     lse = log(exp(lse_a) + exp(lse_b)),   out = exp(lse_a − lse) out_a + exp(lse_b − lse) out_b
#pragma once

#include "reference/array.hpp"
#include "reference/attention.hpp"

#include <algorithm>
#include <cmath>

namespace reference {

inline Attention merge(const Array& out_a, const Array& lse_a, const Array& out_b,
                       const Array& lse_b) {
  Attention m{Array(out_a.dims), Array(lse_a.dims), Array()};
  for (Index b = 0; b < lse_a.dim(0); ++b)
    for (Index h = 0; h < lse_a.dim(1); ++h)
      for (Index i = 0; i < lse_a.dim(2); ++i) {
        const double la = lse_a(b, h, i), lb = lse_b(b, h, i), top = std::max(la, lb);
        m.lse(b, h, i) = -infinity;
        if (top == -infinity) continue;
        const double wa = std::exp(la - top), wb = std::exp(lb - top);
        m.lse(b, h, i) = top + std::log(wa + wb);
        for (Index d = 0; d < out_a.dim(3); ++d)
          m.out(b, h, i, d) = (wa * out_a(b, h, i, d) + wb * out_b(b, h, i, d)) / (wa + wb);
      }
  return m;
}

}  // namespace reference
