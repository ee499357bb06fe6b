// SPDX-License-Identifier: MIT
/// @file
/// Packs keys and values block by block, just before they are read.
#pragma once

#include "heed/engine/pack/packed_kv.hpp"

namespace heed::inline HEED_ABI::detail {

/// Packs the current key block on the fly, for keys that are read only once. A few rows read the
/// block unpacked.
template <class T, class B>
class KvPacker {
  using Config = TileConfig<T, B>;
  using Packed = typename Config::Packed;
  using Scratch = PackScratch<T, Packed>;
  using Stored = RawKvBlock<T, Packed>;

 public:
  KvPacker() = default;
  /// @param scratch  holds panel_keys tokens.
  KvPacker(const StoredTensor<T>& k, const StoredTensor<T>& v, bool scales_values,
           const Scratch& scratch, Arena& arena)
      : k_(k),
        v_(v),
        columns_(round_up(v.dim(3), simd::width<T>)),
        scales_values_(scales_values || v.has_scale()),
        copies_(needs_copy<Packed>(v, scales_values)),
        scratch_(scratch) {
    panels_ = arena.take<Packed>(Config::block_keys * simd::operands<Packed>(k.dim(3)));
    values_ = arena.take<Packed>(copies_ ? Config::block_keys / Config::numbers * columns_ : 0);
    finite_ = arena.take<std::uint8_t>(1);
    key_scale_ = arena.take<T>(2 * Config::block_keys);
    stored_ = arena.take<Stored>(1);
  }

  /// Keys [first, last) of one head, to be read by `rows` rows; valid until the next call.
  template <class V>
  KvTile<T, Packed> operator()(const V& variant, Index b, Index g, Index first, Index last,
                               Index rows) const {
    const Index keys = last - first;
    if (rows <= max_gemv_rows) {
      T* value_scale = key_scale_ + Config::block_keys;
      for (Index j = 0; j < keys; ++j)
        key_scale_[j] = hook::key_factor(variant, k_.scale(b, g, first + j), b, g, first + j);
      for (Index j = 0; scales_values_ && j < keys; ++j)
        value_scale[j] = hook::value_factor(variant, v_.scale(b, g, first + j), b, g, first + j);
      *stored_ = {.keys = k_.stored(b, g, first),
                  .values = v_.stored(b, g, first),
                  .key_stride = k_.stride(2),
                  .value_stride = v_.stride(2),
                  .key_scale = key_scale_,
                  .value_scale = scales_values_ ? value_scale : nullptr,
                  .key_groups = k_.group_scales(b, g, first),
                  .value_groups = v_.group_scales(b, g, first),
                  .dot = k_.template row_functions<Packed>().dot,
                  .add = v_.template row_functions<Packed>().add};
      return {first, last, nullptr, {}, stored_};
    }
    pack_panels(
        k_, b, g, first, round_up(keys, Config::panel_keys), Config::panel_keys,
        [&](Index, Index, Index j) { return hook::key_factor(variant, T(1), b, g, j); }, scratch_,
        panels_, Config::numbers > 1 ? key_scale_ : nullptr);
    if constexpr (std::is_same_v<Packed, T>)
      if (!copies_) {
        const T* values = v_.row(b, g, first, nullptr);
        *finite_ = simd::all_finite(values, v_.stride(2), keys, v_.dim(3));
        return {first, last, panels_, {values, v_.stride(2), finite_}};
      }
    *finite_ = pack_rows(
        v_, b, g, first, keys, columns_,
        [&](Index, Index, Index j) { return hook::value_factor(variant, T(1), b, g, j); },
        scratch_.rows, values_);
    return {first,   last,
            panels_, {values_, columns_, finite_},
            nullptr, Config::numbers > 1 ? key_scale_ : nullptr};
  }

 private:
  StoredTensor<T> k_, v_;
  Index columns_ = 0;
  bool scales_values_ = false, copies_ = false;
  Scratch scratch_;
  Packed *panels_ = nullptr, *values_ = nullptr;
  T* key_scale_ = nullptr;  ///< [2][block_keys] scales of the keys, then of the values
  Stored* stored_ = nullptr;
  std::uint8_t* finite_ = nullptr;
};

}  // namespace heed::inline HEED_ABI::detail
