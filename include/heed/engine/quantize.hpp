// SPDX-License-Identifier: MIT
/// @file Keys and values to eight bits or fewer.
#pragma once

#include "heed/core/check.hpp"
#include "heed/engine/pack/stored_tensor.hpp"

namespace heed::inline HEED_ABI {

/// What KvBuffer<T, S> does to a token, for keys and values that a caller stores: forward() takes
/// them as Quantized{numbers, scale}. How is said beside S: of std::int8_t
///
///     numbers[b, g, j, d] = round(x[b, g, j, d] / scale[b, g, j]),   scale = max_d |x| / 127
///
/// so that a token is off by at most half its scale, and one that is not finite gets a scale of
/// NaN.
///
/// @param x        [B, G, N, D], T.
/// @param numbers  [B, G, N, D], S, overwritten; where an S holds several numbers, as many as hold
///                 D.
/// @param scale    [B, G, N], T, overwritten; where groups of a token's numbers have their own,
///                 [B, G, N, ⌈D / group⌉].
/// @throws ShapeError if they differ, if rows are not contiguous, or if what is written overlaps.
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
