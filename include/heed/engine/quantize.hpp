// SPDX-License-Identifier: MIT
/// @file
/// Quantizes keys and values to eight bits or fewer.
#pragma once

#include "heed/core/check.hpp"
#include "heed/engine/pack/stored_tensor.hpp"

namespace heed::inline HEED_ABI {

/// Quantizes keys or values that the caller stores, as KvBuffer<T, S> quantizes its tokens.
/// forward() takes the result as Quantized{numbers, scale}. The codec of S defines the rounding;
/// std::int8_t gives
///
///     numbers[b, g, j, d] = round(x[b, g, j, d] / scale[b, g, j]),   scale = max_d |x| / 127
///
/// The error of a number is at most half its scale. A token that is not finite gets a scale of NaN.
///
/// @param x        [B, G, N, D], T.
/// @param numbers  [B, G, N, D], S, overwritten. If an S holds several numbers, the last dimension
///                 is the count of S that hold D numbers.
/// @param scale    [B, G, N], T, overwritten; [B, G, N, ⌈D / group⌉] if S scales a token in groups.
/// @throws ShapeError if dimensions differ, rows are not contiguous, or a result overlaps a tensor.
template <class X, class Numbers, class Scale>
requires TensorLike<X, 4> && TensorLike<Numbers, 4> &&
    TensorLike<Scale, detail::scale_rank<ScalarOf<Numbers>>>
void quantize(const X& x, Numbers&& numbers, Scale&& scale) {
  using T = ScalarOf<Scale>;
  using S = ScalarOf<Numbers>;
  static_assert(std::is_same_v<T, ScalarOf<X>> && StoredFor<Quantized<T, S>, T>,
                "heed: x and scale must have one number type, numbers one that has scales, such as "
                "std::int8_t");
  const View<const T, 4> from(x);
  const View<S, 4> to(numbers);
  const View<T, detail::scale_rank<S>> scales(scale);
  const auto [batch, heads, tokens, dim] = from.dims();
  expect_dims("numbers", to.dims(), {batch, heads, tokens, simd::units<S>(dim)},
              simd::Codec<S>::numbers == 1 ? "the dimensions of x" : "those of x, a row in units");
  if constexpr (simd::has_groups<S>) {
    expect_dims("scale", scales.dims(), {batch, heads, tokens, simd::scales<S>(dim)},
                "one per group of a token's numbers");
    detail::expect_contiguous_rows("scale", scales);
  } else {
    expect_dims("scale", scales.dims(), {batch, heads, tokens}, "one per token");
  }
  detail::expect_contiguous_rows("x", from);
  detail::expect_contiguous_rows("numbers", to);
  detail::CallTensors tensors;
  tensors.reads("x", from), tensors.writes("numbers", to), tensors.writes("scale", scales);
  for (Index b = 0; b < batch; ++b)
    for (Index g = 0; g < heads; ++g)
      for (Index j = 0; j < tokens; ++j) {
        T* to_scale;
        if constexpr (simd::has_groups<S>)
          to_scale = scales.row(b, g, j);
        else
          to_scale = &scales(b, g, j);
        simd::Codec<S>::encode(from.row(b, g, j), dim, to.row(b, g, j), 1, to_scale, 1);
      }
}

}  // namespace heed::inline HEED_ABI
