// SPDX-License-Identifier: MIT
/// @file
/// A block of keys and values that kernels read unpacked.
#pragma once

#include "heed/engine/blocking.hpp"
#include "heed/simd/stored_rows.hpp"

namespace heed::inline HEED_ABI::detail {

/// The scales of groups of a token's numbers. The scales of consecutive tokens are `stride` apart.
/// Null if tokens have no scales of groups.
template <class T>
struct GroupScales {
  const T* data = nullptr;
  Index stride = 0;
};

/// A block of keys and values in the caller's storage type, for a few rows that read each number
/// once. Queries and weights are packed as operands. Only the two functions `dot` and `add` know
/// the storage type, so that the code that calls them is compiled once for all types.
template <class T, class Packed = T>
struct RawKvBlock {
  using Queries = simd::Queries<Packed>;

  /// out[r · out_stride + j] = key_scale[j] · q_r · k_j, for the keys [first, first + count) of the
  /// block.
  using Dot = void (*)(const RawKvBlock&, const Queries& q, Index first, Index count, T* out,
                       Index out_stride);
  /// out_r += Σ_j p[r · p_stride + j] v_j over the same range; the caller applies value_scale.
  using Add = void (*)(const RawKvBlock&, const Packed* p, Index p_stride, Index rows, Index first,
                       Index count, Index dim, T* out, Index out_stride);

  /// Both functions, for tokens that are stored row by row.
  struct RowFunctions {
    Dot dot = nullptr;
    Add add = nullptr;
  };
  template <class S>
  static constexpr RowFunctions row_functions() {
    return {dot_rows<S>, add_rows<S>};
  }

  const void *keys = nullptr, *values = nullptr;
  Index key_stride = 0, value_stride = 0;  ///< units from token to token, or from panel to panel
  const T *key_scale = nullptr, *value_scale = nullptr;  ///< scale of each token, or null
  GroupScales<T> key_groups{}, value_groups{};
  Dot dot = nullptr;
  Add add = nullptr;

  template <class S>
  static void dot_rows(const RawKvBlock& x, const Queries& q, Index first, Index count, T* out,
                       Index out_stride) {
    const auto keys = rows<S>(x.keys, x.key_stride, x.key_groups, first);
    simd::dot_rows(q, keys, count, x.key_scale + first, out, out_stride);
  }
  /// `first` must start a panel. key_scale holds all scales of a key, whether one or several.
  template <int Vectors, class S>
  static void dot_panels(const RawKvBlock& x, const Queries& q, Index first, Index count, T* out,
                         Index out_stride) {
    constexpr Index panel_keys = Vectors * simd::width<T>;
    simd::dot_panels<Vectors>(
        q, static_cast<const S*>(x.keys) + first / panel_keys * x.key_stride, x.key_stride, count,
        x.key_scale ? x.key_scale + first * simd::scales<S>(q.dim) : nullptr, out, out_stride);
  }
  template <class S>
  static void add_rows(const RawKvBlock& x, const Packed* p, Index p_stride, Index rows,
                       Index first, Index count, Index dim, T* out, Index out_stride) {
    const auto values = RawKvBlock::rows<S>(x.values, x.value_stride, x.value_groups, first);
    simd::add_rows(p, p_stride, rows, values, count, dim, out, out_stride);
  }

 private:
  template <class S>
  static simd::StoredRows<T, S> rows(const void* units, Index stride, const GroupScales<T>& groups,
                                     Index first) {
    return {static_cast<const S*>(units) + first * stride, stride,
            groups.data ? groups.data + first * groups.stride : nullptr, groups.stride};
  }
};

}  // namespace heed::inline HEED_ABI::detail
