// SPDX-License-Identifier: MIT
/// @file
/// The contract of types that keys and values can be stored as.
#pragma once

#include "heed/simd/pack.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>

namespace heed::inline HEED_ABI {
namespace simd {

/// Values of Codec::group: no scale, and one scale for all numbers of a token.
inline constexpr Index no_scale = 0, whole_token = std::numeric_limits<Index>::max();

/// How the numbers of a token are stored as units of S. Each storage type is one specialisation, in
/// a file of its own, which codecs.hpp includes. It defines:
///
/// - name: in files.
/// - stores<T>: may the arithmetic be in T?
/// - numbers: numbers per unit, 1 or even. The last unit of a token may be partly used; its unused
///   numbers are arbitrary, but finite.
/// - group: consecutive numbers of a token that share a scale factor: no_scale, whole_token or a
///   multiple of 16.
/// - number<T>(x, i): number i of unit x, exactly, without its scale.
/// - in_registers<T>: are there fast versions of the next two? If not, number() is used.
/// - load<T>(x, i): a register of numbers i, i + 1, … of the token at x; i is a multiple of the
///   register width.
/// - load_beside<T>(x, out): for one unit each of adjacent tokens, number n of each into out[n];
///   required if a unit has several numbers.
/// - encode(x, count, out, stride, scale, scale_stride): stores the numbers of a token as units
///   out[0], out[stride], … and scales scale[0], scale[scale_stride], …
/// - finite(x, count, scale): are all numbers of the token finite when read back?
template <class S>
struct Codec;

namespace detail {

/// What most codecs share; one that differs declares its own.
struct AnyCodec {
  template <class T>
  static constexpr bool stores = true;
  static constexpr Index numbers = 1;
  template <class T>
  static constexpr bool in_registers = false;
};

/// A type without scales that converts to and from T, rounding to nearest.
template <class S>
struct CastingCodec : AnyCodec {
  static constexpr Index group = no_scale;

  template <class T>
  static T number(S x, Index /*i*/) {
    return T(x);
  }
  template <class T>
  static void encode(const T* x, Index count, S* out, Index stride, T* /*scale*/,
                     Index /*scale_stride*/) {
    for (Index i = 0; i < count; ++i) out[i * stride] = S(x[i]);
  }
  template <class T>
  static bool finite(const S* x, Index count, const T* /*scale*/) {
    return all_finite(x, 0, 1, count);
  }
};

}  // namespace detail

/// Units of S that a token of `count` numbers takes.
template <class S>
constexpr Index units(Index count) {
  return (count + Codec<S>::numbers - 1) / Codec<S>::numbers;
}
/// Scales that a token of `count` numbers has.
template <class S>
constexpr Index scales(Index count) {
  if constexpr (Codec<S>::group == no_scale)
    return 0;
  else if constexpr (Codec<S>::group == whole_token)
    return 1;
  else
    return (count + Codec<S>::group - 1) / Codec<S>::group;
}
/// Has a token several scales? Its dot products can then not be scaled as a whole.
template <class S>
inline constexpr bool has_groups = !(Codec<S>::group == no_scale || Codec<S>::group == whole_token);
/// The index of the scale of number i of a token.
template <class S>
constexpr Index scale_of(Index i) {
  if constexpr (has_groups<S>)
    return i / Codec<S>::group;
  else
    return 0;
}

/// A register of numbers i, i + 1, … of a token, unscaled. i is a multiple of the register width.
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
/// load_stored() times the scales, if they are per group.
template <class T, class S>
HEED_INLINE Batch<T> load_in_groups(const S* x, Index i, [[maybe_unused]] const T* scale) {
  if constexpr (has_groups<S>)
    return Batch<T>(scale[scale_of<S>(i)]) * load_stored<T>(x, i);
  else
    return load_stored<T>(x, i);
}
/// One unit each of adjacent tokens: out[n] is number n of each, unscaled.
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

/// Loads `Count` units into the low bytes of a register.
template <class Register, Index Count, class S>
HEED_INLINE Register bits_of(const S* x) {
  Register bits{};
  std::memcpy(&bits, x, std::size_t(Count) * sizeof(S));
  return bits;
}

/// Calls put(i, x[i] / scale) in order and returns the scale that the numbers share, largest
/// |x| / `largest`. If a number is not finite, the scale is NaN, and so are all numbers read back.
template <class T, class Put>
T encode_multiples(const T* x, Index count, T largest, Put&& put) {
  if (!all_finite(x, 0, 1, count)) {
    for (Index i = 0; i < count; ++i) put(i, T(1));
    return std::numeric_limits<T>::quiet_NaN();
  }
  T most = 0;
  for (Index i = 0; i < count; ++i) most = std::max(most, std::abs(x[i]));
  // A tiny scale would be subnormal, with few digits, and quotients could overflow.
  const T scale = most / largest;
  const bool tiny = scale < std::numeric_limits<T>::min();
  for (Index i = 0; i < count; ++i) put(i, tiny ? T(0) : x[i] / scale);
  return tiny ? T(0) : scale;
}

}  // namespace detail

}  // namespace simd

/// The types S that keys and values may be stored as, for arithmetic in T.
template <class S, class T>
concept StorageOf = requires {
  requires simd::Codec<S>::template stores<T>;
};
/// Those without scales; queries may be of these, too.
template <class S, class T>
concept DirectStorageOf = StorageOf<S, T> && simd::Codec<S>::group == simd::no_scale;

}  // namespace heed::inline HEED_ABI
