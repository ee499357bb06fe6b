// SPDX-License-Identifier: MIT
/// @file
/// The library's view of a tensor: a pointer, sizes and strides, all 64-bit.
#pragma once

#include "heed/core/error.hpp"

#include <array>
#include <cassert>
#include <concepts>
#include <cstddef>
#include <type_traits>
#include <utility>

namespace heed::inline HEED_ABI {

using Index = std::ptrdiff_t;

template <std::size_t Rank>
using Dims = std::array<Index, Rank>;

/// The strides of a row-major tensor without gaps. They are unspecified if the product of the sizes
/// overflows; every call rejects such sizes.
template <std::size_t Rank>
constexpr Dims<Rank> row_major(const Dims<Rank>& dims) {
  Dims<Rank> strides{};
  std::size_t stride = 1;
  for (std::size_t d = Rank; d-- > 0; stride *= std::size_t(dims[d])) strides[d] = Index(stride);
  return strides;
}

/// The interface that Eigen::Tensor and Eigen::TensorMap share, stated without including them.
template <class X, std::size_t Rank>
concept EigenTensor = requires(X& x) {
  x.data();
  { x.dimensions()[0] } -> std::convertible_to<Index>;
  requires std::size_t(std::remove_cvref_t<X>::NumDimensions)
  == Rank;
  typename std::remove_cvref_t<X>::Scalar;
  std::remove_cvref_t<X>::Layout;
};

/// A tensor that owns its numbers: an Eigen::Tensor can be resized, a TensorMap cannot.
template <class X>
concept OwningTensor = requires(X& x) {
  x.resize(x.dimensions());
};

/// A strided tensor that the view does not own. T may be const.
template <class T, std::size_t Rank>
class View {
 public:
  using Scalar = std::remove_const_t<T>;
  static constexpr std::size_t rank = Rank;

  View() = default;  ///< Refers to nothing; `if (view)` is false.
  View(T* data, const Dims<Rank>& dims) : View(data, dims, row_major(dims)) {}
  View(T* data, const Dims<Rank>& dims, const Dims<Rank>& strides)
      : data_(data), dims_(dims), strides_(strides), given_(true) {}

  /// Views a row-major Eigen::Tensor or Eigen::TensorMap without a copy.
  template <class X>
  requires EigenTensor<X, Rank> && std::convertible_to<decltype(std::declval<X&>().data()), T*>
  View(X&& tensor) : data_(tensor.data()), given_(true) {  // NOLINT: implicit on purpose
    static_assert(std::is_lvalue_reference_v<X> || !OwningTensor<X>,
                  "heed: this tensor would be gone before it is read; give it a name");
    // Eigen's RowMajor bit, written as a number so that this header need not include Eigen.
    static_assert((int(std::remove_cvref_t<X>::Layout) & 1) == 1,
                  "heed takes row-major tensors: Eigen::Tensor<T, Rank, Eigen::RowMajor>");
    for (std::size_t d = 0; d < Rank; ++d) dims_[d] = Index(tensor.dimensions()[d]);
    strides_ = row_major(dims_);
  }

  /// A view of mutable numbers converts to a view of constant ones.
  template <class U>
  requires std::same_as<const U, T> &&
      (!std::is_const_v<U>)View(const View<U, Rank>& other)  // NOLINT: implicit on purpose
      : data_(other.data()), dims_(other.dims()), strides_(other.strides()), given_(bool(other)) {}

  T* data() const { return data_; }
  const Dims<Rank>& dims() const { return dims_; }
  const Dims<Rank>& strides() const { return strides_; }
  Index dim(std::size_t d) const { return dims_[d]; }
  Index stride(std::size_t d) const { return strides_[d]; }
  /// True if the view refers to a tensor, which may be empty.
  explicit operator bool() const { return given_; }

  Index size() const {
    Index n = 1;
    for (Index d : dims_) n *= d;
    return n;
  }

  template <class... I>
  requires(sizeof...(I) == Rank) T& operator()(I... index) const {
    const Dims<Rank> at{Index(index)...};
    Index offset = 0;
    for (std::size_t d = 0; d < Rank; ++d) {
      assert(0 <= at[d] && at[d] < dims_[d]);
      offset += at[d] * strides_[d];
    }
    return data_[offset];
  }

  /// The start of the row with these leading indices; the row itself may be empty.
  template <class... I>
  requires(sizeof...(I) + 1 == Rank) T* row(I... index) const {
    const std::array<Index, Rank - 1> at{Index(index)...};
    T* start = data_;
    for (std::size_t d = 0; d + 1 < Rank; ++d) {
      assert(0 <= at[d] && at[d] < dims_[d]);
      start += at[d] * strides_[d];
    }
    return start;
  }

 private:
  T* data_ = nullptr;
  Dims<Rank> dims_{};
  Dims<Rank> strides_{};
  bool given_ = false;
};

/// Views a [B, N, H, D] or [B, N, H·D] buffer as [B, H, N, D], without a copy.
template <class T>
View<T, 4> bnhd(T* data, Index batch, Index tokens, Index heads, Index dim) {
  const Dims<4> strides = row_major(Dims<4>{batch, tokens, heads, dim});
  return {data, {batch, heads, tokens, dim}, {strides[0], strides[2], strides[1], 1}};
}

namespace detail {

template <class X>
struct ViewOf;
template <class X>
requires requires {
  typename X::Scalar;
  X::NumDimensions;
}
struct ViewOf<X> {
  using Scalar = std::remove_const_t<typename X::Scalar>;
  static constexpr std::size_t rank = X::NumDimensions;
};
template <class T, std::size_t R>
struct ViewOf<View<T, R>> {
  using Scalar = std::remove_const_t<T>;
  static constexpr std::size_t rank = R;
};

}  // namespace detail

/// The number type of a tensor or view.
template <class X>
using ScalarOf = typename detail::ViewOf<std::remove_cvref_t<X>>::Scalar;

/// The types that can be passed as a tensor of this rank.
template <class X, std::size_t Rank>
concept TensorLike = requires {
  typename ScalarOf<X>;
}
&&detail::ViewOf<std::remove_cvref_t<X>>::rank == Rank;

/// @throws ShapeError unless dims == wanted; `what` names the tensor, `wanted_by` the rule.
template <std::size_t Rank>
void expect_dims(const char* what, const Dims<Rank>& dims, const Dims<Rank>& wanted,
                 const char* wanted_by) {
  if (dims != wanted) throw ShapeError(what, " is ", dims, ", should be ", wanted, ": ", wanted_by);
}

}  // namespace heed::inline HEED_ABI
