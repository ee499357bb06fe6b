// SPDX-License-Identifier: MIT
/// @file
/// The work of one thread on one query tile and one KV tile: scores, selection, softmax and
/// weighted sums.
#pragma once

#include "heed/engine/tile/online_softmax.hpp"
#include "heed/engine/work_stats.hpp"
#include "heed/simd/matrix_tiles.hpp"
#include "heed/simd/product.hpp"

namespace heed::inline HEED_ABI {

namespace detail {

/// V is the bound variant. Every worker has its own copy, and in it its own scan state.
template <class T, class B, class V>
class Worker {
  using Config = TileConfig<T, B>;
  using QueryTileOf = QueryTile<T, B>;
  using Packed = typename Config::Packed;
  using Block = KvTile<T, Packed>;
  static_assert(!hook::scans_rows<V> || (Config::block_rows <= largest_tile_rows &&
                                         Config::block_keys <= largest_tile_keys));

 public:
  Problem problem;
  V variant;
  /// Positions of keys minus that of row 0; null if keys are in order.
  const T* offsets = nullptr;
  WorkStats stats{};

  Worker(const Problem& call, V bound_variant, Arena& arena)
      : problem(call), variant(std::move(bound_variant)) {
    weights_ = arena.take<T>(Config::group_rows * Config::block_keys);
    constexpr Index kept = Config::keeps_products ? Config::block_rows : Config::group_rows;
    products_ = arena.take<T>(kept * Config::block_keys);
    if constexpr (hook::scans_rows<V>)
      scores_ = arena.take<T>(Config::block_rows * Config::block_keys);
    if constexpr (std::is_same_v<Packed, T>)
      operands_ = weights_;
    else
      operands_ = arena.take<Packed>(Config::group_rows * Config::block_keys / Config::numbers);
  }

  static Block block(const PackedKv<T, Packed>& store, Index first, Index last) {
    return {first,
            last,
            store.panels + first * store.dim,
            store.values.from(first, Config::block_keys),
            nullptr,
            store.factors ? store.factors + first : nullptr};
  }

  /// Computes the selecting tile's scores on a key block and passes them to the variant. If the
  /// selection has its own projection, only masks apply to these scores.
  void score_and_scan(QueryTileOf& s, const Block& block, bool projected) {
    compute_scores(s, block, projected);
    scan(s, block);
  }
  /// The first half of it; scan() is the second. A task that gets the scores() from another thread
  /// calls only scan(). Not inlined: all tasks compute scores by the same machine code, and so to
  /// the same bits.
  [[gnu::noinline]] void compute_scores(QueryTileOf& s, const Block& block, bool projected) {
    std::fill_n(scores_, score_count(s), masked<T>);
    const BlockMask mask = block_mask(s, block);
    [[maybe_unused]] const Registers registers(s.packed_dim());
    for (Index g = 0; g < s.groups() && mask != BlockMask::empty; ++g)
      each_tile(s, g, block, mask == BlockMask::partial, [&](auto shape, auto masked, Index key) {
        store_scores<shape.rows, shape.panels, masked.value>(s, g, block, key, !projected);
      });
  }
  void scan(const QueryTileOf& s, const Block& block) {
    hook::scan_tile(variant, score_tile(s, block));
  }
  T* scores() { return scores_; }
  static Index score_count(const QueryTileOf& s) {
    return s.groups() * Config::group_rows * Config::block_keys;
  }

