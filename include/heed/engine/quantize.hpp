// SPDX-License-Identifier: MIT
/// @file Keys and values to 8 bits.
#pragma once

#include "heed/engine/tokens.hpp"

namespace heed::inline HEED_ABI {

/// numbers[b, g, j, d] = round(x[b, g, j, d] / scale[b, g, j]),   scale = max_d |x| / 127
///
/// What KvBuffer<T, std::int8_t> does to a token, for keys and values that a caller stores:
/// forward() takes them as Quantized{numbers, scale}. A token is off by at most half its scale. One
/// that is not finite gets a scale of NaN.
///
/// @param x        [B, G, N, D], T.
/// @param numbers  [B, G, N, D], std::int8_t, overwritten.
/// @param scale    [B, G, N], T, overwritten.
/// @throws ShapeError if they differ, or if rows are not contiguous; if what is written overlaps.
template <class X, class Numbers, class Scale>
requires TensorLike<X, 4> && TensorLike<Numbers, 4> && TensorLike<Scale, 3>
void quantize(const X& x, Numbers&& numbers, Scale&& scale) {
  using T = ScalarOf<Scale>;
  static_assert(std::is_same_v<T, ScalarOf<X>> && std::is_same_v<ScalarOf<Numbers>, std::int8_t>,
                "heed: x and scale must have one number type, numbers std::int8_t");
  const View<const T, 4> from(x);
  const View<std::int8_t, 4> to(numbers);
  const View<T, 3> scales(scale);
  expect_dims("numbers", to.dims(), from.dims(), "the dimensions of x");
  expect_dims("scale", scales.dims(), {from.dim(0), from.dim(1), from.dim(2)}, "one per token");
  detail::expect_contiguous_rows("x", from);
  detail::expect_contiguous_rows("numbers", to);
  detail::CallTensors tensors;
  tensors.reads("x", from), tensors.writes("numbers", to), tensors.writes("scale", scales);
  for (Index b = 0; b < from.dim(0); ++b)
    for (Index g = 0; g < from.dim(1); ++g)
      for (Index j = 0; j < from.dim(2); ++j)
        scales(b, g, j) = simd::quantize(from.row(b, g, j), from.dim(3), to.row(b, g, j));
}

}  // namespace heed::inline HEED_ABI
