// SPDX-License-Identifier: MIT
/// @file Rows of a tensor into the order the micro-kernels read them in.
#pragma once

#include "heed/simd/batch.hpp"

namespace heed::inline HEED_ABI::simd {

/// out[d · width + r] = factor(r) · row(r)[d] for r < rows, 0 for rows ≤ r < width: a panel, in
/// which `width` rows lie side by side.
///
/// @param row  row(r) points to `dim` numbers.
/// @param out  dim · width numbers, overwritten.
template <class T, class RowOf, class Factor>
void pack_panel(RowOf&& row, Index rows, Index dim, Index width, Factor&& factor, T* out) noexcept {
  // Sixteen columns at a time, so that the lines written stay in L1 until they are full.
  constexpr Index columns = 16;
  for (Index d0 = 0; d0 < dim; d0 += columns) {
    const Index d1 = std::min(d0 + columns, dim);
    for (Index r = 0; r < rows; ++r) {
      const T scale = factor(r);
      const T* x = row(r);
      for (Index d = d0; d < d1; ++d) out[d * width + r] = scale * x[d];
    }
    for (Index r = rows; r < width; ++r)
      for (Index d = d0; d < d1; ++d) out[d * width + r] = T(0);
  }
}

/// out[r · out_stride + d] = factor(r) · x[r · stride + d] for d < dim, 0 for dim ≤ d < out_stride.
template <class T, class Factor>
void pack_rows(const T* x, Index stride, Index rows, Index dim, Factor&& factor, T* out,
               Index out_stride) noexcept {
  for (Index r = 0; r < rows; ++r) {
    const T scale = factor(r);
    T* to = out + r * out_stride;
    for (Index d = 0; d < dim; ++d) to[d] = scale * x[r * stride + d];
    for (Index d = dim; d < out_stride; ++d) to[d] = T(0);
  }
}

/// Is every number of the rows finite? By exponents: -ffast-math folds the comparisons away.
template <class T>
bool all_finite(const T* x, Index stride, Index rows, Index dim) noexcept {
  using Bits = std::make_unsigned_t<Int<T>>;
  constexpr Bits exponent = std::bit_cast<Bits>(std::numeric_limits<T>::infinity());
  Bits finite = 1;
  for (Index r = 0; r < rows; ++r)
    for (Index d = 0; d < dim; ++d) {
      Bits bits;
      std::memcpy(&bits, x + r * stride + d, sizeof bits);
      finite &= Bits((bits & exponent) != exponent);
    }
  return finite != 0;
}

}  // namespace heed::inline HEED_ABI::simd
