// SPDX-License-Identifier: MIT
/// @file
/// [B, H, Nq, Nk] tensors with dimensions that may be 1.
#pragma once

#include "heed/score/stage.hpp"

namespace heed::inline HEED_ABI::detail {

/// The view with sizes of the call, and stride 0 along dimensions of size 1.
/// @throws ShapeError if another dimension differs from the call.
template <class T>
View<T, 4> broadcast(const char* what, const View<T, 4>& x, const Shape& s) {
  const Dims<4> wanted{s.batch, s.heads, s.queries, s.keys};
  Dims<4> strides = x.strides();
  for (std::size_t d = 0; d < 4; ++d) {
    if (x.dim(d) == 1) strides[d] = 0;
    if (x.dim(d) != 1 && x.dim(d) != wanted[d])
      throw ShapeError(what, " is ", x.dims(), ", must be or broadcast to ", wanted);
  }
  return {x.data(), wanted, strides};
}

/// Pointer to element `key` of a row.
template <class T>
HEED_INLINE T* row_at(const View<T, 4>& x, Index batch, Index head, Index row, Index key) {
  return x.data() + batch * x.stride(0) + head * x.stride(1) + row * x.stride(2) +
         key * x.stride(3);
}

}  // namespace heed::inline HEED_ABI::detail
