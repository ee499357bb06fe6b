// SPDX-License-Identifier: MIT
/// @file What queries, keys and values may be stored in, while T is computed in.
#pragma once

#include "heed/core/views.hpp"

#include <cstdint>
#include <limits>

namespace heed::inline HEED_ABI {

/// bfloat16 or binary16, by what it can hold: Eigen::bfloat16, Eigen::half, std::float16_t …
template <class S>
inline constexpr bool is_bfloat16 = sizeof(S) == 2 && !std::numeric_limits<S>::is_integer
                                    && std::numeric_limits<S>::digits == 8;
template <class S>
inline constexpr bool is_binary16 = sizeof(S) == 2 && !std::numeric_limits<S>::is_integer
                                    && std::numeric_limits<S>::digits == 11;

/// T itself or 16 bits, in which a number is stored as it is.
template <class S, class T>
concept DirectStorageOf = std::same_as<S, T> || is_bfloat16<S> || is_binary16<S>;

/// Also 8 bits, the numbers of a token multiples of a scale of its own.
template <class S, class T>
concept StorageOf = DirectStorageOf<S, T> || std::same_as<S, std::int8_t>;

/// Keys or values in 8 bits: number d of token j is scale[b, g, j] · numbers[b, g, j, d].
template <class T>
struct Quantized {
  View<const std::int8_t, 4> numbers;  ///< [B, G, N, D]
  View<const T, 3> scale;              ///< [B, G, N]
};
template <class Numbers, class Scale>
Quantized(const Numbers&, const Scale&) -> Quantized<ScalarOf<Scale>>;

namespace detail {

template <class X, class T>
inline constexpr bool stored_for = false;
template <class X, class T>
requires TensorLike<X, 4>
inline constexpr bool stored_for<X, T> = DirectStorageOf<ScalarOf<X>, T>;
template <class T>
inline constexpr bool stored_for<Quantized<T>, T> = true;

}  // namespace detail

/// What can be passed as keys or values where T is computed in.
template <class X, class T>
concept StoredFor = detail::stored_for<std::remove_cvref_t<X>, T>;

/// What can be passed as keys or values.
template <class X>
concept TokensLike = TensorLike<X, 4> || StoredFor<X, float> || StoredFor<X, double>;

}  // namespace heed::inline HEED_ABI
