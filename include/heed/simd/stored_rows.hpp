// SPDX-License-Identifier: MIT
/// @file
/// Products of a few queries with keys and values as they are stored. Each number is read once,
/// converted in a register and used for all rows; stored bfloat16 is multiplied by bfloat16 queries
/// without conversion. Packing K and V first would be bound by writes to the cache.
#pragma once

#include "heed/simd/operand.hpp"
#include "heed/simd/storage.hpp"

#include <cstdint>
#include <type_traits>

namespace heed::inline HEED_ABI::simd {

/// Stored rows, one token each. If the type has scales per group, also the rows of scales. A scale
/// per token is applied by the caller.
template <class T, class S>
struct StoredRows {
  const S* data;
  Index stride;  ///< in units of S
  const T* scale = nullptr;
  Index scale_stride = 0;

  const S* row(Index j) const { return data + j * stride; }
  const T* row_scale(Index j) const { return scale + j * scale_stride; }
};

/// Calls run(rows, first) for tiles of 8, 4, 2 and 1 rows, until all rows are covered. Larger tiles
/// share more loads; 8 is what the registers allow.
template <class Run>
HEED_INLINE void for_row_tiles(Index rows, Run&& run) {
  Index first = 0;
  for (; first + 8 <= rows; first += 8) run(std::integral_constant<int, 8>(), first);
  if (rows - first >= 4) run(std::integral_constant<int, 4>(), first), first += 4;
  if (rows - first >= 2) run(std::integral_constant<int, 2>(), first), first += 2;
  if (rows - first >= 1) run(std::integral_constant<int, 1>(), first);
}

/// A few queries as operands, zero padding at the end of each row up to whole registers.
template <class Packed>
struct Queries {
  const Packed* data;
  Index rows;
  Index dim;     ///< in numbers
  Index stride;  ///< in operands
};

namespace detail {

/// Prefetches `bytes` bytes at from + ahead. With several query rows the loop outruns the hardware
/// prefetcher, which also restarts between keys and values.
HEED_INLINE void fetch_ahead(const void* from, Index bytes, Index ahead) {
  constexpr Index line = 64;
  // An integer, not a pointer: the address may be past the end of the array.
  const auto start = reinterpret_cast<std::uintptr_t>(from) + std::uintptr_t(ahead);
  for (Index at = 0; at < bytes; at += line)
    __builtin_prefetch(reinterpret_cast<const void*>(start + std::uintptr_t(at)), 0, 2);
}

/// Prefetch distance in bytes, for data that are read once and in order.
inline constexpr Index prefetch_distance = 16384;

/// For one row that reads unconverted numbers in order, the hardware prefetcher suffices.
template <int Rows, class T, class S>
inline constexpr bool wants_fetching = Rows > 1 || !std::is_same_v<S, T>;

/// A register of operands from numbers d, d + 1, … of a stored token.
template <class Packed, class S>
HEED_INLINE auto load_operands(const S* x, Index d, const typename Operand<Packed>::Sum* scale) {
  using Of = Operand<Packed>;
  if constexpr (Of::numbers == 1)
    return load_in_groups<Packed>(x, d, scale);
  else
    return Of::load(reinterpret_cast<const Packed*>(x + d));
}

/// sums[r][c] = Σ_d q[r][d] key[c][d], lane by lane. `tail` is a buffer for the last, partial
/// register of each key, zero-padded.
template <int Rows, int Keys, class Packed, class T, class S, std::size_t Room>
HEED_INLINE void multiply_rows(const Packed* q, Index q_stride, const S* (&key)[std::size_t(Keys)],
                               const T* const (&scale)[std::size_t(Keys)], Index dim,
                               S (&tail)[std::size_t(Keys)][Room],
                               Batch<T> (&sums)[std::size_t(Rows)][std::size_t(Keys)]) {
  using Of = Operand<Packed>;
  using Register = typename Of::Register;
  constexpr Index lanes = width<T> * Of::numbers, lane_units = units<S>(lanes);
  const Index whole = dim / lanes * lanes;
  for (auto& row : sums)
    for (auto& x : row) x = Batch<T>(T(0));
  const auto query = [&](int r, Index d) {
    Register x = Of::load(q + r * q_stride + d / Of::numbers);
    keep_in_register(x);
    return x;
  };
  // The first pass covers the whole registers, the second the tail. One loop for both: with two,
  // the compiler keeps the last registers of all queries and spills the sums.
  Index behind = 0;
  for (Index length; dim > 0; dim -= length, behind += length, q += length / Of::numbers) {
    length = dim / lanes * lanes;
    if (length == 0) {
      const Index last = units<S>(dim);
      for (int c = 0; c < Keys; ++c) {
        S* const from = tail[c] + lane_units - last;
        if (whole > 0)  // constant size: one register
          std::copy_n(key[c] + units<S>(whole) + last - lane_units, lane_units, tail[c]);
        else
          for (Index i = 0; i < last; ++i) from[i] = key[c][i];
        key[c] = from;
      }
      length = lanes;
    }
    // The smaller one of the two sets, rows or keys, stays in registers; the other is streamed.
    for (Index d = 0; d < length; d += lanes) {
      if constexpr (Rows < Keys) {
        Register rows[std::size_t(Rows)];
#pragma GCC unroll 8
        for (int r = 0; r < Rows; ++r) rows[r] = query(r, d);
#pragma GCC unroll 8
        for (int c = 0; c < Keys; ++c) {
          const Register x = load_operands<Packed>(key[c], d, scale[c] + scale_of<S>(behind));
#pragma GCC unroll 8
          for (int r = 0; r < Rows; ++r) sums[r][c] = Of::multiply_add(rows[r], x, sums[r][c]);
        }
      } else {
        Register keys[std::size_t(Keys)];
#pragma GCC unroll 8
        for (int c = 0; c < Keys; ++c)
          keys[c] = load_operands<Packed>(key[c], d, scale[c] + scale_of<S>(behind));
#pragma GCC unroll 8
        for (int r = 0; r < Rows; ++r) {
          const Register x = query(r, d);
#pragma GCC unroll 8
          for (int c = 0; c < Keys; ++c) sums[r][c] = Of::multiply_add(x, keys[c], sums[r][c]);
        }
      }
    }
  }
}

/// A horizontal add costs as much as one dot product. Keys are therefore processed in batches of
/// `together`, whose partial sums are reduced by one transposition into a single register;
/// `keys_in_flight` of them are in flight, limited by the register file.
template <int Rows, class Packed, class T, class S>
[[gnu::noinline]] void dot_some_rows(const Packed* q, Index q_stride, StoredRows<T, S> k,
                                     Index keys, Index dim, const T* scale, T* out,
                                     Index out_stride) {
  constexpr int lanes = int(width<T>), keys_per_batch = Rows < lanes ? lanes / Rows : 1,
                keys_in_flight = std::clamp(registers / 2 / Rows, 1, std::min(keys_per_batch, 8));
  constexpr Index room = 2 * units<S>(lanes * Operand<Packed>::numbers);
  S tail[std::size_t(keys_in_flight)][std::size_t(room)] = {};
  for (Index j = 0; j < keys; j += keys_per_batch) {
    Batch<T> sums[std::size_t(Rows * keys_per_batch)];
#pragma GCC unroll 16
    for (int first = 0; first < keys_per_batch; first += keys_in_flight) {
      const S* key[std::size_t(keys_in_flight)];
      const T* key_scale[std::size_t(keys_in_flight)] = {};
      for (int c = 0; c < keys_in_flight; ++c) {
        const Index at = std::min(j + first + c, keys - 1);  // past the end: the last key
        key[c] = k.row(at);
        if constexpr (has_groups<S>) key_scale[c] = k.row_scale(at);
        fetch_ahead(key[c], units<S>(dim) * Index(sizeof(S)), prefetch_distance);
      }
      Batch<T> partial[std::size_t(Rows)][std::size_t(keys_in_flight)];
      multiply_rows<Rows, keys_in_flight>(q, q_stride, key, key_scale, dim, tail, partial);
#pragma GCC unroll 8
      for (int r = 0; r < Rows; ++r)
#pragma GCC unroll 8
        for (int c = 0; c < keys_in_flight; ++c)
          sums[r * keys_per_batch + first + c] = partial[r][c];
    }
    T totals[std::size_t(Rows * keys_per_batch)];
#pragma GCC unroll 8
    for (int i = 0; i < Rows * keys_per_batch; i += lanes)
      sums_of(sums + i).store_unaligned(totals + i);
    const Index count = std::min<Index>(keys_per_batch, keys - j);
#pragma GCC unroll 8
    for (int r = 0; r < Rows; ++r) {
      T* to = out + r * out_stride + j;
      if (count == keys_per_batch)
        std::copy_n(totals + r * keys_per_batch, keys_per_batch, to);  // constant size: one store
      else
        std::copy_n(totals + r * keys_per_batch, count, to);
    }
  }
  for (int r = 0; r < Rows; ++r)
    for (Index j = 0; j < keys; ++j) out[r * out_stride + j] *= scale[j];
}

/// `Panels` panels of `Vectors` registers. Scaled types are scaled before the product, as if
/// converted beforehand: results are bit-identical for any number of rows.
template <int Rows, int Panels, int Vectors, class T, class S>
HEED_INLINE void dot_some_panels(const T* q, Index q_stride, const S* k, Index panel_stride,
                                 Index dim, [[maybe_unused]] const T* scale, T* out,
                                 Index out_stride) {
  using Stored = Codec<S>;
  constexpr int vectors = Panels * Vectors;
  constexpr bool scaled = Stored::group != no_scale;
  constexpr Index numbers = Stored::numbers, column = Vectors * width<T>,
                  bytes = column * Index(sizeof(S));
  Batch<T> acc[std::size_t(Rows)][std::size_t(vectors)], factors[std::size_t(scaled ? vectors : 1)];
  for (auto& row : acc)
    for (auto& sum : row) sum = Batch<T>(T(0));
  // The same offset in later panels, beyond the panels in flight, which are being read.
  const Index bytes_in_flight = Panels * panel_stride * Index(sizeof(S)),
              ahead = (prefetch_distance + bytes_in_flight - 1) / bytes_in_flight * bytes_in_flight;
  const Index count = units<S>(dim);
  for (Index first = 0, last; first < count; first = last) {
    last = has_groups<S> ? std::min(first + Stored::group / numbers, count) : count;
    if constexpr (scaled)
      for (int v = 0; v < vectors; ++v)
        factors[v] =
            load(scale + (v / Vectors * scales<S>(dim) + scale_of<S>(first * numbers)) * column +
                 v % Vectors * width<T>);
    for (Index u = first; u < last; ++u) {
      if (wants_fetching<Rows, T, S> && (bytes >= 64 || u % (64 / bytes) == 0))
#pragma GCC unroll 8
        for (int p = 0; p < Panels; ++p)
          fetch_ahead(k + p * panel_stride + u * column, bytes, ahead);
#pragma GCC unroll 8
      for (int v = 0; v < vectors; ++v) {
        Batch<T> keys[std::size_t(numbers)];
        load_beside<T>(k + v / Vectors * panel_stride + u * column + v % Vectors * width<T>, keys);
#pragma GCC unroll 2
        for (Index n = 0; n < numbers; ++n) {
          // Queries are zero-padded up to a register, which may have one lane.
          if (width<T> % numbers != 0 && u * numbers + n >= dim) break;
          if constexpr (scaled) keys[n] = factors[v] * keys[n];
#pragma GCC unroll 8
          for (int r = 0; r < Rows; ++r)
            acc[r][v] = fma(Batch<T>(q[r * q_stride + u * numbers + n]), keys[n], acc[r][v]);
        }
      }
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < Rows; ++r)
#pragma GCC unroll 8
    for (int v = 0; v < vectors; ++v)
      acc[r][v].store_unaligned(out + r * out_stride + v * width<T>);
}

template <int Rows, int Vectors, class T, class S>
[[gnu::noinline]] void dot_panels(const T* q, Index q_stride, const S* k, Index panel_stride,
                                  Index keys, Index dim, const T* scale, T* out, Index out_stride) {
  // Enough multiply-adds in flight to hide their latency, as far as registers allow.
  constexpr int panels_in_flight = Rows >= 8 ? 1 : Rows >= 4 ? 2 : 4;
  constexpr Index panel_keys = Vectors * width<T>;
  const auto scale_at = [&](Index j) { return scale ? scale + j * scales<S>(dim) : nullptr; };
  Index j = 0;
  for (; j + panels_in_flight * panel_keys <= keys;
       j += panels_in_flight * panel_keys, k += panels_in_flight * panel_stride)
    dot_some_panels<Rows, panels_in_flight, Vectors>(q, q_stride, k, panel_stride, dim, scale_at(j),
                                                     out + j, out_stride);
  for (; j < keys; j += panel_keys, k += panel_stride)
    dot_some_panels<Rows, 1, Vectors>(q, q_stride, k, panel_stride, dim, scale_at(j), out + j,
                                      out_stride);
}

/// Loads the operands of `Vectors` registers of columns from d on: numbers of key j or, for pairs,
/// of keys j and j + 1, unless j is `alone`.
template <class Packed, std::size_t Vectors, class T, class S, class Register>
HEED_INLINE void load_columns(StoredRows<T, S> v, Index j, Index d, [[maybe_unused]] bool alone,
                              Register (&values)[Vectors]) {
  using Of = Operand<Packed>;
  const S* const row = v.row(j);
#pragma GCC unroll 8
  for (int n = 0; n < int(Vectors); ++n)
    if constexpr (Of::numbers == 1)
      values[n] = load_in_groups<T>(row, d + n * width<T>, v.row_scale(j));
    else
      values[n] =
          Of::load_pairs(row + d + n * width<T>, row + d + n * width<T> + (alone ? 0 : v.stride));
}

/// Accumulates `Vectors` registers of columns. Prefetches the same columns of keys that many keys
/// ahead, which spreads the prefetches evenly over the arithmetic.
///
/// NaN in a masked value must not propagate as 0 · NaN. A single row skips keys without weight.
/// Several rows test their sums, and if one is not finite, recompute row by row.
template <int Rows, int Vectors, class Packed, class T, class S>
HEED_INLINE void add_some_columns(const Packed* p, Index p_stride, StoredRows<T, S> v, Index keys,
                                  Index d, T* out, Index out_stride) {
  using Of = Operand<Packed>;
  constexpr Index columns = Vectors * width<T>, bytes = units<S>(columns) * Index(sizeof(S));
  Batch<T> sums[std::size_t(Rows)][std::size_t(Vectors)];
#pragma GCC unroll 8
  for (int r = 0; r < Rows; ++r)
#pragma GCC unroll 8
    for (int n = 0; n < Vectors; ++n) sums[r][n] = load(out + r * out_stride + d + n * width<T>);
  for (Index j = 0; j < keys; j += Of::numbers) {
    const Packed* weights = p + j / Of::numbers;
    if constexpr (Rows == 1)
      if (Of::is_zero(*weights)) continue;
    if (wants_fetching<Rows, T, S>)
#pragma GCC unroll 2
      for (int i = 0; i < Of::numbers; ++i)
        fetch_ahead(v.row(j) + d / Codec<S>::numbers, bytes,
                    (keys + i) * v.stride * Index(sizeof(S)));
    typename Of::Register values[std::size_t(Vectors)];
    load_columns<Packed>(v, j, d, j + 1 == keys, values);
#pragma GCC unroll 8
    for (int r = 0; r < Rows; ++r) {
      const Packed weight = weights[r * p_stride];
#pragma GCC unroll 8
      for (int n = 0; n < Vectors; ++n)
        sums[r][n] = Of::multiply_add(
            Of::broadcast(weight), Rows == 1 ? Of::clear_unweighted(values[n], weight) : values[n],
            sums[r][n]);
    }
  }
  if constexpr (Rows > 1) {
    T numbers[std::size_t(Rows * columns)];
#pragma GCC unroll 8
    for (int r = 0; r < Rows; ++r)
#pragma GCC unroll 8
      for (int n = 0; n < Vectors; ++n)
        sums[r][n].store_unaligned(numbers + r * columns + n * width<T>);
    if (!all_finite(numbers, columns, Rows, columns)) [[unlikely]] {
      for (int r = 0; r < Rows; ++r)
        add_some_columns<1, Vectors>(p + r * p_stride, p_stride, v, keys, d, out + r * out_stride,
                                     out_stride);
      return;
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < Rows; ++r)
#pragma GCC unroll 8
    for (int n = 0; n < Vectors; ++n)
      sums[r][n].store_unaligned(out + r * out_stride + d + n * width<T>);
}

/// From column `d` on, by the widest groups of registers that fit.
template <int Rows, int Vectors, class Packed, class T, class S>
HEED_INLINE void add_columns(const Packed* p, Index p_stride, StoredRows<T, S> v, Index keys,
                             Index d, Index dim, T* out, Index out_stride) {
  for (; d + Vectors * width<T> <= dim; d += Vectors * width<T>)
    add_some_columns<Rows, Vectors>(p, p_stride, v, keys, d, out, out_stride);
  if constexpr (Vectors > 1)
    add_columns<Rows, Vectors / 2>(p, p_stride, v, keys, d, dim, out, out_stride);
}

template <int Rows, class Packed, class T, class S>
[[gnu::noinline]] void add_rows(const Packed* p, Index p_stride, StoredRows<T, S> v, Index keys,
                                Index dim, T* out, Index out_stride) {
  using Of = Operand<Packed>;
  using Stored = Codec<S>;
  add_columns<Rows, Rows == 1 ? 8 : 16 / Rows>(p, p_stride, v, keys, 0, dim, out, out_stride);
  for (Index d = dim / width<T> * width<T>; d < dim; ++d)
    for (int r = 0; r < Rows; ++r)
      for (Index j = 0; j < keys; ++j)
        if (const T weight = Of::number(p[r * p_stride + j / Of::numbers], j % Of::numbers);
            weight != T(0)) {
          T number = Stored::template number<T>(v.row(j)[d / Stored::numbers], d % Stored::numbers);
          if constexpr (has_groups<S>) number = v.row_scale(j)[scale_of<S>(d)] * number;
          out[r * out_stride + d] += weight * number;
        }
}

}  // namespace detail

/// out[r · out_stride + j] = scale[j] · Σ_d q[r][d] · k[j][d] for j < keys.
template <class Packed, class T, class S>
void dot_rows(const Queries<Packed>& q, StoredRows<T, S> k, Index keys, const T* scale, T* out,
              Index out_stride) {
  for_row_tiles(q.rows, [&](auto rows, Index first) {
    detail::dot_some_rows<rows>(q.data + first * q.stride, q.stride, k, keys, q.dim, scale,
                                out + first * out_stride, out_stride);
  });
}

/// dot_rows() for keys in panels of `Vectors` registers, `panel_stride` units apart. Panels and
/// their scales are laid out as for widen_panel(). Reads and writes up to the end of the last
/// panel.
template <int Vectors, class T, class S>
void dot_panels(const Queries<T>& q, const S* k, Index panel_stride, Index keys, const T* scale,
                T* out, Index out_stride) {
  for_row_tiles(q.rows, [&](auto rows, Index first) {
    detail::dot_panels<rows, Vectors>(q.data + first * q.stride, q.stride, k, panel_stride, keys,
                                      q.dim, scale, out + first * out_stride, out_stride);
  });
}

/// out[r · out_stride + d] += Σ_j p[r · p_stride + j] · v[j][d]. Values of keys without weight do
/// not contribute, even if NaN. For pairs p_stride counts operands, and the weight after the last
/// key is zero.
template <class Packed, class T, class S>
void add_rows(const Packed* p, Index p_stride, Index rows, StoredRows<T, S> v, Index keys,
              Index dim, T* out, Index out_stride) {
  for_row_tiles(rows, [&](auto count, Index first) {
    detail::add_rows<count>(p + first * p_stride, p_stride, v, keys, dim, out + first * out_stride,
                            out_stride);
  });
}

}  // namespace heed::inline HEED_ABI::simd
