// SPDX-License-Identifier: MIT
/// @file A few queries against keys and values as they are stored: each number is read once,
/// widened in a register and used by all. What copies them first is bound by the cache it writes
/// to.
#pragma once

#include "heed/simd/storage.hpp"

#include <cstdint>
#include <type_traits>

namespace heed::inline HEED_ABI::simd {

/// As many stored numbers as a register of T holds.
template <class T, class S>
HEED_INLINE Batch<T> load_stored(const S* x) {
  if constexpr (std::is_same_v<S, T>) {
    return load(x);
  } else if constexpr (detail::widens_in_registers<S, T>) {
    return detail::widen_register(x);
  } else {
    T lanes[std::size_t(width<T>)];
    for (Index i = 0; i < width<T>; ++i) lanes[i] = T(x[i]);
    return load(lanes);
  }
}

/// Calls run(rows, first) so that every row is met, several at once: the more share what is loaded,
/// the fewer loads, up to what registers hold.
template <class Run>
HEED_INLINE void by_rows(Index rows, Run&& run) {
  Index first = 0;
  for (; first + 8 <= rows; first += 8) run(std::integral_constant<int, 8>(), first);
  if (rows - first >= 4) run(std::integral_constant<int, 4>(), first), first += 4;
  if (rows - first >= 2) run(std::integral_constant<int, 2>(), first), first += 2;
  if (rows - first >= 1) run(std::integral_constant<int, 1>(), first);
}

/// Few queries: one behind the other, [rows][dim].
template <class T>
struct Queries {
  const T* data;
  Index rows, dim;
};

namespace detail {

/// Asks for a row that is met some rows from now: several rows' arithmetic is more than the
/// processor looks ahead by itself.
template <class S>
HEED_INLINE void fetch(const S* row, Index stride, Index dim) {
  constexpr Index ahead = 12, line = 64;
  // A number, not a pointer: it may lie behind the last row.
  const auto start =
      reinterpret_cast<std::uintptr_t>(row) + std::uintptr_t(ahead * stride * Index(sizeof(S)));
  for (Index at = 0; at < dim * Index(sizeof(S)); at += line)
    __builtin_prefetch(reinterpret_cast<const void*>(start + std::uintptr_t(at)));
}

template <int Rows, class T, class S>
[[gnu::noinline]] void dot_some_rows(const T* q, const S* k, Index stride, Index keys, Index dim,
                                     const T* scale, T* out, Index out_stride) {
  constexpr int sums = Rows < 4 ? 4 / Rows : 1;  // a row's, so that enough additions are under way
  constexpr Index step = sums * width<T>;
  for (Index j = 0; j < keys; ++j, k += stride) {
    if (Rows > 1) fetch(k, stride, dim);
    Batch<T> acc[Rows][sums];
    for (auto& row : acc)
      for (auto& sum : row) sum = Batch<T>(T(0));
    const auto add = [&](Index d, int n) {
      const Batch<T> key = load_stored<T>(k + d);
#pragma GCC unroll 8
      for (int r = 0; r < Rows; ++r) acc[r][n] = fma(load(q + r * dim + d), key, acc[r][n]);
    };
    Index d = 0;
    for (; d + step <= dim; d += step)
#pragma GCC unroll 4
      for (int n = 0; n < sums; ++n) add(d + n * width<T>, n);
    for (; d + width<T> <= dim; d += width<T>) add(d, 0);
#pragma GCC unroll 8
    for (int r = 0; r < Rows; ++r) {
      Batch<T> all = acc[r][0];
      for (int n = 1; n < sums; ++n) all = all + acc[r][n];
      T sum = reduce_add(all);
      for (Index rest = d; rest < dim; ++rest) sum += q[r * dim + rest] * T(k[rest]);
      out[r * out_stride + j] = scale[j] * sum;
    }
  }
}

/// `Panels` panels of `Vectors` registers. Eight bits are scaled before the product, as where they
/// are widened beforehand: to the last bit it does not matter how many rows read them.
template <int Rows, int Panels, int Vectors, class T, class S>
HEED_INLINE void dot_some_panels(const T* q, const S* k, Index panel_stride, Index dim,
                                 [[maybe_unused]] const T* scale, T* out, Index out_stride) {
  constexpr int vectors = Panels * Vectors;
  constexpr bool scaled = std::is_same_v<S, std::int8_t>;
  Batch<T> acc[Rows][vectors], scales[scaled ? vectors : 1];
  for (auto& row : acc)
    for (auto& sum : row) sum = Batch<T>(T(0));
  if constexpr (scaled)
    for (int v = 0; v < vectors; ++v) scales[v] = load(scale + v * width<T>);
  for (Index d = 0; d < dim; ++d)
#pragma GCC unroll 8
    for (int v = 0; v < vectors; ++v) {
      Batch<T> keys =
          load_stored<T>(k + v / Vectors * panel_stride + (d * Vectors + v % Vectors) * width<T>);
      if constexpr (scaled) keys = scales[v] * keys;
#pragma GCC unroll 8
      for (int r = 0; r < Rows; ++r) acc[r][v] = fma(Batch<T>(q[r * dim + d]), keys, acc[r][v]);
    }
#pragma GCC unroll 8
  for (int r = 0; r < Rows; ++r)
#pragma GCC unroll 8
    for (int v = 0; v < vectors; ++v)
      acc[r][v].store_unaligned(out + r * out_stride + v * width<T>);
}

template <int Rows, int Vectors, class T, class S>
[[gnu::noinline]] void dot_panels(const T* q, const S* k, Index panel_stride, Index keys, Index dim,
                                  const T* scale, T* out, Index out_stride) {
  // As many multiply-adds under way as the registers allow.
  constexpr int several = Rows >= 8 ? 1 : Rows >= 4 ? 2 : 4;
  constexpr Index panel_keys = Vectors * width<T>;
  const auto scale_of = [&](Index j) { return scale ? scale + j : nullptr; };
  Index j = 0;
  for (; j + several * panel_keys <= keys; j += several * panel_keys, k += several * panel_stride)
    dot_some_panels<Rows, several, Vectors>(q, k, panel_stride, dim, scale_of(j), out + j,
                                            out_stride);
  for (; j < keys; j += panel_keys, k += panel_stride)
    dot_some_panels<Rows, 1, Vectors>(q, k, panel_stride, dim, scale_of(j), out + j, out_stride);
}

/// `Vectors` registers of the columns. One row leaves out what it does not see. Fetches `dim`
/// numbers of rows to come.
template <int Rows, int Vectors, class T, class S>
HEED_INLINE void add_some_columns(const T* p, Index p_stride, const S* v, Index stride, Index keys,
                                  Index dim, T* out, Index out_stride) {
  Batch<T> acc[Rows][Vectors];
#pragma GCC unroll 8
  for (int r = 0; r < Rows; ++r)
#pragma GCC unroll 8
    for (int n = 0; n < Vectors; ++n) acc[r][n] = load(out + r * out_stride + n * width<T>);
  for (Index j = 0; j < keys; ++j, v += stride) {
    if constexpr (Rows == 1)
      if (p[j] == T(0)) continue;
    if (Rows > 1) fetch(v, stride, dim);
#pragma GCC unroll 8
    for (int n = 0; n < Vectors; ++n) {
      const Batch<T> values = load_stored<T>(v + n * width<T>);
#pragma GCC unroll 8
      for (int r = 0; r < Rows; ++r)
        acc[r][n] = fma(Batch<T>(p[r * p_stride + j]), values, acc[r][n]);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < Rows; ++r)
#pragma GCC unroll 8
    for (int n = 0; n < Vectors; ++n)
      acc[r][n].store_unaligned(out + r * out_stride + n * width<T>);
}

/// From column `d` on, by the widest that fit.
template <int Rows, int Vectors, class T, class S>
HEED_INLINE void add_columns(const T* p, Index p_stride, const S* v, Index stride, Index keys,
                             Index d, Index dim, T* out, Index out_stride) {
  for (; d + Vectors * width<T> <= dim; d += Vectors * width<T>)
    add_some_columns<Rows, Vectors>(p, p_stride, v + d, stride, keys, d == 0 ? dim : 0, out + d,
                                    out_stride);
  if constexpr (Vectors > 1)
    add_columns<Rows, Vectors / 2>(p, p_stride, v, stride, keys, d, dim, out, out_stride);
}

template <int Rows, class T, class S>
[[gnu::noinline]] void add_rows(const T* p, Index p_stride, const S* v, Index stride, Index keys,
                                Index dim, T* out, Index out_stride) {
  add_columns<Rows, Rows == 1 ? 8 : 16 / Rows>(p, p_stride, v, stride, keys, 0, dim, out,
                                               out_stride);
  for (Index d = dim / width<T> * width<T>; d < dim; ++d)
    for (int r = 0; r < Rows; ++r)
      for (Index j = 0; j < keys; ++j)
        if (const T weight = p[r * p_stride + j]; weight != T(0))
          out[r * out_stride + d] += weight * T(v[j * stride + d]);
}

}  // namespace detail

/// out[r · out_stride + j] = scale[j] · Σ_d q[r][d] · k[j · stride + d] for j < keys.
template <class T, class S>
void dot_rows(const Queries<T>& q, const S* k, Index stride, Index keys, const T* scale, T* out,
              Index out_stride) {
  by_rows(q.rows, [&](auto rows, Index first) {
    detail::dot_some_rows<rows>(q.data + first * q.dim, k, stride, keys, q.dim, scale,
                                out + first * out_stride, out_stride);
  });
}

/// The same for keys in panels of `Vectors` registers, `panel_stride` apart; reads and writes to
/// the end of a panel. Only eight bits have a scale.
template <int Vectors, class T, class S>
void dot_panels(const Queries<T>& q, const S* k, Index panel_stride, Index keys, const T* scale,
                T* out, Index out_stride) {
  by_rows(q.rows, [&](auto rows, Index first) {
    detail::dot_panels<rows, Vectors>(q.data + first * q.dim, k, panel_stride, keys, q.dim, scale,
                                      out + first * out_stride, out_stride);
  });
}

/// out[r · out_stride + d] += Σ_j p[r · p_stride + j] · v[j · stride + d].
///
/// @param finite  are all values? Else rows go one by one, leaving out every key whose weight is
///                nought: 0 · NaN is NaN, and what is hidden must not be seen even then.
template <class T, class S>
void add_rows(const T* p, Index p_stride, Index rows, bool finite, const S* v, Index stride,
              Index keys, Index dim, T* out, Index out_stride) {
  const auto run = [&](auto count, Index first) {
    detail::add_rows<count>(p + first * p_stride, p_stride, v, stride, keys, dim,
                            out + first * out_stride, out_stride);
  };
  if (finite)
    by_rows(rows, run);
  else
    for (Index r = 0; r < rows; ++r) run(std::integral_constant<int, 1>(), r);
}

}  // namespace heed::inline HEED_ABI::simd
