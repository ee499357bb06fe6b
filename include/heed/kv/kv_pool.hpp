// SPDX-License-Identifier: MIT
/// @file
/// Memory for keys and values, shared by layers, heads and sequences.
#pragma once

#include "heed/core/check.hpp"
#include "heed/core/shared.hpp"
#include "heed/engine/blocking.hpp"
#include "heed/kv/page_pool.hpp"
#include "heed/simd/codec/codecs.hpp"

#include <optional>

namespace heed::inline HEED_ABI {

struct KvPoolOptions {
  /// Slots of a page, a multiple of the keys of a panel (two registers), at most a key block (128).
  /// Attention is fastest with the largest page. A smaller one wastes less at the end of each
  /// sequence. None: the largest.
  std::optional<Index> page{};
  /// Most bytes of the pool, allocated at once, with what the pool needs for itself. None: it
  /// grows.
  std::optional<std::size_t> bytes{};
  /// Most pages, likewise.
  std::optional<Index> pages{};
};

/// Memory for keys of `dim` and values of `value_dim` numbers, stored as S, in pages that hold a
/// number of tokens of one key head. Copies of a KvPool are the same pool. Thread-safe.
///
/// A pool of limited size throws OutOfPages if a step needs more pages than are free.
template <class T, StorageOf<T> S = T>
class KvPool {
  using Tile = detail::TileConfig<T, Blocking<T>>;

 public:
  /// A page's slots are a multiple of this.
  static constexpr Index slot_multiple = Tile::panel_keys;
  static constexpr Index largest_page = Tile::block_keys;

  /// @throws ValueError if a size is not positive, if the slots of a page are no such multiple, or
  ///     if `bytes` holds no page.
  KvPool(Index dim, Index value_dim, const KvPoolOptions& options = {})
      : layout_(detail::Shared<const Layout>::make(checked(dim, value_dim, options))),
        pages_(detail::Shared<detail::PagePool>::make(layout_->bytes, most_pages(*layout_, options),
                                                      layout_->overrun)) {
    if (options.bytes || options.pages) reserve(pages_->most());
  }

  Index dim() const { return layout_->dim; }
  Index value_dim() const { return layout_->value_dim; }
  /// Slots of a page.
  Index page() const { return layout_->slots; }
  std::size_t page_bytes() const { return pages_->page_bytes(); }
  /// The most pages that the pool may have, if its size is limited.
  std::optional<Index> most_pages() const {
    return pages_->most() == unlimited ? std::nullopt : std::optional(pages_->most());
  }
  /// Pages that sequences hold. Sequences that share a page count it once.
  Index pages_held() const { return pages_->held(); }
  std::size_t bytes_held() const { return std::size_t(pages_held()) * page_bytes(); }
  /// Bytes allocated, held or free.
  std::size_t bytes_reserved() const { return pages_->bytes(); }

  /// Allocates memory until this many pages are free. @throws OutOfPages, std::bad_alloc
  void reserve(Index pages) { pages_->reserve(pages); }

  friend bool operator==(const KvPool& a, const KvPool& b) { return a.pages_ == b.pages_; }

  /// For the library: where the numbers of a page are.
  struct Layout {
    Index dim, value_dim, slots;
    Index columns;  ///< numbers of a value, padded to whole registers
    std::size_t values, key_scales, value_scales, bytes, overrun;  ///< offsets in bytes; sizes

