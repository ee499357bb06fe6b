// SPDX-License-Identifier: MIT
/// @file
/// float and double, stored in the type of the arithmetic.
#pragma once

#include "heed/simd/codec/codec.hpp"

#include <type_traits>

namespace heed::inline HEED_ABI::simd {

template <class S>
requires std::is_same_v<S, float> || std::is_same_v<S, double>
struct Codec<S> {
  template <class T>
  static constexpr bool stores = std::is_same_v<S, T>;
  static constexpr Index numbers = 1, group = no_scale;
  template <class T>
  static constexpr bool in_registers = std::is_same_v<S, T>;

  template <class T>
  static T number(S x, Index /*i*/) {
    return x;
  }
  template <class T>
  HEED_INLINE static Batch<T> load(const S* x, Index i) {
    return simd::load(x + i);
  }
  static void encode(const S* x, Index count, S* out, Index stride, S* /*scale*/,
                     Index /*scale_stride*/) {
    for (Index i = 0; i < count; ++i) out[i * stride] = x[i];
  }
  static bool finite(const S* x, Index count, const S* /*scale*/) {
    return all_finite(x, 0, 1, count);
  }
};

}  // namespace heed::inline HEED_ABI::simd
