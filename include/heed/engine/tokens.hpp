// SPDX-License-Identifier: MIT
/// @file Queries, keys or values as the caller stores them.
#pragma once

#include "heed/core/shape.hpp"
#include "heed/engine/stored_block.hpp"

namespace heed::inline HEED_ABI::detail {

/// A [B, G, N, D] tensor of T, of 16 bits or quantized, whose rows are read as T.
template <class T>
class Tokens {
  template <class Packed>
  using ByRows = typename StoredBlock<T, Packed>::ByRows;
  using Pair = simd::Bfloat16Pair;

 public:
  Tokens() = default;
  template <class X>
  requires TensorLike<X, 4> && StoredFor<X, T> Tokens(const X& tensor) {  // NOLINT: implicit
    using S = ScalarOf<X>;
    const View<const S, 4> x(tensor);
    data_ = x.data(), dims_ = x.dims(), strides_ = x.strides(), size_ = sizeof(S);
    by_rows_ = StoredBlock<T>::template by_rows<S>();
    if constexpr (simd::multiplies_bfloat16 && is_bfloat16<S> && std::is_same_v<T, float>)
      pairs_by_rows_ = StoredBlock<T, Pair>::template by_rows<S>();
    if constexpr (!std::is_same_v<S, T>)
      read_ = [](const Tokens& self, Index at, const T*, Index count, T* out, Index out_stride) {
        const S* from = static_cast<const S*>(self.data_) + at;
        for (Index r = 0; r < count; ++r)
          simd::widen(from + r * self.stride(2), self.dim(3), out + r * out_stride);
      };
  }
  Tokens(const Quantized<T>& x)  // NOLINT: implicit on purpose
      : data_(x.numbers.data()),
        dims_(x.numbers.dims()),
        strides_(x.numbers.strides()),
        scale_(x.scale),
        size_(1),
        by_rows_(StoredBlock<T>::template by_rows<std::int8_t>()),
        read_([](const Tokens& self, Index at, const T* scale, Index count, T* out,
                 Index out_stride) {
          const std::int8_t* from = static_cast<const std::int8_t*>(self.data_) + at;
          for (Index r = 0; r < count; ++r)
            simd::widen(from + r * self.stride(2), self.dim(3), scale[r * self.scale_.stride(2)],
                        out + r * out_stride);
        }) {}

  const Dims<4>& dims() const { return dims_; }
  Index dim(std::size_t d) const { return dims_[d]; }
  Index stride(std::size_t d) const { return strides_[d]; }

  /// Are rows where they are, in T? Else rows() widens them.
  bool in_place() const { return read_ == nullptr; }
  /// Token j's numbers, and those of `count` − 1 behind it, stride(2) apart where they are in
  /// place; else they are widened into `room`, `room_stride` apart.
  const T* rows(Index b, Index g, Index j, Index count, T* room, Index room_stride) const {
    const Index at = b * strides_[0] + g * strides_[1] + j * strides_[2];
    if (in_place()) return static_cast<const T*>(data_) + at;
    read_(*this, at, is_quantized() && count > 0 ? &scale_(b, g, j) : nullptr, count, room,
          room_stride);
    return room;
  }
  const T* row(Index b, Index g, Index j, T* room) const { return rows(b, g, j, 1, room, 0); }

  /// The same where they are, be they narrow; a token's scale, if it has one.
  const void* stored(Index b, Index g, Index j) const {
    return static_cast<const std::byte*>(data_) +
           size_ * (b * strides_[0] + g * strides_[1] + j * strides_[2]);
  }
  T scale(Index b, Index g, Index j) const { return is_quantized() ? scale_(b, g, j) : T(1); }
  bool is_quantized() const { return size_ == 1; }
  /// What multiplies them by queries or weights that are Packed; pairs multiply bfloat16 alone, for
  /// all else there is nothing.
  template <class Packed>
  const ByRows<Packed>& by_rows() const {
    if constexpr (std::is_same_v<Packed, T>)
      return by_rows_;
    else
      return pairs_by_rows_;
  }

  /// @throws ShapeError if the scales are not one a token.
  void check(const char* what) const {
    if (is_quantized())
      expect_dims(what, scale_.dims(), {dims_[0], dims_[1], dims_[2]}, "one scale per token");
  }

 private:
  const void* data_ = nullptr;
  Dims<4> dims_{}, strides_{};
  View<const T, 3> scale_{};
  Index size_ = 0;  ///< bytes of a number
  ByRows<T> by_rows_;
  ByRows<Pair> pairs_by_rows_;
  void (*read_)(const Tokens&, Index at, const T* scale, Index count, T* out,
                Index out_stride) = nullptr;
};

}  // namespace heed::inline HEED_ABI::detail