  /// Accumulates a key block into the states of a query tile.
  /// @param selected  the tile's scores are scores(): do not recompute them.
  void attend(QueryTileOf& s, const Block& block, bool selected = false) {
    const BlockMask mask = block_mask(s, block);
    if (mask == BlockMask::empty) return;
    [[maybe_unused]] const Registers registers(s.packed_dim());
    const Rows<Packed>& values = block.values;
    for (Index g = 0; g < s.groups(); ++g) {
      const auto softmax_to = [&](auto* weights) {
        return softmax_group<OnlineSoftmax>(s, g, block, selected, mask == BlockMask::partial,
                                            weights);
      };
      const KeyRange done = block.stored ? softmax_to(weights_) : softmax_to(operands_);
      if (done.first >= done.last) continue;
      const Index row = g * Config::group_rows, count = s.group_count(g);
      if (block.stored) {
        add_stored(s, row, count, block, done);
        continue;
      }
      constexpr Index stride = Config::block_keys / Config::numbers;
      const Index at = (done.first - block.first) / Config::numbers;
      const Packed* p = operands_ + at;
      const Packed* v = values.data + at * values.stride;
      const RowStates<T>& state = s.state;
      T* out = state.out + row * state.columns;
      const Index keys = simd::operands<Packed>(done.last - done.first);
      const auto sum = [&](auto rows, auto vectors) {
        simd::accumulate<rows, vectors, stride, 1>(p, v, values.stride, keys, state.columns, out,
                                                   state.columns);
      };
      if (!*values.finite)
        simd::accumulate_weighted<stride, 1>(count, p, v, values.stride, keys, state.columns, out,
                                             state.columns);
      else if constexpr (Config::matrix_tiles)
        simd::accumulate_tiles(p, stride, v, values.stride, padded_rows<Packed>(keys),
                               state.columns, out);
      else if (count == 1)
        sum(Int<1>(), Int<8>());
      else if (count <= Config::few_rows)
        sum(Int<Config::few_rows>(), Int<4>());
      else
        sum(Int<Config::group_rows>(), Int<2>());
    }
  }

  /// Computes the softmax weights of a query tile with known lse on a key block. Calls
  /// consume(row of the tile, key range, weights) for each row.
  template <class Consume>
  void softmax_from_lse(QueryTileOf& s, const Block& block, Consume&& consume) {
    const BlockMask mask = block_mask(s, block);
    if (mask == BlockMask::empty) return;
    [[maybe_unused]] const Registers registers(s.packed_dim());
    for (Index g = 0; g < s.groups(); ++g) {
      const KeyRange done =
          softmax_group<SoftmaxFromLse>(s, g, block, false, mask == BlockMask::partial, weights_);
      for (Index r = 0; r < s.group_count(g) && done.first < done.last; ++r)
        consume(g * Config::group_rows + r, done,
                weights_ + r * Config::block_keys + (done.first - block.first));
    }
  }

 protected:
  ScoreTile<T> score_tile(const QueryTileOf& s, const Block& block) const {
    const Row& first = s.rows[0];
    return {.scores = scores_,
            .stride = Config::block_keys,
            .row = first.index,
            .rows = s.count,
            .position = first.position,
            .key = block.first,
            .keys = block.last - block.first};
  }

  /// Reserves the matrix registers while it exists; does nothing for ordinary registers.
  struct NoRegisters {
    explicit NoRegisters(Index) {}
  };
  using Registers = std::conditional_t<Config::matrix_tiles, simd::MatrixTiles, NoRegisters>;

  template <int N>
  using Int = std::integral_constant<int, N>;
  template <int Rows, int Panels>
  struct TileShape {
    static constexpr int rows = Rows, panels = Panels;
  };

  BlockMask block_mask(const QueryTileOf& s, const Block& block) const {
    const auto of = [&](Index head) {
      return hook::block_mask(variant, {s.rows[0].batch, head, s.first_row, s.count / s.heads,
                                        block.first, block.last - block.first, s.rows[0].position});
    };
    BlockMask all = of(s.head);
    for (Index h = 1; h < s.heads; ++h)
      if (of(s.head + h) != all) all = BlockMask::partial;
    return all;
  }

  Lanes<T> lanes(const QueryTileOf& s, Index row, const Block& block, Index key) const {
    const Row& at = s.rows[row];
    return {.batch = at.batch,
            .head = at.head,
            .row = at.index,
            .position = at.position,
            .key = key,
            .keys = std::min(simd::width<T>, problem.keys - key),
            .block_row = at.index - s.first_row,
            .block_key = key - block.first,
            .fills_tile = row >= s.count,
            .offsets = offsets,
            .origin = problem.first_position(at.batch)};
  }

