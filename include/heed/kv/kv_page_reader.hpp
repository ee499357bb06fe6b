// SPDX-License-Identifier: MIT
/// @file
/// Pages as tiles of keys and values.
#pragma once

#include "heed/engine/tile/forward_tile.hpp"
#include "heed/kv/kv_slots.hpp"

namespace heed::inline HEED_ABI::detail {

/// Reads the pages of a cache, with the scratch of one worker.
template <class T, class S>
class PageReader {
  using Config = KvConfig<T, S>;
  using Tile = typename Config::Tile;
  using Codec = simd::Codec<S>;
  using Stored = RawKvBlock<T>;

 public:
  using Block = KvTile<T>;

  PageReader(const Config& config, Arena& arena) : config_(&config) {
    constexpr Index widened = std::is_same_v<S, T> ? 0 : Tile::block_keys;
    panels_ = arena.take<T>(widened * config.layout().dim);
    values_ = arena.take<T>(widened * config.layout().columns);
    stored_ = arena.take<Stored>(1);
  }

  /// Calls visit(KV tile) for each page of a key head. If `few_rows`, keys and values are read as
  /// they are stored; else as T, values only if `with_values`.
  template <class Visit>
  void each_page(const KvSlots<T>& s, Index head_of_part, bool few_rows, bool with_values,
                 Visit&& visit) const {
    const auto& layout = config_->layout();
    const Index columns = layout.columns;
    for (Index first = 0; first < s.slots; first += layout.slots) {
      const Index last = std::min(first + layout.slots, s.slots),
                  at = SlotPlace<T, S>(*config_, head_of_part, first).page;
      const Page& page = s.pages[std::size_t(at)];
      const std::uint8_t* const finite = s.finite.data() + at;
      if (few_rows) {
        *stored_ = as_stored(page);
        visit(Block{first, last, nullptr, {}, stored_});
      } else if constexpr (std::is_same_v<S, T>) {
        visit(Block{first, last, layout.keys_of(page), {layout.values_of(page), columns, finite}});
      } else {
        widen(page, last - first, with_values);
        visit(Block{first, last, panels_, {values_, columns, finite}});
      }
    }
  }

 private:
  Stored as_stored(const Page& page) const {
    const auto& layout = config_->layout();
    constexpr bool scaled = Codec::group != simd::no_scale, groups = simd::has_groups<S>;
    const T* const value_scales = scaled ? layout.value_scales_of(page) : nullptr;
    return {.keys = layout.keys_of(page),
            .values = layout.values_of(page),
            .key_stride = Tile::panel_keys * simd::units<S>(layout.dim),
            .value_stride = simd::units<S>(layout.columns),
            .key_scale = scaled ? layout.key_scales_of(page) : nullptr,
            .value_scale = groups ? nullptr : value_scales,
            .key_groups = {},
            .value_groups = {groups ? value_scales : nullptr, simd::scales<S>(layout.value_dim)},
            .dot = Stored::template dot_panels<Tile::panel_vectors, S>,
            .add = Stored::template add_rows<S>};
  }
  /// Widens the first keys of a page and, if with_values is true, their values.
  void widen(const Page& page, Index keys, bool with_values) const {
    const auto& layout = config_->layout();
    constexpr bool scaled = Codec::group != simd::no_scale;
    for (Index j = 0; j < keys; j += Tile::panel_keys)
      simd::widen_panel(layout.key_of(page, j), layout.dim, Index(Tile::panel_keys),
                        scaled ? layout.key_scale_of(page, j) : nullptr, panels_ + j * layout.dim);
    for (Index j = 0; j < keys && with_values; ++j)
      simd::widen(layout.value_of(page, j), layout.columns,
                  scaled ? layout.value_scale_of(page, j) : nullptr, values_ + j * layout.columns);
  }

  const Config* config_;
  T *panels_, *values_;  ///< a page widened to T, unless S is T
  Stored* stored_;       ///< a page to read as it is stored
};

}  // namespace heed::inline HEED_ABI::detail
