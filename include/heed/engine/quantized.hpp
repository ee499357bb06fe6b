// SPDX-License-Identifier: MIT
/// @file
/// The caller's keys and values in eight bits or fewer, with their scales.
#pragma once

#include "heed/simd/codec/codecs.hpp"

#include <type_traits>

namespace heed::inline HEED_ABI {

namespace detail {

/// One scale per token, [B, G, N], or several, [B, G, N, ⌈D / group⌉].
template <class S>
inline constexpr std::size_t scale_rank = simd::has_groups<S> ? 4 : 3;

}  // namespace detail

/// Keys or values stored as S, eight bits by default. Number d of token j is
///
///     numbers[b, g, j, d] · scale[b, g, j]               if S has one scale per token, as int8
///     numbers[b, g, j, d] · scale[b, g, j, d div group]  if S has one scale per group
///
/// A scale view with stride 0 gives many tokens the same scale.
template <class T, class S = std::int8_t>
struct Quantized {
  View<const S, 4> numbers;                    ///< [B, G, N, count of S that hold D numbers]
  View<const T, detail::scale_rank<S>> scale;  ///< [B, G, N], or [B, G, N, ⌈D / group⌉]
  Index dim = numbers.dim(3) * simd::Codec<S>::numbers;  ///< D
};
template <class Numbers, class Scale>
Quantized(const Numbers&, const Scale&) -> Quantized<ScalarOf<Scale>, ScalarOf<Numbers>>;
template <class Numbers, class Scale>
Quantized(const Numbers&, const Scale&, Index) -> Quantized<ScalarOf<Scale>, ScalarOf<Numbers>>;

namespace detail {

template <class X, class T>
inline constexpr bool stored_for = false;
template <class X, class T>
requires TensorLike<X, 4>
inline constexpr bool stored_for<X, T> = DirectStorageOf<ScalarOf<X>, T>;
template <class T, class S>
inline constexpr bool stored_for<Quantized<T, S>, T> = StorageOf<S, T> && !DirectStorageOf<S, T>;

}  // namespace detail

/// The types of keys and values that a computation in T accepts.
template <class X, class T>
concept StoredFor = detail::stored_for<std::remove_cvref_t<X>, T>;

/// The types of keys and values.
template <class X>
concept TokensLike = TensorLike<X, 4> || StoredFor<X, float> || StoredFor<X, double>;

}  // namespace heed::inline HEED_ABI