  /// Calls tile(shape, masked, key) on each tile of a group that some row sees. Returns the key
  /// range of these tiles.
  template <class TileFn>
  KeyRange each_tile(const QueryTileOf& s, Index g, const Block& block, bool partial,
                     TileFn&& tile) const {
    const KeyRange range = s.group_range[g] & KeyRange{block.first, block.last};
    if (range.first >= range.last) return {0, 0};
    const KeyRange full = s.group_full[g];
    const auto run = [&](auto shape) {
      constexpr Index step = shape.panels * Config::panel_keys;
      const Index first = range.first - (range.first - block.first) % step;
      for (Index key = first; key < range.last; key += step) {
        // Masking a few rows is cheap, and saves compiling an unmasked tile.
        if constexpr (shape.rows < Config::group_rows)
          tile(shape, std::true_type(), key);
        else if (partial || key < full.first || key + step > full.last)
          tile(shape, std::true_type(), key);
        else
          tile(shape, std::false_type(), key);
      }
      return KeyRange{first, range.last};
    };
    if constexpr (Config::narrow_tiles) {
      const Index count = s.group_count(g);
      if (count == 1) return run(TileShape<1, 4>());
      if (count <= Config::few_rows) return run(TileShape<Config::few_rows, 2>());
    }
    return run(TileShape<Config::group_rows, 1>());
  }

  /// Computes the softmax weights of one row group into weights[row of the group][key of the
  /// block], packed as W. Returns the covered key range, which starts on an operand boundary.
  /// Weights past the last key are zero.
  template <class Softmax, class W>
  KeyRange softmax_group(QueryTileOf& s, Index g, const Block& block, bool selected, bool partial,
                         W* weights) {
    Index first = -1;
    return each_tile(s, g, block, partial, [&](auto shape, auto masked, Index key) {
      if (first < 0) first = key;
      stats.tiles += 1;
      stats.pairs +=
          s.group_count(g) * (std::min(key + shape.panels * Config::panel_keys, block.last) - key);
      if constexpr (std::is_same_v<Softmax, OnlineSoftmax> && std::is_same_v<W, Packed>)
        if constexpr (shape.rows == Config::group_rows && !masked.value && !Config::matrix_tiles)
          if (!selected && !block.stored)
            return softmax_full_tile(s, g, block, key, first, weights);
      // Scores of the selecting head contain its mask already, whether this tile is masked or not.
      softmax_tile<shape.rows, shape.panels, masked.value, Softmax>(s, g, block, key, first,
                                                                    weights, selected);
    });
  }

  /// The address of a row's weight for a key of the block; the key must start an operand.
  template <class W>
  static W* weight_at(W* weights, Index row, Index key) {
    return weights + (row * Config::block_keys + key) / simd::Operand<W>::numbers;
  }

  /// Multiplies the products of one row of a tile by the factors of its query and keys. Does
  /// nothing if the packed operands contain the factors.
  template <std::size_t Vectors>
  HEED_INLINE static void scale(const QueryTileOf& s, Index row, const Block& block, Index key,
                                Batch<T> (&x)[Vectors]) {
    if constexpr (Config::numbers > 1) {
      const Batch<T> factor(s.factors[row]);
#pragma GCC unroll 8
      for (int v = 0; v < int(Vectors); ++v) x[v] = factor * x[v];
      if (block.stored) return;  // its product already contains the factors of the keys
#pragma GCC unroll 8
      for (int v = 0; v < int(Vectors); ++v)
        x[v] = simd::load(block.factors + (key - block.first) + v * simd::width<T>) * x[v];
    }
  }

  /// Turns the products of one row of a tile into scores: applies factors, the variant's
  /// per-register hooks and masks.
  template <bool Masked, std::size_t Vectors>
  HEED_INLINE void shape_scores(const QueryTileOf& s, Index row, const Block& block, Index key,
                                Batch<T> (&x)[Vectors], bool scored) const {
    scale(s, row, block, key, x);
#pragma GCC unroll 8
    for (int v = 0; v < int(Vectors); ++v) {
      const Lanes<T> at = lanes(s, row, block, key + v * simd::width<T>);
      if constexpr (Masked) {
        if (at.keys <= 0) {  // past the last key, where the hooks' tensors end
          x[v] = Batch<T>(masked<T>);
          continue;
        }
      }
      if (scored)
        x[v] = hook::score(variant, x[v], at);
      else if constexpr (Masked && hook::scores_may_mask<V>)  // what they mask casts no vote
        x[v] = simd::select(hook::score(variant, x[v], at) < Batch<T>(masked_below<T>),
                            Batch<T>(masked<T>), x[v]);
      if constexpr (Masked) {
        // A wide tile reaches past the end of a small page of a cache: other keys follow there.
        const Index first = s.ranges[row].first, last = std::min(s.ranges[row].last, block.last);
        const Mask<T> visible =
            hook::visible(variant, simd::lanes_between<T>(first - at.key, last - at.key), at);
        x[v] = simd::select(visible, x[v], Batch<T>(masked<T>));
      }
    }
  }

