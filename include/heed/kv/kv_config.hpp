// SPDX-License-Identifier: MIT
/// @file
/// What a cache and its sequences have in common: sizes, options, memory.
#pragma once

#include "heed/engine/options.hpp"
#include "heed/engine/prune/dead_keys.hpp"
#include "heed/kv/eviction.hpp"
#include "heed/kv/kv_pool.hpp"

namespace heed::inline HEED_ABI {

/// The sizes of one layer's buffer.
struct KvShape {
  Index batch = 1, heads = 1, key_heads = 1, dim = 1, value_dim = 1;
};

namespace detail {

/// @throws ValueError, ShapeError
inline void check(const KvShape& s) {
  for (Index n : {s.batch, s.heads, s.key_heads, s.dim, s.value_dim})
    if (n < 1) throw ValueError("KvBuffer: every size must be at least 1");
  if (s.heads % s.key_heads != 0)
    throw ShapeError("KvBuffer: ", s.heads, " query heads are no multiple of ", s.key_heads,
                     " key heads");
}

/// Shared by a cache and its sequences. Two sequences may be in one step if they share it.
template <class T, class S>
struct KvConfig {
  using Tile = TileConfig<T, Blocking<T>>;

  KvShape shape;
  KvOptions options;  ///< `protect` sorted, `chunk` at most a row block
  KvPool<T, S> pool;
  Index chunk;            ///< rows processed at once
  DeadKeys<double> dead;  ///< each may lose 10⁻⁶, that is 2⁻²⁰, of the negligible weight

  /// @throws ValueError, ShapeError
  KvConfig(const KvShape& of_shape, KvOptions given, std::optional<KvPool<T, S>> memory)
      : shape(of_shape),
        options(checked(of_shape, std::move(given))),
        pool(memory ? *std::move(memory) : pool_for(of_shape, options)),
        chunk(options.rows_at_once(Tile::block_rows)),
        dead(0x1p-20 * negligible_weight<T>(options.negligible)) {
    if (pool.dim() != shape.dim || pool.value_dim() != shape.value_dim)
      throw ShapeError("the pool is for keys of ", pool.dim(), " and values of ", pool.value_dim(),
                       " numbers, the cache for ", shape.dim, " and ", shape.value_dim);
  }

  const auto& layout() const { return pool.layout(); }

  /// Sets of key heads that hold different tokens.
  Index parts() const { return options.heads == KvHeads::together ? 1 : shape.key_heads; }
  Index part_heads() const { return shape.key_heads / parts(); }

  /// Do heads share the budget row by row?
  bool shares_budget() const {
    return options.heads == KvHeads::shared && !options.evict.uses_window();
  }
  /// May a part hold more tokens than its budget during a step?
  bool exceeds_budget() const { return shares_budget() || options.evict.uses_window(); }

  /// Slots that a sequence on this budget takes during a step of `rows` rows, in whole pages.
  Index slots_for(Index budget, Index rows) const {
    const Index beyond = std::min(rows, chunk) - (options.when == EvictWhen::before_row ? 1 : 0);
    return round_up(budget + beyond, pool.page());
  }
  /// The most pages that such a sequence takes.
  Index pages_for(Index budget) const {
    return slots_for(budget, chunk) / pool.page() * shape.key_heads;
  }
  bool is_protected(Index position) const {
    return std::binary_search(options.protect.begin(), options.protect.end(), position);
  }

 private:
  static KvOptions checked(const KvShape& s, KvOptions o) {
    check(s);
    std::sort(o.protect.begin(), o.protect.end());
    o.protect.erase(std::unique(o.protect.begin(), o.protect.end()), o.protect.end());
    check(o, s.heads);
    if (o.rotary && o.rotary->dims() > s.dim)
      throw ValueError("KvBuffer: rotary turns ", o.rotary->dims(), " numbers of a key, which has ",
                       s.dim);
    negligible_weight<T>(o.negligible);
    if (o.when == EvictWhen::chunk_end && o.chunk && *o.chunk > Tile::block_rows)
      throw ValueError("chunk is ", *o.chunk, ", must be at most ", Index(Tile::block_rows),
                       " where eviction waits for its end");
    check_bytes(s, o);
    if (o.chunk) o.chunk = o.rows_at_once(Tile::block_rows);
    return o;
  }
  /// @throws ValueError if all sequences, or one token of each, exceed any machine's memory.
  static void check_bytes(const KvShape& s, const KvOptions& o) {
    const Index numbers =
                    std::min(s.dim, max_bytes) + std::min(s.value_dim, max_bytes) + simd::width<T>,
                slots = std::min(o.budget.value_or(0), max_bytes) + Tile::block_rows +
                        4 * Tile::panel_keys,
                of_slot = 64 + product_of(s.key_heads, numbers, Index(sizeof(S)));
    if (product_of(s.batch, slots, of_slot) > max_bytes ||
        product_of(s.batch, s.heads, numbers, Index(sizeof(T))) > max_bytes)
      throw ValueError("KvBuffer: batch ", s.batch, ", heads ", s.heads, ", key_heads ",
                       s.key_heads, ", dim ", s.dim, ", value_dim ", s.value_dim, ", budget ",
                       o.budget.value_or(0), " take more than ", max_bytes,
                       " bytes, which no memory holds");
  }
  /// A pool of its own, with pages no larger than the budget needs.
  static KvPool<T, S> pool_for(const KvShape& s, const KvOptions& o) {
    constexpr Index multiple = KvPool<T, S>::slot_multiple, most = KvPool<T, S>::largest_page;
    const Index page = o.budget ? round_up(std::min(*o.budget, most), multiple) : most;
    return {s.dim, s.value_dim, {.page = page}};
  }
};

}  // namespace detail
}  // namespace heed::inline HEED_ABI
