// SPDX-License-Identifier: MIT
/// @file
/// A query tile: packed query rows, their key ranges and their softmax states.
#pragma once

#include "heed/engine/pack/packed_kv.hpp"
#include "heed/engine/tile/row_state.hpp"

#include <cassert>

namespace heed::inline HEED_ABI::detail {

/// Query rows that read one key head: a row block of one head or, if there are few queries, the
/// rows of several heads of one group, head by head.
template <class T, class B>
struct QueryTile {
  using Config = TileConfig<T, B>;
  using Packed = typename Config::Packed;

  Index capacity = 0;   ///< the largest number of rows, in whole groups
  Index count = 0;      ///< rows
  Index head = 0;       ///< of the first row
  Index heads = 0;      ///< number of heads that the rows belong to
  Index first_row = 0;  ///< index of the first row in its head
  Index dim = 0;

  Row* rows = nullptr;         ///< [capacity]; padded with copies of the last row
  KeyRange* ranges = nullptr;  ///< [capacity] the interval of keys that each row sees
  /// [groups][packed dim][group_rows], scaled to log2 units; pairs are not scaled. Unset for matrix
  /// registers.
  const Packed* queries = nullptr;
  T* factors = nullptr;  ///< [capacity] the scale factors, for pairs only
  /// [max_query_rows()][query_stride()], set if count ≤ max_query_rows(); scaled like `queries`.
  /// For matrix registers, zero-padded to a whole group.
  Packed* query_rows = nullptr;
  RowStates<T> state;  ///< [capacity]

  KeyRange key_range{};             ///< the smallest range of all keys that any row sees
  KeyRange* group_range = nullptr;  ///< [groups] the same for the rows of each group
  KeyRange* group_full = nullptr;   ///< [groups] keys that all rows of the group see

  QueryTile() = default;
  QueryTile(Index head_dim, Index value_dim, Arena& arena, Index most_rows = Config::block_rows)
      : QueryTile(head_dim, in_groups(most_rows),
                  RowStates<T>(in_groups(most_rows), round_up(value_dim, simd::width<T>), arena),
                  arena) {
    queries = own_queries_ = arena.take<Packed>(Config::matrix_tiles ? 0 : capacity * packed_dim());
    factors = arena.take<T>(Config::numbers > 1 ? capacity : 0);
    query_rows = arena.take<Packed>(max_query_rows() * query_stride());
  }

  /// A tile without packed queries and accumulators of its own: the caller sets `queries`, and the
  /// lse is known.
  static QueryTile scoring(Index head_dim, Arena& arena) {
    return QueryTile(head_dim, Config::block_rows, RowStates<T>::known(Config::block_rows, arena),
                     arena);
  }

  /// Operands per query, see simd::Operand.
  Index packed_dim() const { return simd::operands<Packed>(dim); }
  /// The largest tile that is also kept in rows: for kernels that read unpacked keys, or for matrix
  /// registers.
  Index max_query_rows() const { return Config::matrix_tiles ? capacity : max_gemv_rows; }
  Index query_stride() const { return round_up(packed_dim(), simd::width<T>); }
  Index groups() const { return (count + Config::group_rows - 1) / Config::group_rows; }
  /// The smallest end of a group's keys: that of the first rows under a causal mask.
  Index first_end() const {
    Index end = key_range.last;
    for (Index g = 0; g < groups(); ++g)
      if (group_range[g].first < group_range[g].last) end = std::min(end, group_range[g].last);
    return end;
  }
  Index group_count(Index group) const {
    return std::min<Index>(Config::group_rows, count - group * Config::group_rows);
  }

  /// Sets the rows of the tile, and the key ranges that they see under the variant.
  template <class V>
  void set_rows(const Problem& p, const V& variant, Index batch, Index head0, Index head_count,
                Index row0, Index row_count) {
    count = head_count * row_count;
    assert(count <= capacity);
    head = head0, heads = head_count, first_row = row0;
    key_range = {p.keys, 0};
    for (Index g = 0; g < groups(); ++g) {
      group_range[g] = {p.keys, 0};
      group_full[g] = {0, p.keys};
    }
    for (Index r = 0; r < groups() * Config::group_rows; ++r) {
      const Index source = std::min(r, count - 1), index = row0 + source % row_count;
      rows[r] = p.row(batch, head0 + source / row_count, index);
      const KeyRange range =
          hook::keys(variant, KeyRange{0, p.keys}, rows[r]) & KeyRange{0, p.keys};
      ranges[r] = range.first < range.last ? range : KeyRange{0, 0};
      if (r >= count) continue;  // padding: computed, but its results are never read
      const Index g = r / Config::group_rows;
      group_full[g] = group_full[g] & ranges[r];
      if (range.first >= range.last) continue;
      group_range[g] = {std::min(group_range[g].first, range.first),
                        std::max(group_range[g].last, range.last)};
      key_range = {std::min(key_range.first, range.first), std::max(key_range.last, range.last)};
    }
  }

