// SPDX-License-Identifier: MIT
/// @file
/// A view of queries, keys or values in any storage type.
#pragma once

#include "heed/core/shape.hpp"
#include "heed/engine/pack/raw_kv_block.hpp"
#include "heed/engine/quantized.hpp"

namespace heed::inline HEED_ABI::detail {

/// The properties of a storage type S after its type has been erased.
template <class T>
struct StorageTraits {
  using Pair = simd::Bfloat16Pair;
  using Read = void (*)(const void* from, Index stride, const T* scale, Index scale_stride,
                        Index count, Index dim, T* out, Index out_stride);

  bool in_place;               ///< S is T: rows are read without widening
  Index unit_bytes;            ///< sizeof(S)
  Index (*units)(Index dim);   ///< how many S hold a token
  Index (*scales)(Index dim);  ///< how many scales a token has
  bool one_scale;              ///< all numbers of a token have the same scale
  Read read;                   ///< widens `count` tokens
  typename RawKvBlock<T>::RowFunctions row_functions;
  typename RawKvBlock<T, Pair>::RowFunctions pair_row_functions;
};

template <class S, class T>
void read_rows(const void* from, Index stride, const T* scale, Index scale_stride, Index count,
               Index dim, T* out, Index out_stride) {
  for (Index r = 0; r < count; ++r)
    simd::widen(static_cast<const S*>(from) + r * stride, dim,
                scale ? scale + r * scale_stride : nullptr, out + r * out_stride);
}
template <class T, class S>
constexpr typename RawKvBlock<T, simd::Bfloat16Pair>::RowFunctions pair_row_functions() {
  if constexpr (simd::multiplies_bfloat16 && is_bfloat16<S> && std::is_same_v<T, float>)
    return RawKvBlock<T, simd::Bfloat16Pair>::template row_functions<S>();
  else
    return {};
}

template <class T, class S>
inline constexpr StorageTraits<T> storage_traits{
    .in_place = std::is_same_v<S, T>,
    .unit_bytes = sizeof(S),
    .units = simd::units<S>,
    .scales = simd::scales<S>,
    .one_scale = simd::Codec<S>::group == simd::whole_token,
    .read = read_rows<S, T>,
    .row_functions = RawKvBlock<T>::template row_functions<S>(),
    .pair_row_functions = pair_row_functions<T, S>(),
};

/// A [B, G, N, D] tensor of T, of a 16-bit type or quantized, whose rows are read as T.
template <class T>
class StoredTensor {
 public:
  StoredTensor() = default;
  template <class X>
  requires TensorLike<X, 4> && StoredFor<X, T> StoredTensor(const X& tensor) {  // NOLINT: implicit
    using S = ScalarOf<X>;
    const View<const S, 4> x(tensor);
    data_ = x.data(), dims_ = x.dims(), strides_ = x.strides(), units_ = dims_[3];
    traits_ = &storage_traits<T, S>;
  }
  template <class S>
  requires StoredFor<Quantized<T, S>, T> StoredTensor(const Quantized<T, S>& x)  // NOLINT: implicit
      : data_(x.numbers.data()),
        dims_(x.numbers.dims()),
        strides_(x.numbers.strides()),
        units_(dims_[3]),
        scale_(with_groups(x.scale)),
        traits_(&storage_traits<T, S>) {
    dims_[3] = x.dim;
  }

  const Dims<4>& dims() const { return dims_; }
  Index dim(std::size_t d) const { return dims_[d]; }
  /// In units of the storage type.
  Index stride(std::size_t d) const { return strides_[d]; }

  /// True if the storage type is T. If not, rows() widens the rows.
  bool in_place() const { return traits_->in_place; }
  /// The numbers of `count` tokens from token j on. They are stride(2) apart if in_place(); else
  /// they are widened into `scratch`, `scratch_stride` apart.
  const T* rows(Index b, Index g, Index j, Index count, T* scratch, Index scratch_stride) const {
    if (in_place()) return static_cast<const T*>(stored(b, g, j));
    traits_->read(stored(b, g, j), strides_[2], count > 0 ? scales(b, g, j) : nullptr,
                  scale_.stride(2), count, dims_[3], scratch, scratch_stride);
    return scratch;
  }
  const T* row(Index b, Index g, Index j, T* scratch) const { return rows(b, g, j, 1, scratch, 0); }

  /// The address of token j in its storage type.
  const void* stored(Index b, Index g, Index j) const {
    return static_cast<const std::byte*>(data_) +
           traits_->unit_bytes * (b * strides_[0] + g * strides_[1] + j * strides_[2]);
  }
  /// The scale of a token; 1 if it has none or several.
  T scale(Index b, Index g, Index j) const { return has_scale() ? *scales(b, g, j) : T(1); }
  bool has_scale() const { return traits_->one_scale; }
  /// The group scales of the tokens from token j on, if tokens have several scales.
  GroupScales<T> group_scales(Index b, Index g, Index j) const {
    return has_scale() || !scale_ ? GroupScales<T>{}
                                  : GroupScales<T>{scales(b, g, j), scale_.stride(2)};
  }
  /// The functions that multiply the stored rows by operands of type Packed. Pairs multiply only
  /// bfloat16; the functions are null for other storage types.
  template <class Packed>
  const auto& row_functions() const {
    if constexpr (std::is_same_v<Packed, T>)
      return traits_->row_functions;
    else
      return traits_->pair_row_functions;
  }

  /// @throws ShapeError if the numbers or scales do not match the dimensions; `name` is the name of
  ///     the tensor.
  void check(const char* name) const {
    const auto [batch, heads, tokens, dim] = dims_;
    if (const Index wanted = traits_->units(dim); units_ != wanted)
      throw ShapeError("the numbers of ", name, " are ", Dims<4>{batch, heads, tokens, units_},
                       ", should be ", Dims<4>{batch, heads, tokens, wanted}, ": ", dim,
                       " numbers per token");
    const auto refuse = [&](const auto& given, const auto& wanted, const char* rule) {
      throw ShapeError("the scale of ", name, " is ", given, ", should be ", wanted, ": ", rule);
    };
    const Index scales = traits_->scales(dim);
    const Dims<4> given = scale_.dims(), wanted{batch, heads, tokens, scales};
    if (has_scale()) {
      const Dims<3> one{given[0], given[1], given[2]}, token{batch, heads, tokens};
      if (one != token) refuse(one, token, "one scale per token");
    } else if (scales > 0) {
      if (given != wanted) refuse(given, wanted, "one scale per group of a token's numbers");
      if (scales > 1 && scale_.stride(3) != 1)
        throw ShapeError("the scale of ", name, " has stride ", scale_.stride(3),
                         " along its last dimension, which must be contiguous");
    }
  }

 private:
  const T* scales(Index b, Index g, Index j) const {
    return scale_ ? scale_.row(b, g, j) : nullptr;
  }
  static View<const T, 4> with_groups(const View<const T, 4>& scale) { return scale; }
  static View<const T, 4> with_groups(const View<const T, 3>& scale) {
    if (!scale) return {};
    const auto &dims = scale.dims(), &strides = scale.strides();
    return {scale.data(), {dims[0], dims[1], dims[2], 1}, {strides[0], strides[1], strides[2], 1}};
  }

  const void* data_ = nullptr;
  Dims<4> dims_{}, strides_{};
  Index units_ = 0;  ///< units per token that the caller gave
  View<const T, 4> scale_{};
  const StorageTraits<T>* traits_ = &storage_traits<T, T>;
};

}  // namespace heed::inline HEED_ABI::detail
