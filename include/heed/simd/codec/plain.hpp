// SPDX-License-Identifier: MIT
/// @file
/// float and double, stored in the type of the arithmetic.
#pragma once

#include "heed/simd/codec/codec.hpp"

#include <type_traits>

namespace heed::inline HEED_ABI::simd {

template <class S>
requires std::is_same_v<S, float> || std::is_same_v<S, double>
struct Codec<S> : detail::CastingCodec<S> {
  static constexpr const char* name = std::is_same_v<S, float> ? "float32" : "float64";

  template <class T>
  static constexpr bool stores = std::is_same_v<S, T>;
  template <class T>
  static constexpr bool in_registers = std::is_same_v<S, T>;

  template <class T>
  HEED_INLINE static Batch<T> load(const S* x, Index i) {
    return simd::load(x + i);
  }
};

}  // namespace heed::inline HEED_ABI::simd