  /// Sets all ranges to keys [0, keys): the next keys are compacted, and every row sees them all.
  void set_all_visible(Index keys) {
    key_range = {0, keys};
    std::fill_n(ranges, groups() * Config::group_rows, key_range);
    std::fill_n(group_range, groups(), key_range);
    std::fill_n(group_full, groups(), key_range);
  }

  /// Packs the queries: row_of(row, r) points to the D numbers of row r of its group, and
  /// factor(row) scales them. `scratch` holds one group.
  template <class RowOf, class Factor>
  void pack(RowOf&& row_of, Factor&& factor, const PackScratch<T, Packed>& scratch = {}) {
    if constexpr (!Config::matrix_tiles)
      for (Index g = 0; g < groups(); ++g) {
        const Index first = g * Config::group_rows;
        const Row* row = rows + first;
        pack_panel([&](Index r) { return row_of(row[r], r); }, group_count(g), dim,
                   Index(Config::group_rows), [&](Index r) { return factor(row[r]); }, scratch,
                   own_queries_ + first * packed_dim(),
                   Config::numbers > 1 ? factors + first : nullptr);
      }
    if (count <= max_query_rows()) pack_rows(row_of, factor);
  }

  /// Resets the softmax states. If `with_sinks`, each state starts with the sink of its head.
  template <class V>
  void reset(const V& variant, bool with_sinks = true) {
    const Index padded = groups() * Config::group_rows;
    for (Index r = 0; r < padded; ++r) {
      const T sink = hook::sink(variant, masked<T>, rows[r].batch, rows[r].head);
      if (with_sinks && sink > masked_below<T>)
        state.reset(r, sink * simd::log2e<T>);
      else
        state.reset(r);
    }
  }

  /// Merges the states of another tile, of the same rows and other keys.
  void merge(const QueryTile& other) {
    for (Index r = 0; r < count; ++r) state.merge(r, other.state);
  }

  /// Writes out and, if given, lse.
  void finish(const View<T, 4>& result, const View<T, 3>& lse) const {
    for (Index r = 0; r < count; ++r) {
      const Row& row = rows[r];
      state.finish(r, result.row(row.batch, row.head, row.index), result.dim(3));
      if (lse) lse(row.batch, row.head, row.index) = state.natural_lse(r);
    }
  }

 private:
  static Index in_groups(Index row_count) { return round_up(row_count, Config::group_rows); }

  /// The members that every tile has.
  QueryTile(Index head_dim, Index most_rows, const RowStates<T>& states, Arena& arena)
      : capacity(most_rows),
        dim(head_dim),
        rows(arena.take<Row>(most_rows)),
        ranges(arena.take<KeyRange>(most_rows)),
        state(states),
        group_range(arena.take<KeyRange>(most_rows / Config::group_rows)),
        group_full(arena.take<KeyRange>(most_rows / Config::group_rows)) {}

  /// Packs the queries into query_rows.
  template <class RowOf, class Factor>
  void pack_rows(RowOf& row_of, Factor& factor) {
    for (Index r = 0; r < count; ++r) {
      Packed* const to = query_rows + r * query_stride();
      if constexpr (Config::numbers == 1) {
        simd::pack_rows(
            row_of(rows[r], 0), 0, 1, dim, [&](Index) { return factor(rows[r]); }, to,
            query_stride());
      } else {
        std::fill_n(to, query_stride(), Packed{});
        simd::pair_up(row_of(rows[r], 0), dim, to);
        factors[r] = factor(rows[r]);
      }
    }
    if constexpr (Config::matrix_tiles) {  // matrix registers multiply whole groups
      const Index filled = groups() * Config::group_rows;
      std::fill(query_rows + count * query_stride(), query_rows + filled * query_stride(),
                Packed{});
      std::fill(factors + count, factors + filled, T(1));
    }
  }

  Packed* own_queries_ = nullptr;  ///< the destination of pack()
};

}  // namespace heed::inline HEED_ABI::detail
