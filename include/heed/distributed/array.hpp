// SPDX-License-Identifier: MIT
/// @file
/// Tensors that a distributed call owns, and parts of tensors.
#pragma once

#include "heed/core/vector.hpp"
#include "heed/core/views.hpp"

namespace heed::inline HEED_ABI::distributed::detail {

/// A row-major tensor.
template <class T, std::size_t Rank>
class Array {
 public:
  Array() = default;
  explicit Array(const Dims<Rank>& dims, T value = T()) : dims_(dims) {
    Index size = 1;
    for (const Index n : dims) size *= n;
    numbers_.assign(std::size_t(size), value);
  }

  View<T, Rank> view() { return {numbers_.data(), dims_}; }
  View<const T, Rank> view() const { return {numbers_.data(), dims_}; }

 private:
  Dims<Rank> dims_{};
  Vector<T> numbers_;
};

/// The entries first … first + count − 1 along an axis.
template <class T, std::size_t Rank>
View<T, Rank> slice(const View<T, Rank>& x, std::size_t axis, Index first, Index count) {
  Dims<Rank> dims = x.dims();
  dims[axis] = count;
  // An empty tensor may have null data, to which nothing can be added.
  return {count == 0 ? x.data() : x.data() + first * x.stride(axis), dims, x.strides()};
}

/// Calls visit(b, h, i) for each row of a tensor [B, H, N, D].
template <class T, class Visit>
void each_row(const View<T, 4>& x, Visit&& visit) {
  for (Index b = 0; b < x.dim(0); ++b)
    for (Index h = 0; h < x.dim(1); ++h)
      for (Index i = 0; i < x.dim(2); ++i) visit(b, h, i);
}

/// to ← to + x, both [B, H, N, D].
template <class T>
void add(const View<T, 4>& to, const View<const T, 4>& x) {
  each_row(to, [&](Index b, Index h, Index i) {
    for (Index d = 0; d < to.dim(3); ++d) to(b, h, i, d) += x(b, h, i, d);
  });
}

}  // namespace heed::inline HEED_ABI::distributed::detail