    S* keys_of(const detail::Page& page) const { return reinterpret_cast<S*>(page.data()); }
    S* values_of(const detail::Page& page) const {
      return reinterpret_cast<S*>(page.data() + values);
    }
    T* key_scales_of(const detail::Page& page) const {
      return reinterpret_cast<T*>(page.data() + key_scales);
    }
    T* value_scales_of(const detail::Page& page) const {
      return reinterpret_cast<T*>(page.data() + value_scales);
    }
    /// The first unit of a slot's key; units are slot_multiple apart. Likewise its first scale.
    S* key_of(const detail::Page& page, Index slot) const {
      return keys_of(page) + in_panels(slot, simd::units<S>(dim));
    }
    T* key_scale_of(const detail::Page& page, Index slot) const {
      return key_scales_of(page) + in_panels(slot, simd::scales<S>(dim));
    }
    S* value_of(const detail::Page& page, Index slot) const {
      return values_of(page) + slot * simd::units<S>(columns);
    }
    T* value_scale_of(const detail::Page& page, Index slot) const {
      return value_scales_of(page) + slot * simd::scales<S>(value_dim);
    }

   private:
    static Index in_panels(Index slot, Index of_key) {
      return slot / slot_multiple * slot_multiple * of_key + slot % slot_multiple;
    }
  };
  const Layout& layout() const { return *layout_; }
  detail::PagePool& pages() const { return *pages_; }

 private:
  static constexpr Index unlimited = detail::max_bytes;

  static Layout checked(Index dim, Index value_dim, const KvPoolOptions& options) {
    if (dim < 1 || value_dim < 1)
      throw ValueError("KvPool: keys of ", dim, " and values of ", value_dim,
                       " numbers, both must be at least 1");
    const Index slots = options.page.value_or(largest_page);
    if (slots < slot_multiple || slots > largest_page || slots % slot_multiple != 0)
      throw ValueError("KvPool: a page of ", slots, " slots, must be a multiple of ", slot_multiple,
                       " and at most ", largest_page);
    if (detail::product_of(slots, dim, Index(sizeof(T))) > detail::max_bytes / 4 ||
        detail::product_of(slots, value_dim, Index(sizeof(T))) > detail::max_bytes / 4)
      throw ValueError("KvPool: keys of ", dim, " and values of ", value_dim,
                       " numbers: a page takes more than ", detail::max_bytes,
                       " bytes, which no memory holds");
    Layout x{};
    x.dim = dim, x.value_dim = value_dim, x.slots = slots;
    x.columns = detail::round_up(value_dim, simd::width<T>);
    const auto aligned = [](Index bytes) {
      return std::size_t(detail::round_up(bytes, Index(detail::cache_line)));
    };
    const Index key_bytes = simd::units<S>(dim) * Index(sizeof(S));
    x.values = aligned(slots * key_bytes);
    x.key_scales = x.values + aligned(slots * simd::units<S>(x.columns) * Index(sizeof(S)));
    x.value_scales = x.key_scales + aligned(slots * simd::scales<S>(dim) * Index(sizeof(T)));
    x.bytes = x.value_scales + aligned(slots * simd::scales<S>(value_dim) * Index(sizeof(T)));
    // Tiles may read up to three panels past the last. Those keys are masked.
    x.overrun = aligned(3 * slot_multiple * key_bytes);
    return x;
  }
  static Index most_pages(const Layout& layout, const KvPoolOptions& options) {
    if (options.pages && (*options.pages < 1 || *options.pages >= unlimited))
      throw ValueError("KvPool: ", *options.pages, " pages, must be at least 1");
    const Index most = options.pages.value_or(unlimited);
    if (!options.bytes) return most;
    const auto bytes = [&](Index pages) {
      return detail::PagePool::slab_bytes(pages, layout.bytes, layout.overrun);
    };
    // At most what fits, and few more: the overrun takes the rest.
    std::size_t fit = *options.bytes / (layout.bytes + sizeof(detail::PageHeader));
    while (fit > 0 && bytes(Index(fit)) > *options.bytes) --fit;
    if (fit == 0)
      throw ValueError("KvPool: ", *options.bytes, " bytes hold no page, which takes ", bytes(1));
    return Index(std::min(fit, std::size_t(std::min(most, unlimited - 1))));
  }

  detail::Shared<const Layout> layout_;
  detail::Shared<detail::PagePool> pages_;
};

}  // namespace heed::inline HEED_ABI
