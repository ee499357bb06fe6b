// SPDX-License-Identifier: MIT
/// @file
/// The softmax of a register tile: scores to weights.
#pragma once

#include "heed/engine/tile/query_tile.hpp"
#include "heed/simd/operand.hpp"

namespace heed::inline HEED_ABI::detail {

/// The online softmax (Milakov, Gimelshein: Online normalizer calculation for softmax,
/// arXiv:1805.02867) with a lazy running maximum: the maximum is updated only if a score exceeds it
/// by `slack`, so that the sums are rarely rescaled. Weights stay below 2^slack, which costs no
/// accuracy.
///
/// Weights are stored as W, the operand type of the product with the values.
struct OnlineSoftmax {
  template <class T>
  static constexpr T slack = T(8);

  /// Raises the maximum of one row to the largest lane of `row_max`, and rescales the state. The
  /// `count` weights of the row at `done`, in whole registers, are already stored and are rescaled
  /// too.
  template <class T, class B, class W>
  [[gnu::noinline]] static void rescale_row(QueryTile<T, B>& s, Index row, const Batch<T>& row_max,
                                            W* done, Index count) {
    const T max = simd::reduce_max(row_max);
    simd::Operand<W>::rescale_weights(done, count, s.state.rescale(row, max));
  }

  template <std::size_t Vectors, class T>
  HEED_INLINE static Batch<T> largest(const Batch<T> (&scores)[Vectors]) {
    Batch<T> row_max = scores[0];
#pragma GCC unroll 8
    for (int v = 1; v < int(Vectors); ++v) row_max = simd::max(row_max, scores[v]);
    return row_max;
  }
  template <class T, class B>
  HEED_INLINE static Mask<T> exceeds(const QueryTile<T, B>& s, Index row, const Batch<T>& row_max) {
    return row_max > Batch<T>(s.state.max[row] + slack<T>);
  }

  /// Rescales those rows of a tile whose maximum is too small. `done` is the number of weights of
  /// each row that are already stored, before those of this tile.
  template <std::size_t Rows, std::size_t Vectors, class T, class B, class W>
  HEED_INLINE static void rescale(QueryTile<T, B>& s, Index row,
                                  const Batch<T> (&scores)[Rows][Vectors], W* weights, Index stride,
                                  Index done) {
    Mask<T> any = exceeds(s, row, largest(scores[0]));
#pragma GCC unroll 16
    for (int r = 1; r < int(Rows); ++r) any = any | exceeds(s, row + r, largest(scores[r]));
    if (!simd::any(any)) [[likely]]
      return;
    // The maxima go through memory, so that the scores stay in registers.
    T row_maxima[Rows * std::size_t(simd::width<T>)];
#pragma GCC unroll 16
    for (int r = 0; r < int(Rows); ++r)
      largest(scores[r]).store_unaligned(row_maxima + r * simd::width<T>);
    rescale_rows(s, row, Index(Rows), row_maxima, weights, stride, done);
  }
  template <class T, class B, class W>
  [[gnu::noinline]] static void rescale_rows(QueryTile<T, B>& s, Index row, Index rows,
                                             const T* row_maxima, W* weights, Index stride,
                                             Index done) {
    for (Index r = 0; r < rows; ++r) {
      const Batch<T> row_max = simd::load(row_maxima + r * simd::width<T>);
      if (simd::any(exceeds(s, row + r, row_max)))
        rescale_row(s, row + r, row_max, weights + r * stride - simd::operands<W>(done), done);
    }
  }

  /// Computes the weights 2^(score − max) of one row with the current maximum. Stores
  /// change(weight, register); the sum is that of the unchanged weights.
  template <bool Masked, std::size_t Vectors, class T, class B, class W, class Change>
  HEED_INLINE static void exponentiate(QueryTile<T, B>& s, Index row,
                                       const Batch<T> (&scores)[Vectors], W* weights,
                                       Change&& change) {
    const Batch<T> max(s.state.max[row]);
    T* sum = s.state.sum + row * simd::width<T>;
    Batch<T> total = simd::load(sum), changed[Vectors];
#pragma GCC unroll 8
    for (int v = 0; v < int(Vectors); ++v) {
      Batch<T> weight = simd::exp2(scores[v] - max);
      if constexpr (Masked)
        weight = simd::select(scores[v] < Batch<T>(masked_below<T>), Batch<T>(T(0)), weight);
      total = total + weight;
      changed[v] = change(weight, v);
    }
    simd::Operand<W>::store(changed, weights);
    total.store_unaligned(sum);
  }

  /// Rescales one row if necessary, and computes its weights.
  template <bool Masked, std::size_t Vectors, class T, class B, class W, class Change>
  HEED_INLINE static void row(QueryTile<T, B>& s, Index row, const Batch<T> (&scores)[Vectors],
                              W* weights, Index done, Change&& change) {
    const Batch<T> row_max = largest(scores);
    if (simd::any(exceeds(s, row, row_max))) [[unlikely]]
      rescale_row(s, row, row_max, weights - simd::operands<W>(done), done);
    exponentiate<Masked>(s, row, scores, weights, change);
  }
};

/// Weights from a known log-sum-exp, RowStates::lse. The weight of a masked key is zero. So is a
/// weight so small that its products would be subnormal, because subnormal arithmetic is slow.
struct SoftmaxFromLse {
  template <bool Masked, std::size_t Vectors, class T, class B, class Change>
  HEED_INLINE static void row(QueryTile<T, B>& s, Index row, const Batch<T> (&scores)[Vectors],
                              T* weights, Index, Change&&) {
    const Batch<T> lse(s.state.lse[row]);
#pragma GCC unroll 8
    for (int v = 0; v < int(Vectors); ++v) {
      const Batch<T> x = scores[v] - lse;
      simd::select(x < Batch<T>(T(simd::least_exponent<T>)), Batch<T>(T(0)), simd::exp2(x))
          .store_unaligned(weights + v * simd::width<T>);
    }
  }
};

}  // namespace heed::inline HEED_ABI::detail
