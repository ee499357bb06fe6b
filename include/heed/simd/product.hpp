// SPDX-License-Identifier: MIT
/// @file
/// The two matrix products of attention, as register tiles.
#pragma once

#include "heed/simd/operand.hpp"

namespace heed::inline HEED_ABI::simd {

/// acc[r][v] = Σ_d q[d · q_stride + r] · k(d, v), where k(d, v) is register v of the keys. Keys are
/// packed in panels of `PanelVectors` registers, `panel_stride` apart, each
/// [dim][PanelVectors · width]. `dim` counts operands.
///
/// Two loads and Rows broadcasts feed Rows · Vectors multiply-adds. Broadcasts become memory
/// operands of the multiply-adds where the instruction set can.
template <int Rows, int Vectors, int PanelVectors, class Packed, class T>
HEED_INLINE void multiply(const Packed* q, Index q_stride, const Packed* k, Index panel_stride,
                          Index dim,
                          Batch<T> (&acc)[std::size_t(Rows)][std::size_t(Vectors)]) noexcept {
  using Of = Operand<Packed>;
#pragma GCC unroll 16
  for (int r = 0; r < Rows; ++r)
#pragma GCC unroll 8
    for (int v = 0; v < Vectors; ++v) acc[r][v] = Batch<T>(T(0));
#pragma GCC unroll 4
  for (Index d = 0; d < dim; ++d) {
    typename Of::Register keys[std::size_t(Vectors)];
#pragma GCC unroll 8
    for (int v = 0; v < Vectors; ++v)
      keys[v] = Of::load(k + (v / PanelVectors) * panel_stride +
                         (d * PanelVectors + v % PanelVectors) * width<T>);
#pragma GCC unroll 16
    for (int r = 0; r < Rows; ++r) {
      const auto query = Of::broadcast(q[d * q_stride + r]);
#pragma GCC unroll 8
      for (int v = 0; v < Vectors; ++v) acc[r][v] = Of::multiply_add(query, keys[v], acc[r][v]);
    }
  }
}

/// multiply() with results in memory, out[r · out_stride + lane].
template <int Rows, int Vectors, int PanelVectors, class Packed, class T>
[[gnu::noinline]] void store_products(const Packed* q, Index q_stride, const Packed* k,
                                      Index panel_stride, Index dim, T* out,
                                      Index out_stride) noexcept {
  Batch<T> acc[std::size_t(Rows)][std::size_t(Vectors)];
  multiply<Rows, Vectors, PanelVectors>(q, q_stride, k, panel_stride, dim, acc);
#pragma GCC unroll 16
  for (int r = 0; r < Rows; ++r)
#pragma GCC unroll 8
    for (int v = 0; v < Vectors; ++v)
      acc[r][v].store_unaligned(out + r * out_stride + v * width<T>);
}

namespace detail {

template <int Rows, int Vectors, Index RowStride, Index KeyStride, class Packed, class T>
[[gnu::noinline]] void accumulate_columns(const Packed* p, const Packed* v, Index v_stride,
                                          Index keys, T* out, Index out_stride) noexcept {
  using Of = Operand<Packed>;
  Batch<T> acc[std::size_t(Rows)][std::size_t(Vectors)];
#pragma GCC unroll 16
  for (int r = 0; r < Rows; ++r)
#pragma GCC unroll 8
    for (int n = 0; n < Vectors; ++n) acc[r][n] = load(out + r * out_stride + n * width<T>);
#pragma GCC unroll 2
  for (Index j = 0; j < keys; ++j) {
    typename Of::Register values[std::size_t(Vectors)];
#pragma GCC unroll 8
    for (int n = 0; n < Vectors; ++n) values[n] = Of::load(v + j * v_stride + n * width<T>);
#pragma GCC unroll 16
    for (int r = 0; r < Rows; ++r) {
      const auto weight = Of::broadcast(p[r * RowStride + j * KeyStride]);
#pragma GCC unroll 8
      for (int n = 0; n < Vectors; ++n) acc[r][n] = Of::multiply_add(weight, values[n], acc[r][n]);
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < Rows; ++r)
#pragma GCC unroll 8
    for (int n = 0; n < Vectors; ++n)
      acc[r][n].store_unaligned(out + r * out_stride + n * width<T>);
}

}  // namespace detail

/// out[r][d] += Σ_j p(r, j) · v[j][d] for r < Rows, with p(r,
/// j) = p[r · RowStride + j · KeyStride]. Strides (n, 1) multiply by a matrix with rows of n
/// elements, (1, n) by its transpose.
///
/// @param keys  operands along j: for pairs, half the number of keys.
/// @param dim   a multiple of the register width; v and out are readable that far.
template <int Rows, int Vectors, Index RowStride, Index KeyStride, class Packed, class T>
HEED_INLINE void accumulate(const Packed* p, const Packed* v, Index v_stride, Index keys, Index dim,
                            T* out, Index out_stride) noexcept {
  constexpr Index columns = Vectors * width<T>;
  Index d = 0;
  for (; d + columns <= dim; d += columns)
    detail::accumulate_columns<Rows, Vectors, RowStride, KeyStride>(p, v + d, v_stride, keys,
                                                                    out + d, out_stride);
  if constexpr (Vectors > 1)
    accumulate<Rows, Vectors / 2, RowStride, KeyStride>(p, v + d, v_stride, keys, dim - d, out + d,
                                                        out_stride);
}

/// accumulate() for any number of rows, without the keys whose weight is zero: NaN in a masked
/// value must not propagate as 0 · NaN.
template <Index RowStride, Index KeyStride, class Packed, class T>
void accumulate_weighted(Index rows, const Packed* p, const Packed* v, Index v_stride, Index keys,
                         Index dim, T* out, Index out_stride) noexcept {
  using Of = Operand<Packed>;
  for (Index r = 0; r < rows; ++r)
    for (Index j = 0; j < keys; ++j) {
      const Packed weight = p[r * RowStride + j * KeyStride];
      if (Of::is_zero(weight)) continue;
      // The operation of accumulate(), with bit-identical results.
      Index d = 0;
      for (; d + width<T> <= dim; d += width<T>) {
        T* to = out + r * out_stride + d;
        Of::multiply_add(Of::broadcast(weight),
                         Of::clear_unweighted(Of::load(v + j * v_stride + d), weight), load(to))
            .store_unaligned(to);
      }
      if constexpr (Of::numbers == 1)
        for (; d < dim; ++d) out[r * out_stride + d] += weight * v[j * v_stride + d];
    }
}

}  // namespace heed::inline HEED_ABI::simd