  /// Where the products and the scores of a group lie, [group_rows][block_keys].
  T* products_of(Index g) const {
    return products_ + (Config::keeps_products ? g * Config::group_rows * Config::block_keys : 0);
  }
  T* scores_of(Index g) const {
    return scores_ + g * Config::group_rows * Config::block_keys;
  }

  /// Computes q·k of a tile into its place in the buffer of a group, without any hook.
  template <int Rows, int Panels>
  void multiply(const QueryTileOf& s, Index g, const Block& block, Index key, T* of_group) const {
    if (block.stored) return dot_stored(s, g, block, key, Panels * Config::panel_keys, of_group);
    const Index dim = s.packed_dim(), at = key - block.first;
    const Index row = g * Config::group_rows;
    const Packed* panels = block.panels + at * dim;
    T* to = of_group + at;
    if constexpr (Config::matrix_tiles)
      simd::multiply_tiles(s.query_rows + row * s.query_stride(), s.query_stride(), panels, dim, to,
                           Config::block_keys);
    else
      simd::store_products<Rows, Panels * Config::panel_vectors, Config::panel_vectors>(
          s.queries + row * dim, Index(Config::group_rows), panels, Config::panel_keys * dim, dim,
          to, Config::block_keys);
  }

  /// The same for unpacked keys.
  void dot_stored(const QueryTileOf& s, Index g, const Block& block, Index key, Index keys,
                  T* of_group) const {
    const Index row = g * Config::group_rows, first = key - block.first;
    if (key + keys > block.last)  // products past the last key are zero, as for packed panels
      for (Index r = 0; r < s.group_count(g); ++r)
        std::fill_n(of_group + r * Config::block_keys + first, keys, T(0));
    block.stored->dot(
        *block.stored,
        {s.query_rows + row * s.query_stride(), s.group_count(g), s.dim, s.query_stride()}, first,
        std::min(keys, block.last - key), of_group + first, Config::block_keys);
  }
  /// Accumulates the product of a group's weights and unpacked values.
  void add_stored(const QueryTileOf& s, Index row, Index count, const Block& block,
                  const KeyRange& done) {
    const Index first = done.first - block.first, keys = done.last - done.first;
    const T* const scale = block.stored->value_scale;
    for (Index r = 0; r < count; ++r) {
      T* const row_weights = weight_at(weights_, r, first);
      if (scale)
        for (Index j = 0; j < keys; ++j)  // a zero weight stays zero even if the scale is NaN
          row_weights[j] = row_weights[j] == T(0) ? T(0) : row_weights[j] * scale[first + j];
      if constexpr (Config::numbers > 1)
        simd::pair_up(row_weights, keys, weight_at(operands_, r, first));
    }
    block.stored->add(*block.stored, weight_at(operands_, 0, first),
                      Config::block_keys / Config::numbers, count, first, keys, problem.value_dim,
                      s.state.out + row * s.state.columns, s.state.columns);
  }

  template <std::size_t Vectors>
  HEED_INLINE static void load_row(const T* row, Batch<T> (&x)[Vectors]) {
#pragma GCC unroll 8
    for (int v = 0; v < int(Vectors); ++v) x[v] = simd::load(row + v * simd::width<T>);
  }

  /// Computes the scores of a tile, without the scan bias, into scores_.
  template <int Rows, int Panels, bool Masked>
  void store_scores(QueryTileOf& s, Index g, const Block& block, Index key, bool scored) {
    constexpr int vectors = Panels * Config::panel_vectors;
    multiply<Rows, Panels>(s, g, block, key, scores_of(g));
    const Index count = s.group_count(g);
#pragma GCC unroll 1
    for (Index r = 0; r < count; ++r) {
      const Index row = g * Config::group_rows + r;
      T* scores = scores_of(g) + r * Config::block_keys + (key - block.first);
      Batch<T> x[std::size_t(vectors)];
      load_row(scores, x);
      shape_scores<Masked>(s, row, block, key, x, scored);
#pragma GCC unroll 8
      for (int v = 0; v < vectors; ++v) x[v].store_unaligned(scores + v * simd::width<T>);
    }
  }

