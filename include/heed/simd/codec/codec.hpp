// SPDX-License-Identifier: MIT
/// @file What is said of a type that keys and values are stored as.
#pragma once

#include "heed/simd/pack.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>

namespace heed::inline HEED_ABI {
namespace simd {

/// Codec::group of numbers without a scale, and where all numbers of a token share one.
inline constexpr Index no_scale = 0, whole_token = std::numeric_limits<Index>::max();

/// How the numbers of a token are stored as units of S. Each type is one specialisation in a file
/// of its own, and codecs.hpp lists them. It says:
///
/// - stores<T>: may T be computed in?
/// - numbers: of a token, in one unit; 1 or an even number. The last unit of a token may hold
///   fewer, and anything behind them that is finite.
/// - group: consecutive numbers of a token that share a scale, by which all are multiplied:
///   no_scale, whole_token or a multiple of 16.
/// - number<T>(x, i): number i of unit x, exactly, without its scale.
/// - in_registers<T>: are there instructions for the two below? Else number() does.
/// - load<T>(x, i): a register of the numbers i, i + 1 … of the token that begins at x; i is a
///   multiple of the register's width.
/// - load_beside<T>(x, out): of units of as many tokens side by side, number n of each to out[n];
///   needed if a unit is several numbers.
/// - encode(x, count, out, stride, scale, scale_stride): a token's numbers to the units out[0],
///   out[stride] … and the scales scale[0], scale[scale_stride] …
/// - finite(x, count, scale): is each number of a token finite when it is read back?
template <class S>
struct Codec;

/// So many units of S hold a token of `count` numbers,
template <class S>
constexpr Index units(Index count) {
  return (count + Codec<S>::numbers - 1) / Codec<S>::numbers;
}
/// and these are its scales.
template <class S>
constexpr Index scales(Index count) {
  if constexpr (Codec<S>::group == no_scale)
    return 0;
  else if constexpr (Codec<S>::group == whole_token)
    return 1;
  else
    return (count + Codec<S>::group - 1) / Codec<S>::group;
}
/// Has a token several scales, so that no product of the token can be scaled as one?
template <class S>
inline constexpr bool has_groups = !(Codec<S>::group == no_scale || Codec<S>::group == whole_token);
/// Which of a token's scales is that of number i?
template <class S>
constexpr Index scale_of(Index i) {
  if constexpr (has_groups<S>)
    return i / Codec<S>::group;
  else
    return 0;
}

/// A register of the numbers i, i + 1 … of a token, unscaled; i is a multiple of its width.
template <class T, class S>
HEED_INLINE Batch<T> load_stored(const S* x, Index i = 0) {
  using Of = Codec<S>;
  if constexpr (Of::template in_registers<T>) {
    return Of::template load<T>(x, i);
  } else {
    T lanes[std::size_t(width<T>)];
    for (Index lane = 0; lane < width<T>; ++lane)
      lanes[lane] = Of::template number<T>(x[(i + lane) / Of::numbers], (i + lane) % Of::numbers);
    return load(lanes);
  }
}
/// The same times the scales of their groups, if they are in groups.
template <class T, class S>
HEED_INLINE Batch<T> load_in_groups(const S* x, Index i, [[maybe_unused]] const T* scale) {
  if constexpr (has_groups<S>)
    return Batch<T>(scale[scale_of<S>(i)]) * load_stored<T>(x, i);
  else
    return load_stored<T>(x, i);
}
/// The units of tokens side by side: out[n] is number n of each, unscaled.
template <class T, class S>
HEED_INLINE void load_beside(const S* x, Batch<T> (&out)[std::size_t(Codec<S>::numbers)]) {
  using Of = Codec<S>;
  if constexpr (Of::numbers == 1) {
    out[0] = load_stored<T>(x);
  } else if constexpr (Of::template in_registers<T>) {
    Of::template load_beside<T>(x, out);
  } else {
    for (Index n = 0; n < Of::numbers; ++n) {
      T lanes[std::size_t(width<T>)];
      for (Index lane = 0; lane < width<T>; ++lane)
        lanes[lane] = Of::template number<T>(x[lane], n);
      out[n] = load(lanes);
    }
  }
}

namespace detail {

/// `Count` units from x on, in the lowest bytes of a register.
template <class Register, Index Count, class S>
HEED_INLINE Register bits_of(const S* x) {
  Register bits{};
  std::memcpy(&bits, x, std::size_t(Count) * sizeof(S));
  return bits;
}

/// put(i, x[i] / scale), in order, for numbers that share a scale, which is returned: largest |x| /
/// `largest`. If a number is not finite the scale is NaN, and so is every number read back.
template <class T, class Put>
T encode_multiples(const T* x, Index count, T largest, Put&& put) {
  if (!all_finite(x, 0, 1, count)) {
    for (Index i = 0; i < count; ++i) put(i, T(1));
    return std::numeric_limits<T>::quiet_NaN();
  }
  T most = 0;
  for (Index i = 0; i < count; ++i) most = std::max(most, std::abs(x[i]));
  // The quotient of a tiny `most` would be infinite, or a scale that lost its digits.
  const T scale = most / largest;
  const bool tiny = scale < std::numeric_limits<T>::min();
  for (Index i = 0; i < count; ++i) put(i, tiny ? T(0) : x[i] / scale);
  return tiny ? T(0) : scale;
}

}  // namespace detail

}  // namespace simd

/// What keys and values may be stored as where T is computed in.
template <class S, class T>
concept StorageOf = requires {
  requires simd::Codec<S>::template stores<T>;
};
/// The same without scales, in which queries may be, too.
template <class S, class T>
concept DirectStorageOf = StorageOf<S, T> && simd::Codec<S>::group == simd::no_scale;

}  // namespace heed::inline HEED_ABI
