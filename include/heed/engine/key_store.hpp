// SPDX-License-Identifier: MIT
/// @file Keys and values of one key head, in the order the engine reads them in.
#pragma once

#include "heed/engine/blocking.hpp"
#include "heed/score/stage.hpp"
#include "heed/simd/pack.hpp"

namespace heed::inline HEED_ABI::detail {

/// Not owning. Panels go on to the end of a key block, zero behind the last key.
template <class T>
struct KeyStore {
  const T* panels = nullptr;  ///< [⌈Nk / panel_keys⌉][D][panel_keys]
  const T* values = nullptr;  ///< [Nk] rows of value_columns numbers, value_stride apart
  Index value_stride = 0;
  const std::uint8_t* finite = nullptr;  ///< per key block: is every value finite?
};

/// Packs all key heads of a call.
template <class T, class B>
class PackedKeys {
  using Tile = Tiles<T, B>;

 public:
  PackedKeys() = default;

  /// Values are packed only if they must be: when a stage scales them, or when a row does not end
  /// with a register.
  PackedKeys(const View<const T, 4>& k, const View<const T, 4>& v, bool scales_values, Arena& arena)
      : k_(k), v_(v), blocks_((k.dim(2) + Tile::block_keys - 1) / Tile::block_keys) {
    packs_values_ = scales_values || v.dim(3) % simd::width<T> != 0;
    columns_ = round_up(v.dim(3), simd::width<T>);
    const Index heads = k.dim(0) * k.dim(1), keys = blocks_ * Tile::block_keys;
    panels_ = arena.take<T>(heads * keys * k.dim(3));
    finite_ = arena.take<std::uint8_t>(heads * blocks_);
    if (packs_values_) values_ = arena.take<T>(heads * k.dim(2) * columns_);
  }

  /// Pieces that can be packed independently.
  Index tasks() const { return k_.dim(0) * k_.dim(1) * blocks_; }

  template <class V>
  void pack(Index task, const V& variant) const {
    const Index block = task % blocks_, head = task / blocks_ % k_.dim(1),
                batch = task / blocks_ / k_.dim(1);
    const Index first = block * Tile::block_keys,
                last = std::min(first + Tile::block_keys, k_.dim(2)), dim = k_.dim(3);
    T* panels = panels_ + (batch * k_.dim(1) + head) * blocks_ * Tile::block_keys * dim;
    for (Index key = first; key < first + Tile::block_keys; key += Tile::panel_keys) {
      const Index rows = std::clamp<Index>(last - key, 0, Tile::panel_keys);
      simd::pack_panel([&](Index r) { return &k_(batch, head, key + r, 0); }, rows, dim,
                       Tile::panel_keys,
                       [&](Index r) { return variant.key_factor(T(1), batch, head, key + r); },
                       panels + key * dim);
    }
    const T* v = v_.data() + batch * v_.stride(0) + head * v_.stride(1) + first * v_.stride(2);
    finite_[(batch * k_.dim(1) + head) * blocks_ + block] =
        simd::all_finite(v, v_.stride(2), last - first, v_.dim(3));
    if (packs_values_)
      simd::pack_rows(
          v, v_.stride(2), last - first, v_.dim(3),
          [&](Index r) { return variant.value_factor(T(1), batch, head, first + r); },
          values_ + ((batch * k_.dim(1) + head) * k_.dim(2) + first) * columns_, columns_);
  }

  KeyStore<T> operator()(Index batch, Index head) const {
    const Index which = batch * k_.dim(1) + head;
    KeyStore<T> store;
    store.panels = panels_ + which * blocks_ * Tile::block_keys * k_.dim(3);
    store.finite = finite_ + which * blocks_;
    store.values = packs_values_ ? values_ + which * k_.dim(2) * columns_
                                 : v_.data() + batch * v_.stride(0) + head * v_.stride(1);
    store.value_stride = packs_values_ ? columns_ : v_.stride(2);
    return store;
  }

 private:
  View<const T, 4> k_, v_;
  Index blocks_ = 0, columns_ = 0;
  bool packs_values_ = false;
  T* panels_ = nullptr;
  T* values_ = nullptr;
  std::uint8_t* finite_ = nullptr;
};

}  // namespace heed::inline HEED_ABI::detail