  /// Adds the scan bias to the visible scores. Masked scores stay masked, because the bias of a
  /// masked key may be unset.
  template <bool Masked, std::size_t Vectors>
  HEED_INLINE void add_scan_bias(const QueryTileOf& s, Index row, const Block& block, Index key,
                                 Batch<T> (&x)[Vectors]) const {
#pragma GCC unroll 8
    for (int v = 0; v < int(Vectors); ++v) {
      const Lanes<T> at = lanes(s, row, block, key + v * simd::width<T>);
      if constexpr (Masked) {
        if (at.keys > 0)
          x[v] = simd::select(x[v] < Batch<T>(masked_below<T>), x[v],
                              hook::scan_bias(variant, x[v], at));
      } else {
        x[v] = hook::scan_bias(variant, x[v], at);
      }
    }
  }
  template <bool Masked>
  HEED_INLINE auto changes(const QueryTileOf& s, Index row, const Block& block, Index key) const {
    if constexpr (hook::Weight::in<V>) {
      return [this, &s, &block, row, key](const Batch<T>& weight, int v) {
        const Lanes<T> at = lanes(s, row, block, key + v * simd::width<T>);
        return !Masked || at.keys > 0 ? hook::weight(variant, weight, at) : weight;
      };
    } else {
      return [](const Batch<T>& weight, int) { return weight; };
    }
  }

  /// A full, unmasked tile, computed from the product to the weights in registers. Most of the time
  /// is spent here. All other tiles go through memory row by row, which costs them a few per cent
  /// of their speed but takes a tenth of the compile time.
  [[gnu::noinline]] void softmax_full_tile(QueryTileOf& s, Index g, const Block& block, Index key,
                                           Index first, Packed* weights) {
    constexpr int rows = Config::group_rows, vectors = Config::panel_vectors;
    Batch<T> acc[std::size_t(rows)][std::size_t(vectors)];
    const Index dim = s.packed_dim();
    simd::multiply<rows, vectors, vectors>(s.queries + g * rows * dim, Index(rows),
                                           block.panels + (key - block.first) * dim, Index(0), dim,
                                           acc);
    const Index row0 = g * rows, at = key - block.first;
#pragma GCC unroll 16
    for (int r = 0; r < rows; ++r) {
      shape_scores<false>(s, row0 + r, block, key, acc[r], true);
      add_scan_bias<false>(s, row0 + r, block, key, acc[r]);
    }
    OnlineSoftmax::rescale(s, row0, acc, weight_at(weights, 0, at),
                           Config::block_keys / Config::numbers, key - first);
#pragma GCC unroll 16
    for (int r = 0; r < rows; ++r)
      OnlineSoftmax::exponentiate<false>(s, row0 + r, acc[r], weight_at(weights, r, at),
                                         changes<false>(s, row0 + r, block, key));
  }

  template <int Rows, int Panels, bool Masked, class Softmax, class W>
  [[gnu::noinline]] void softmax_tile(QueryTileOf& s, Index g, const Block& block, Index key,
                                      Index first, W* weights, bool selected) {
    constexpr int vectors = Panels * Config::panel_vectors;
    const Index row0 = g * Config::group_rows, at = key - block.first;
    T* const products = selected ? scores_of(g) : products_of(g);  // already scores if `selected`
    if (!selected) multiply<Rows, Panels>(s, g, block, key, products);
    // With unpacked keys, the padding rows of a group have no products.
    const Index count = block.stored ? s.group_count(g) : Rows;
#pragma GCC unroll 1
    for (Index r = 0; r < count; ++r) {
      Batch<T> x[std::size_t(vectors)];
      load_row(products + r * Config::block_keys + at, x);
      if (!selected) shape_scores<Masked>(s, row0 + r, block, key, x, true);
      add_scan_bias<Masked>(s, row0 + r, block, key, x);
      Softmax::template row<Masked>(s, row0 + r, x, weight_at(weights, r, at), key - first,
                                    changes<Masked>(s, row0 + r, block, key));
    }
  }

  T* scores_ = nullptr;  ///< [block_rows][block_keys] scores of the selecting head
  /// q·k of the current tiles: [group_rows][block_keys], or [block_rows][block_keys] if products
  /// are kept.
  T* products_ = nullptr;

 private:
  T* weights_ = nullptr;  ///< [group_rows][block_keys]
  /// The weights packed as operands; the same array if T is the operand type. Padding rows of a
  /// group are unspecified.
  Packed* operands_ = nullptr;
};

}  // namespace detail
}  // namespace heed::inline HEED_ABI
