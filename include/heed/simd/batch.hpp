// SPDX-License-Identifier: MIT
/// @file
/// SIMD registers. The only header that depends on the version of xsimd, or on whether xsimd
/// supports this processor at all.
#pragma once

#include "heed/core/views.hpp"

#include <xsimd/xsimd.hpp>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <utility>

#define HEED_INLINE [[gnu::always_inline]] inline

namespace heed::inline HEED_ABI::simd {

/// The signed integer of the size of T.
template <class T>
using Int = std::conditional_t<sizeof(T) == 4, std::int32_t, std::int64_t>;

#ifdef XSIMD_NO_SUPPORTED_ARCHITECTURE

/// A register of one lane, for processors that xsimd does not support.
template <class T>
struct Batch {
  static constexpr std::size_t size = 1;
  T lane = 0;
  Batch() = default;
  explicit Batch(T x) : lane(x) {}
  static Batch load_unaligned(const T* p) { return Batch(*p); }
  void store_unaligned(T* p) const { *p = lane; }
  friend Batch operator+(Batch a, Batch b) { return Batch(a.lane + b.lane); }
  friend Batch operator-(Batch a, Batch b) { return Batch(a.lane - b.lane); }
  friend Batch operator*(Batch a, Batch b) { return Batch(a.lane * b.lane); }
  friend Batch operator/(Batch a, Batch b) { return Batch(a.lane / b.lane); }
  friend bool operator==(Batch a, Batch b) { return a.lane == b.lane; }
  friend bool operator!=(Batch a, Batch b) { return a.lane != b.lane; }
  friend bool operator<(Batch a, Batch b) { return a.lane < b.lane; }
  friend bool operator<=(Batch a, Batch b) { return a.lane <= b.lane; }
  friend bool operator>(Batch a, Batch b) { return a.lane > b.lane; }
  friend bool operator>=(Batch a, Batch b) { return a.lane >= b.lane; }
};
template <class T>
using Mask = bool;

template <class T>
Batch<T> fma(Batch<T> a, Batch<T> b, Batch<T> c) {
#ifdef __FP_FAST_FMA  // explicit: the compiler would contract some of them
  return Batch<T>(std::fma(a.lane, b.lane, c.lane));
#else
  return Batch<T>(a.lane * b.lane + c.lane);
#endif
}
template <class T>
Batch<T> max(Batch<T> a, Batch<T> b) {
  return a.lane > b.lane ? a : b;  // b if either is NaN, as on x86
}
template <class T>
Batch<T> min(Batch<T> a, Batch<T> b) {
  return b.lane < a.lane ? b : a;
}
template <class T>
Batch<T> select(bool mask, Batch<T> a, Batch<T> b) {
  return mask ? a : b;
}
inline bool any(bool mask) {
  return mask;
}
template <class T>
T reduce_add(Batch<T> x) {
  return x.lane;
}
template <class T>
Batch<T> sums_of(const Batch<T>* rows) {
  return rows[0];
}
template <class T>
Batch<T> tanh(Batch<T> x) {
  return Batch<T>(std::tanh(x.lane));
}
template <class T>
Batch<T> log2(Batch<T> x) {
  return Batch<T>(std::log2(x.lane));
}
template <class T>
Batch<T> where_minus_infinity(Batch<T> x, T hidden, Batch<T> otherwise) {
  return std::bit_cast<Int<T>>(x.lane) == std::bit_cast<Int<T>>(-std::numeric_limits<T>::infinity())
             ? Batch<T>(hidden)
             : otherwise;
}

namespace detail {

template <class T>
void keep_in_register(Batch<T>&) {}

}  // namespace detail

#else

/// A register of T.
template <class T>
using Batch = xsimd::batch<T>;
template <class T>
using Mask = typename xsimd::batch<T>::batch_bool_type;

using xsimd::any;
using xsimd::log2;
using xsimd::max;
using xsimd::min;
using xsimd::select;
using xsimd::tanh;

/// a·b + c, fused where the instruction set can. xsimd 8 has no fused instruction for AVX-512: it
/// writes a product and a sum, which g++ contracts and clang++ does not.
template <class T>
HEED_INLINE Batch<T> fma(const Batch<T>& a, const Batch<T>& b, const Batch<T>& c) {
#ifdef __AVX512F__
  if constexpr (sizeof(T) == 4)
    return Batch<T>(_mm512_fmadd_ps(a.data, b.data, c.data));
  else
    return Batch<T>(_mm512_fmadd_pd(a.data, b.data, c.data));
#else
  return xsimd::fma(a, b, c);
#endif
}

template <class T>
HEED_INLINE T reduce_add(const Batch<T>& x) {
#if XSIMD_VERSION_MAJOR < 10
  return xsimd::hadd(x);
#else
  return xsimd::reduce_add(x);
#endif
}

#ifdef __AVX512F__
namespace detail {

/// Sums of quarters (128 bits) of four rows of float, or of two rows of double, interleaved.
HEED_INLINE Batch<float> quarter_sums(const Batch<float>* rows) {
  const auto pairs = [](const Batch<float>& a, const Batch<float>& b) {
    return _mm512_castps_pd(
        _mm512_add_ps(_mm512_unpacklo_ps(a.data, b.data), _mm512_unpackhi_ps(a.data, b.data)));
  };
  const __m512d ab = pairs(rows[0], rows[1]), cd = pairs(rows[2], rows[3]);
  return Batch<float>(_mm512_add_ps(_mm512_castpd_ps(_mm512_unpacklo_pd(ab, cd)),
                                    _mm512_castpd_ps(_mm512_unpackhi_pd(ab, cd))));
}
HEED_INLINE Batch<double> quarter_sums(const Batch<double>* rows) {
  return Batch<double>(_mm512_add_pd(_mm512_unpacklo_pd(rows[0].data, rows[1].data),
                                     _mm512_unpackhi_pd(rows[0].data, rows[1].data)));
}
/// Quarters 0 + 1 and 2 + 3 of a, then of b.
HEED_INLINE Batch<float> half_sums(const Batch<float>& a, const Batch<float>& b) {
  return Batch<float>(_mm512_add_ps(_mm512_shuffle_f32x4(a.data, b.data, 0x88),
                                    _mm512_shuffle_f32x4(a.data, b.data, 0xdd)));
}
HEED_INLINE Batch<double> half_sums(const Batch<double>& a, const Batch<double>& b) {
  return Batch<double>(_mm512_add_pd(_mm512_shuffle_f64x2(a.data, b.data, 0x88),
                                     _mm512_shuffle_f64x2(a.data, b.data, 0xdd)));
}

}  // namespace detail
#endif

/// Lane i is the sum of the lanes of rows[i], for as many rows as there are lanes. For AVX-512,
/// xsimd 8 returns them in another order.
template <class T>
HEED_INLINE Batch<T> sums_of(const Batch<T>* rows) {
#ifdef __AVX512F__
  using detail::quarter_sums, detail::half_sums;
  constexpr int n = int(Batch<T>::size) / 4;
  return half_sums(half_sums(quarter_sums(rows), quarter_sums(rows + n)),
                   half_sums(quarter_sums(rows + 2 * n), quarter_sums(rows + 3 * n)));
#else
  return xsimd::haddp(rows);
#endif
}

namespace detail {

template <class To, class From>
HEED_INLINE Batch<To> reinterpret(const Batch<From>& x) {
#if XSIMD_VERSION_MAJOR < 11
  return xsimd::bitwise_cast<Batch<To>>(x);
#else
  return xsimd::bitwise_cast<To>(x);
#endif
}

/// Hides the value of x from the optimiser. Under -ffast-math it would cancel (x + magic) − magic,
/// which rounds.
template <class T>
HEED_INLINE void opaque(Batch<T>& x) {
#if defined(__x86_64__) || defined(__i386__)
  asm("" : "+v"(x.data));
#elif defined(__aarch64__)
  asm("" : "+w"(x.data));
#else
  volatile T lanes[Batch<T>::size];
  T copy[Batch<T>::size];
  x.store_unaligned(copy);
  for (std::size_t i = 0; i < Batch<T>::size; ++i) lanes[i] = copy[i];
  for (std::size_t i = 0; i < Batch<T>::size; ++i) copy[i] = lanes[i];
  x = Batch<T>::load_unaligned(copy);
#endif
}

/// Keeps x in a register. The compiler would otherwise reload it from memory at each use.
template <class T>
HEED_INLINE void keep_in_register([[maybe_unused]] Batch<T>& x) {
#if defined(__x86_64__) || defined(__i386__) || defined(__aarch64__)
  opaque(x);
#endif
}

}  // namespace detail

/// `hidden` where x is −∞, else `otherwise`. Compares bits: -ffast-math folds comparisons with
/// infinity away. Without AVX it goes through memory, as the names of integer comparisons differ
/// between versions of xsimd.
template <class T>
HEED_INLINE Batch<T> where_minus_infinity(const Batch<T>& x, T hidden, const Batch<T>& otherwise) {
  constexpr auto minus_infinity = std::bit_cast<Int<T>>(-std::numeric_limits<T>::infinity());
#ifdef __AVX512F__
  if constexpr (sizeof(T) == 4)
    return Batch<T>(_mm512_mask_blend_ps(
        _mm512_cmpeq_epi32_mask(_mm512_castps_si512(x.data), _mm512_set1_epi32(minus_infinity)),
        otherwise.data, _mm512_set1_ps(hidden)));
  else
    return Batch<T>(_mm512_mask_blend_pd(
        _mm512_cmpeq_epi64_mask(_mm512_castpd_si512(x.data), _mm512_set1_epi64(minus_infinity)),
        otherwise.data, _mm512_set1_pd(hidden)));
#elif defined(__AVX2__)
  if constexpr (sizeof(T) == 4)
    return Batch<T>(
        _mm256_blendv_ps(otherwise.data, _mm256_set1_ps(hidden),
                         _mm256_castsi256_ps(_mm256_cmpeq_epi32(
                             _mm256_castps_si256(x.data), _mm256_set1_epi32(minus_infinity)))));
  else
    return Batch<T>(
        _mm256_blendv_pd(otherwise.data, _mm256_set1_pd(hidden),
                         _mm256_castsi256_pd(_mm256_cmpeq_epi64(
                             _mm256_castpd_si256(x.data), _mm256_set1_epi64x(minus_infinity)))));
#else
  T lanes[Batch<T>::size];
  x.store_unaligned(lanes);
  for (T& lane : lanes) lane = std::bit_cast<Int<T>>(lane) == minus_infinity ? T(1) : T(0);
  return select(Batch<T>::load_unaligned(lanes) > Batch<T>(T(0)), Batch<T>(hidden), otherwise);
#endif
}

#endif

/// Lanes of a register.
template <class T>
inline constexpr Index width = Index(Batch<T>::size);

/// Registers that a micro-kernel can use.
#if defined(__AVX512F__) || defined(__aarch64__)
inline constexpr int registers = 32;
#else
inline constexpr int registers = 16;
#endif

template <class T>
HEED_INLINE Batch<T> load(const T* p) {
  return Batch<T>::load_unaligned(p);
}

/// Loads `count` lanes from p and fills the others with `fill`. Reads nothing past p[count − 1].
template <class T>
HEED_INLINE Batch<T> load_first(const T* p, Index count, T fill) {
  if (count >= width<T>) return load(p);
  T lanes[std::size_t(width<T>)];
  for (Index i = 0; i < width<T>; ++i) lanes[i] = i < count ? p[i] : fill;
  return load(lanes);
}

/// 0, 1, 2, …
template <class T>
HEED_INLINE Batch<T> iota() {
  static constexpr T lanes[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
  static_assert(width<T> <= 16);
  return load(lanes);
}

namespace detail {

/// Lane i is element Pick::of(i) of the lanes of a followed by those of b. Uses the compiler's
/// vectors: xsimd 8 has no shuffle of two registers.
template <class T, class Pick, std::size_t... I>
HEED_INLINE Batch<T> shuffled(const Batch<T>& a, const Batch<T>& b, Pick,
                              std::index_sequence<I...>) {
  typedef T Vector [[gnu::vector_size(sizeof(T) * sizeof...(I))]];
  T lanes[sizeof...(I)];
  Vector x, y;
  a.store_unaligned(lanes), std::memcpy(&x, lanes, sizeof x);
  b.store_unaligned(lanes), std::memcpy(&y, lanes, sizeof y);
  const Vector picked = __builtin_shufflevector(x, y, Pick::of(I)...);
  std::memcpy(lanes, &picked, sizeof picked);
  return load(lanes);
}
template <class T, class Pick>
HEED_INLINE Batch<T> shuffled(const Batch<T>& a, const Batch<T>& b, Pick pick) {
  return shuffled(a, b, pick, std::make_index_sequence<Batch<T>::size>());
}

/// Elements first, first + 2, …
template <int first>
struct EverySecond {
  static constexpr int of(std::size_t i) { return first + 2 * int(i); }
};
/// Alternates elements of the first and the second register, starting at `first`.
template <int first, int width>
struct InTurn {
  static constexpr int of(std::size_t i) { return first + int(i / 2) + (i % 2 == 0 ? 0 : width); }
};

}  // namespace detail

/// Two registers.
template <class T>
struct BatchPair {
  Batch<T> first, second;
};

/// Splits consecutive elements x₀, x₁, … of two registers into (x₀, x₂, x₄, …) and (x₁, x₃, x₅, …).
template <class T>
HEED_INLINE BatchPair<T> unzip(const BatchPair<T>& x) {
  if constexpr (width<T> == 1)
    return x;
  else
    return {detail::shuffled(x.first, x.second, detail::EverySecond<0>()),
            detail::shuffled(x.first, x.second, detail::EverySecond<1>())};
}

/// The inverse of unzip().
template <class T>
HEED_INLINE BatchPair<T> zip(const BatchPair<T>& x) {
  constexpr int lanes = int(width<T>);
  if constexpr (lanes == 1)
    return x;
  else
    return {detail::shuffled(x.first, x.second, detail::InTurn<0, lanes>()),
            detail::shuffled(x.first, x.second, detail::InTurn<lanes / 2, lanes>())};
}

/// The lanes i with first ≤ i < last. Both may be any integers.
template <class T>
HEED_INLINE Mask<T> lanes_between(Index first, Index last) {
  const T low = T(std::clamp<Index>(first, 0, width<T>)),
          high = T(std::clamp<Index>(last, 0, width<T>));
  const Batch<T> lane = iota<T>();
  return (lane >= Batch<T>(low)) & (lane < Batch<T>(high));
}

/// The largest lane.
template <class T>
inline T reduce_max(const Batch<T>& x) {
#if defined(__AVX512F__) && !defined(XSIMD_NO_SUPPORTED_ARCHITECTURE)
  if constexpr (sizeof(T) == 4)
    return _mm512_reduce_max_ps(x.data);
  else
    return _mm512_reduce_max_pd(x.data);
#else
  T lanes[std::size_t(width<T>)];
  x.store_unaligned(lanes);
  for (Index n = width<T> / 2; n > 0; n /= 2)
    for (Index i = 0; i < n; ++i) lanes[i] = std::max(lanes[i], lanes[i + n]);
  return lanes[0];
#endif
}

}  // namespace heed::inline HEED_ABI::simd
