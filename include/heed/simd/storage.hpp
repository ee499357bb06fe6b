// SPDX-License-Identifier: MIT
/// @file
/// Converts stored numbers to the number type of the arithmetic, in memory.
#pragma once

#include "heed/simd/codec/codecs.hpp"

namespace heed::inline HEED_ABI::simd {

/// out[i] = number i of the token at x, times its scale, for i < count. `scale` points to the
/// scales of the token, if it has any. The conversion itself is exact.
///
/// Not noexcept, and neither are its callers: conversions of Eigen types are not. clang++ would
/// call std::terminate through one function whose name is the same for all instruction sets of a
/// program.
template <class S, class T>
void widen(const S* x, Index count, [[maybe_unused]] const T* scale, T* out) {
  using Of = Codec<S>;
  Index i = 0;
  if constexpr (Of::template in_registers<T>)
    for (; i + width<T> <= count; i += width<T>) {
      Batch<T> numbers = load_stored<T>(x, i);
      if constexpr (Of::group != no_scale) numbers = Batch<T>(scale[scale_of<S>(i)]) * numbers;
      numbers.store_unaligned(out + i);
    }
  for (; i < count; ++i) {
    const T number = Of::template number<T>(x[i / Of::numbers], i % Of::numbers);
    if constexpr (Of::group != no_scale)
      out[i] = scale[scale_of<S>(i)] * number;
    else
      out[i] = number;
  }
}
/// widen() for types without scales.
template <class S, class T>
requires(Codec<S>::group == no_scale) void widen(const S* x, Index count, T* out) {
  widen(x, count, static_cast<const T*>(nullptr), out);
}

/// out[d · rows + r] = number d of row r, times its scale, for d < dim and r < rows. x is a panel:
/// unit u of row r is x[u · rows + r], and its scale g is scale[g · rows + r].
template <class S, class T>
void widen_panel(const S* x, Index dim, Index rows, [[maybe_unused]] const T* scale, T* out) {
  using Of = Codec<S>;
  constexpr Index numbers = Of::numbers;
  if constexpr (numbers == 1 && Of::group == no_scale) {
    widen(x, dim * rows, out);
  } else {
    const Index whole = Of::template in_registers<T> ? rows / width<T> * width<T> : 0;
    if constexpr (Of::template in_registers<T>)
      for (Index r = 0; r < whole; r += width<T>)
        for (Index g = 0; g < scales<S>(dim); ++g) {
          const Batch<T> factor = load(scale + g * rows + r);
          const Index first = g * (Of::group / numbers),
                      last = std::min(units<S>(dim) - first, Of::group / numbers) + first;
          for (Index u = first; u < last; ++u) {
            Batch<T> x_u[std::size_t(numbers)];
            load_beside<T>(x + u * rows + r, x_u);
            for (Index n = 0; n < numbers && u * numbers + n < dim; ++n)
              (factor * x_u[n]).store_unaligned(out + (u * numbers + n) * rows + r);
          }
        }
    for (Index r = whole; r < rows; ++r)
      for (Index d = 0; d < dim; ++d)
        out[d * rows + r] = scale[scale_of<S>(d) * rows + r] *
                            Of::template number<T>(x[d / numbers * rows + r], d % numbers);
  }
}

}  // namespace heed::inline HEED_ABI::simd
