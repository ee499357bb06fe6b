// SPDX-License-Identifier: MIT
/// @file
/// Pages as tiles of keys and values.
#pragma once

#include "heed/engine/tile/forward_tile.hpp"
#include "heed/kv/kv_slots.hpp"
#include "heed/score/rotary_turn.hpp"

#include <cmath>

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
    const Index panels = config.options.rotary ? Index(Tile::block_keys) : widened;
    panels_ = arena.take<T>(panels * config.layout().dim);
    mean_ = arena.take<T>(config.options.evict.uses_keys() ? config.layout().dim : 0);
    values_ = arena.take<T>(widened * config.layout().columns);
    stored_ = arena.take<Stored>(1);
  }

  /// Calls visit(KV tile) for each page of a key head. If `few_rows`, keys and values are read as
  /// they are stored; else as T, values only if `with_values`.
  ///
  /// @param turns  cosines and sines of all slots, in panels, by which keys are turned; or null.
  template <class Visit>
  void each_page(const KvSlots<T>& s, Index head_of_part, bool few_rows, bool with_values,
                 const RotaryRow<T>& turns, Visit&& visit) const {
    const auto& layout = config_->layout();
    const Index columns = layout.columns;
    for (Index first = 0; first < s.slots; first += layout.slots) {
      const Index last = std::min(first + layout.slots, s.slots),
                  at = SlotPlace<T, S>(*config_, head_of_part, first).page;
      const Page& page = s.pages[std::size_t(at)];
      const std::uint8_t* const finite = s.finite.data() + at;
      if (few_rows) {
        *stored_ = as_stored(page);
        if (turns.cosine) turn(page, first, last - first, turns), read_turned(*stored_);
        visit(Block{first, last, nullptr, {}, stored_});
      } else if constexpr (std::is_same_v<S, T>) {
        if (turns.cosine) turn(page, first, last - first, turns);
        visit(Block{first,
                    last,
                    turns.cosine ? panels_ : layout.keys_of(page),
                    {layout.values_of(page), columns, finite}});
      } else {
        if (turns.cosine)
          turn(page, first, last - first, turns);
        else
          widen_keys(page, 0, last - first);
        if (with_values) widen_values(page, last - first);
        visit(Block{first, last, panels_, {values_, columns, finite}});
      }
    }
  }

  /// similarity[j] = Σ_heads cos(k_j, mean), over the key heads of the part, where mean is that of
  /// k / |k| over the tokens held. It is 0 for slots without a token, and for keys that are zero or
  /// whose square is not finite. `inverse` is scratch; both are [slots, padded to registers].
  void similarities(const KvSlots<T>& s, T* inverse, T* similarity) const {
    std::fill_n(similarity, s.slots, T(0));
    for (Index head = 0; head < config_->part_heads(); ++head) {
      std::fill_n(mean_, config_->layout().dim, T(0));
      each_page(s, head, false, false, {},
                [&](const Block& block) { add_directions(s, block, inverse); });
      scale_to_one(mean_, config_->layout().dim);
      each_page(s, head, false, false, {},
                [&](const Block& block) { add_cosines(block, inverse, similarity); });
    }
  }

 private:
  static constexpr Index beside = Tile::panel_keys;
  static constexpr bool scaled = Codec::group != simd::no_scale;
  /// Number 0 of the keys from j on, a multiple of the register width; the others are `beside`
  /// apart.
  const T* keys_at(const Block& block, Index j) const {
    return block.panels + j / beside * beside * config_->layout().dim + j % beside;
  }
  /// Adds the directions of a page's keys to the mean, and keeps the inverse of each key's length.
  void add_directions(const KvSlots<T>& s, const Block& block, T* inverse) const {
    const Index dim = config_->layout().dim;
    for (Index j = 0; j < block.last - block.first; j += simd::width<T>) {
      const T* const keys = keys_at(block, j);
      T* const of_length = inverse + block.first + j;
      Batch<T> squares(T(0));
      for (Index i = 0; i < dim; ++i) {
        const Batch<T> x = simd::load(keys + i * beside);
        squares = simd::fma(x, x, squares);
      }
      squares.store_unaligned(of_length);
      for (Index lane = 0; lane < simd::width<T>; ++lane) {
        const Index slot = block.first + j + lane;
        const bool counts = slot < block.last && s.holds(slot) &&
                            simd::is_finite(of_length + lane) && of_length[lane] > T(0);
        of_length[lane] = counts ? T(1) / std::sqrt(of_length[lane]) : T(0);
      }
      const Batch<T> factor = simd::load(of_length);
      for (Index i = 0; i < dim; ++i)
        mean_[i] += simd::reduce_add(times_if_counted(factor, simd::load(keys + i * beside)));
    }
  }
  void add_cosines(const Block& block, const T* inverse, T* similarity) const {
    const Index dim = config_->layout().dim;
    for (Index j = 0; j < block.last - block.first; j += simd::width<T>) {
      const T* const keys = keys_at(block, j);
      T* const to = similarity + block.first + j;
      Batch<T> sum(T(0));
      for (Index i = 0; i < dim; ++i)
        sum = simd::fma(Batch<T>(mean_[i]), simd::load(keys + i * beside), sum);
      (simd::load(to) + times_if_counted(simd::load(inverse + block.first + j), sum))
          .store_unaligned(to);
    }
  }
  /// A key that does not count may hold NaN, which a factor of 0 would not remove.
  static Batch<T> times_if_counted(const Batch<T>& factor, const Batch<T>& x) {
    return simd::select(factor > Batch<T>(T(0)), factor * x, Batch<T>(T(0)));
  }
  static void scale_to_one(T* x, Index count) {
    T squares = T(0);
    for (Index i = 0; i < count; ++i) squares += x[i] * x[i];
    for (Index i = 0; i < count && squares > T(0); ++i) x[i] /= std::sqrt(squares);
  }

  Stored as_stored(const Page& page) const {
    const auto& layout = config_->layout();
    constexpr bool groups = simd::has_groups<S>;
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
  /// Keys of a page, in panels, as T.
  void widen_keys(const Page& page, Index first, Index last) const {
    const auto& layout = config_->layout();
    for (Index j = first; j < last; j += beside)
      simd::widen_panel(layout.key_of(page, j), layout.dim, beside,
                        scaled ? layout.key_scale_of(page, j) : nullptr, panels_ + j * layout.dim);
  }
  void widen_values(const Page& page, Index count) const {
    const auto& layout = config_->layout();
    for (Index j = 0; j < count; ++j)
      simd::widen(layout.value_of(page, j), layout.columns,
                  scaled ? layout.value_scale_of(page, j) : nullptr, values_ + j * layout.columns);
  }
  /// The first keys of a page, which begins with slot `slot`, as T and turned.
  void turn(const Page& page, Index slot, Index count, const RotaryRow<T>& turns) const {
    const auto& layout = config_->layout();
    const KvRotary& rotary = *config_->options.rotary;
    const Index half = rotary.dims() / 2;
    for (Index j = 0; j < count; j += beside) {
      T* const to = panels_ + j * layout.dim;
      const T* from = to;
      if constexpr (std::is_same_v<S, T>)
        from = layout.key_of(page, j);
      else
        widen_keys(page, j, j + beside);
      const Index at = (slot + j) * half;
      turn_panel(from, layout.dim, beside, rotary.pairs(), half,
                 {turns.cosine + at, turns.sine + at}, to);
    }
  }
  /// Keys are read from the panels, values as they are stored.
  void read_turned(Stored& page) const {
    page.keys = panels_, page.key_stride = beside * config_->layout().dim;
    page.key_scale = nullptr;
    page.dot = Stored::template dot_panels<Tile::panel_vectors, T>;
  }

  const Config* config_;
  T *panels_, *values_;  ///< a page widened to T, unless S is T; keys also if they are turned
  T* mean_;              ///< [D] mean direction of keys, if the rule needs it
  Stored* stored_;       ///< a page to read as it is stored
};

}  // namespace heed::inline HEED_ABI::detail
