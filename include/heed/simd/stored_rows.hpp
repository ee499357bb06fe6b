// SPDX-License-Identifier: MIT
/// @file A few queries against keys and values as they are stored: each number is read once,
/// widened in a register and used by all; bfloat16 that meets bfloat16 is multiplied as it is. What
/// copies them first is bound by the cache it writes to.
#pragma once

#include "heed/simd/operand.hpp"
#include "heed/simd/storage.hpp"

#include <cstdint>
#include <type_traits>

namespace heed::inline HEED_ABI::simd {

/// Rows of numbers as they are stored, one token each. Where tokens have scales of their groups,
/// the same for these; a scale of the whole token is the caller's to apply.
template <class T, class S>
struct StoredRows {
  const S* data;
  Index stride;  ///< units
  const T* scale = nullptr;
  Index scale_stride = 0;

  const S* row(Index j) const { return data + j * stride; }
  const T* row_scale(Index j) const { return scale + j * scale_stride; }
};

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

/// Few queries as operands, noughts behind the last of each up to whole registers.
template <class Packed>
struct Queries {
  const Packed* data;
  Index rows;
  Index dim;     ///< numbers
  Index stride;  ///< operands
};

namespace detail {

/// Asks for what lies so far ahead of these bytes: the arithmetic of several rows is more than the
/// processor looks ahead by itself, and between keys and values it starts anew.
HEED_INLINE void fetch_ahead(const void* from, Index bytes, Index ahead) {
  constexpr Index line = 64;
  // A number, not a pointer: it may lie behind the last row.
  const auto start = reinterpret_cast<std::uintptr_t>(from) + std::uintptr_t(ahead);
  for (Index at = 0; at < bytes; at += line)
    __builtin_prefetch(reinterpret_cast<const void*>(start + std::uintptr_t(at)), 0, 2);
}

/// Bytes, far enough for what is read once, in its order, to be there when it is met.
inline constexpr Index prefetch_distance = 16384;

/// One row that reads numbers in their order, as they are, is fetched for well enough.
template <int Rows, class T, class S>
inline constexpr bool wants_fetching = Rows > 1 || !std::is_same_v<S, T>;

/// A register of operands from the numbers d, d + 1 … of a token as they are stored.
template <class Packed, class S>
HEED_INLINE auto load_operands(const S* x, Index d, const typename Operand<Packed>::Sum* scale) {
  using Of = Operand<Packed>;
  if constexpr (Of::numbers == 1)
    return load_in_groups<Packed>(x, d, scale);
  else
    return Of::load(reinterpret_cast<const Packed*>(x + d));
}

/// sums[r][c] = Σ_d q[r][d] key[c][d], lane by lane. `rest` has room for the last register of each
/// key, and noughts behind it.
template <int Rows, int Keys, class Packed, class T, class S, std::size_t Room>
HEED_INLINE void multiply_rows(const Packed* q, Index q_stride, const S* (&key)[std::size_t(Keys)],
                               const T* const (&scale)[std::size_t(Keys)], Index dim,
                               S (&rest)[std::size_t(Keys)][Room],
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
  // Once over the whole registers, once over the rest: one loop for both, or the compiler keeps the
  // last registers of all queries at hand, and the sums in memory.
  Index behind = 0;
  for (Index length; dim > 0; dim -= length, behind += length, q += length / Of::numbers) {
    length = dim / lanes * lanes;
    if (length == 0) {
      const Index last = units<S>(dim);
      for (int c = 0; c < Keys; ++c) {
        S* const from = rest[c] + lane_units - last;
        if (whole > 0)  // of a size that is known: one register
          std::copy_n(key[c] + units<S>(whole) + last - lane_units, lane_units, rest[c]);
        else
          for (Index i = 0; i < last; ++i) from[i] = key[c][i];
        key[c] = from;
      }
      length = lanes;
    }
    // Of rows and keys the fewer stay in registers while the others come one by one.
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

/// To add up the lanes of one sum by itself would cost as much as the products of a key. So as many
/// keys go `together` as give a register of sums; `at_once` of them are multiplied, as many as
/// registers hold.
template <int Rows, class Packed, class T, class S>
[[gnu::noinline]] void dot_some_rows(const Packed* q, Index q_stride, StoredRows<T, S> k,
                                     Index keys, Index dim, const T* scale, T* out,
                                     Index out_stride) {
  constexpr int lanes = int(width<T>), together = Rows < lanes ? lanes / Rows : 1,
                at_once = std::clamp(registers / 2 / Rows, 1, std::min(together, 8));
  constexpr Index room = 2 * units<S>(lanes * Operand<Packed>::numbers);
  S rest[std::size_t(at_once)][std::size_t(room)] = {};
  for (Index j = 0; j < keys; j += together) {
    Batch<T> sums[std::size_t(Rows * together)];
#pragma GCC unroll 16
    for (int first = 0; first < together; first += at_once) {
      const S* key[std::size_t(at_once)];
      const T* key_scale[std::size_t(at_once)] = {};
      for (int c = 0; c < at_once; ++c) {
        const Index at = std::min(j + first + c, keys - 1);  // behind the last, the last again
        key[c] = k.row(at);
        if constexpr (has_groups<S>) key_scale[c] = k.row_scale(at);
        fetch_ahead(key[c], units<S>(dim) * Index(sizeof(S)), prefetch_distance);
      }
      Batch<T> some[std::size_t(Rows)][std::size_t(at_once)];
      multiply_rows<Rows, at_once>(q, q_stride, key, key_scale, dim, rest, some);
#pragma GCC unroll 8
      for (int r = 0; r < Rows; ++r)
#pragma GCC unroll 8
        for (int c = 0; c < at_once; ++c) sums[r * together + first + c] = some[r][c];
    }
    T totals[std::size_t(Rows * together)];
#pragma GCC unroll 8
    for (int i = 0; i < Rows * together; i += lanes) sums_of(sums + i).store_unaligned(totals + i);
    const Index count = std::min<Index>(together, keys - j);
#pragma GCC unroll 8
    for (int r = 0; r < Rows; ++r) {
      T* to = out + r * out_stride + j;
      if (count == together)
        std::copy_n(totals + r * together, together, to);  // of a size that is known: one store
      else
        std::copy_n(totals + r * together, count, to);
    }
  }
  for (int r = 0; r < Rows; ++r)
    for (Index j = 0; j < keys; ++j) out[r * out_stride + j] *= scale[j];
}

/// `Panels` panels of `Vectors` registers. What has scales is scaled before the product, as where
/// it is widened beforehand: to the last bit it does not matter how many rows read them.
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
  // The same place of panels to come, beyond those that go together: these are being read.
  const Index together = Panels * panel_stride * Index(sizeof(S)),
              ahead = (prefetch_distance + together - 1) / together * together;
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
          // Queries end with noughts up to a register, which may be of one lane.
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
  // As many multiply-adds under way as the registers allow.
  constexpr int several = Rows >= 8 ? 1 : Rows >= 4 ? 2 : 4;
  constexpr Index panel_keys = Vectors * width<T>;
  const auto scale_at = [&](Index j) { return scale ? scale + j * scales<S>(dim) : nullptr; };
  Index j = 0;
  for (; j + several * panel_keys <= keys; j += several * panel_keys, k += several * panel_stride)
    dot_some_panels<Rows, several, Vectors>(q, q_stride, k, panel_stride, dim, scale_at(j), out + j,
                                            out_stride);
  for (; j < keys; j += panel_keys, k += panel_stride)
    dot_some_panels<Rows, 1, Vectors>(q, q_stride, k, panel_stride, dim, scale_at(j), out + j,
                                      out_stride);
}

/// The operands of `Vectors` registers of columns from d on: numbers of key j or, in pairs, of it
/// and the next, unless it is `alone`.
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

/// `Vectors` registers of the columns. Fetches the same ones of as many keys to come, so that what
/// is asked for is spread over all that there is to compute.
///
/// 0 · NaN is NaN, and what is hidden must not be seen even then. One row leaves out keys without
/// weight; several look at their sums, and where one is not finite go one by one.
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

/// From column `d` on, by the widest that fit.
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
  by_rows(q.rows, [&](auto rows, Index first) {
    detail::dot_some_rows<rows>(q.data + first * q.stride, q.stride, k, keys, q.dim, scale,
                                out + first * out_stride, out_stride);
  });
}

/// The same for keys in panels of `Vectors` registers, `panel_stride` units apart, as widen_panel()
/// has them, and so their scales, if they have any; reads and writes to the end of a panel.
template <int Vectors, class T, class S>
void dot_panels(const Queries<T>& q, const S* k, Index panel_stride, Index keys, const T* scale,
                T* out, Index out_stride) {
  by_rows(q.rows, [&](auto rows, Index first) {
    detail::dot_panels<rows, Vectors>(q.data + first * q.stride, q.stride, k, panel_stride, keys,
                                      q.dim, scale, out + first * out_stride, out_stride);
  });
}

/// out[r · out_stride + d] += Σ_j p[r · p_stride + j] · v[j][d], where a key without weight is not
/// seen, be its value NaN. Of pairs p_stride counts operands, and beside the last key nought
/// weighs.
template <class Packed, class T, class S>
void add_rows(const Packed* p, Index p_stride, Index rows, StoredRows<T, S> v, Index keys,
              Index dim, T* out, Index out_stride) {
  by_rows(rows, [&](auto count, Index first) {
    detail::add_rows<count>(p + first * p_stride, p_stride, v, keys, dim, out + first * out_stride,
                            out_stride);
  });
}

}  // namespace heed::inline HEED_ABI::simd
