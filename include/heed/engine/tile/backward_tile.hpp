// SPDX-License-Identifier: MIT
/// @file
/// The work of one thread on one tile of the backward pass.
#pragma once

#include "heed/engine/tile/forward_tile.hpp"

namespace heed::inline HEED_ABI::detail {

/// The backward operands of one row block of one head, and the accumulator of its query gradient.
template <class T>
struct QueryTileGrad {
  const T* grad_panels;  ///< [groups][Dv][group_rows] ∂L/∂out
  Rows<T> grads;         ///< ∂L/∂out in rows, from the first row of the block on
  Rows<T> queries;       ///< scaled as in the product q kᵀ
  const T* delta;        ///< [rows] Σ_d ∂L/∂out · out − ∂L/∂lse
  T* grad_queries;       ///< [rows rounded up to a group][columns] accumulates ∂L/∂q / factor
};

/// The backward operands of one key block of one key head, and the accumulators of its gradients.
template <class T>
struct KvTileGrad {
  KvTile<T> keys;              ///< panels of k
  const T* value_panels;       ///< [panels][Dv][panel_keys] from key 0 on
  Rows<T> key_rows;            ///< from key 0 on
  T *grad_keys, *grad_values;  ///< [block_keys][columns] accumulate over the rows
};

/// Recomputes the weights from the log-sum-exp, tile by tile. Five products per tile:
///
///     s = q kᵀ,  w = exp(s − lse),     ∂v += wᵀ ∂out,   ∂w = ∂out vᵀ,
///     ∂s = w ∘ (∂w − delta),           ∂q += ∂s k,      ∂k += ∂sᵀ q
template <class T, class B, class V>
class GradientWorker : public Worker<T, B, V> {
  using Base = Worker<T, B, V>;
  using Config = TileConfig<T, B>;
  using QueryTileOf = QueryTile<T, B>;
  static_assert(Config::keeps_products);
  static constexpr Index group = Config::group_rows, keys = Config::block_keys,
                         tile_size = Config::block_rows * Config::block_keys;

 public:
  GradientWorker(const Problem& call, V bound_variant, Arena& arena)
      : Base(call, std::move(bound_variant), arena) {
    weights_ = arena.take<T>(tile_size);
    grads_ = arena.take<T>(tile_size);
    grad_weights_ = arena.take<T>(tile_size);
    covered_ = arena.take<KeyRange>(Config::block_rows / Config::group_rows);
    if constexpr (hook::scans_rows<V>) selection_grads_ = arena.take<T>(tile_size);
  }

  /// Processes one head on one tile.
  void tile(QueryTileOf& s, const QueryTileGrad<T>& rows, const KvTileGrad<T>& kv) {
    if (!softmax_rows(s, kv.keys, false)) return;
    softmax_backward<true>(s, rows, kv, grads_);
    accumulate_grad_values(s, rows, kv);
    accumulate_grad_operands(s, rows, kv, grads_, covered_);
  }

  /// Processes the selecting head, after all other heads: its scores also entered the selection,
  /// whose gradient is complete only then. `selector` is the tile that score_and_scan() was given.
  void selecting_tile(const QueryTileOf& selector, QueryTileOf& s, const QueryTileGrad<T>& rows,
                      const KvTileGrad<T>& kv) {
    const bool visible = softmax_rows(s, kv.keys, true);
    if (visible) {
      softmax_backward<false>(s, rows, kv, grads_);
      accumulate_grad_values(s, rows, kv);
    }
    hook::scan_tile_backward(this->variant, this->score_tile(selector, kv.keys), selection_grads_);
    if (!visible) return;
    for (Index g = 0; g < s.groups(); ++g)
      for (Index key = covered_[g].first; key < covered_[g].last; key += Config::panel_keys)
        add_selection_grad(s, g, kv.keys, key);
    accumulate_grad_operands(s, rows, kv, grads_, covered_);
  }

  /// The same if the selection has its own projection; `rows` and `kv` are the projection's
  /// operands.
  void selecting_tile(const QueryTileOf& selector, const QueryTileGrad<T>& rows,
                      const KvTileGrad<T>& kv) {
    hook::scan_tile_backward(this->variant, this->score_tile(selector, kv.keys), selection_grads_);
    for (Index g = 0; g < selector.groups(); ++g)
      covered_[g] = selector.group_range[g] & KeyRange{kv.keys.first, kv.keys.last};
    accumulate_grad_operands(selector, rows, kv, selection_grads_, covered_);
  }

 private:
  T* at(T* tile, Index row, const KvTile<T>& block, Index key) const {
    return tile + row * keys + (key - block.first);
  }

  /// Computes the weights of all rows; masked ones are zero. Returns false if the whole tile is
  /// masked.
  bool softmax_rows(QueryTileOf& s, const KvTile<T>& block, bool selected) {
    const BlockMask mask = this->block_mask(s, block);
    if (mask == BlockMask::empty) return false;
    bool any = false;
    for (Index g = 0; g < s.groups(); ++g) {
      T* weights = weights_ + g * group * keys;
      const KeyRange done = this->template softmax_group<SoftmaxFromLse>(
          s, g, block, selected, mask == BlockMask::partial, weights);
      covered_[g] = done;
      const bool none = done.first >= done.last;
      const Index first = none ? keys : done.first - block.first;
      const Index last = none ? keys : first + round_up(done.last - done.first, Config::panel_keys);
      for (Index r = 0; r < group; ++r) {
        std::fill_n(weights + r * keys, first, T(0));
        std::fill_n(weights + r * keys + last, keys - last, T(0));
      }
      any |= !none;
    }
    return any;
  }

  /// Computes ∂L/∂score of all rows. The weights become those that multiplied the values, such as
  /// those after dropout. With Finish, the gradient passes through the score stages to the product
  /// q kᵀ; without, it stops where the selection gradient is added.
  template <bool Finish>
  void softmax_backward(QueryTileOf& s, const QueryTileGrad<T>& rows, const KvTileGrad<T>& kv,
                        T* grads) {
    for (Index g = 0; g < s.groups(); ++g) {
      const KeyRange range = covered_[g];
      const bool none = range.first >= range.last;
      const Index first = none ? keys : range.first - kv.keys.first;
      const Index last =
          none ? keys : first + round_up(range.last - range.first, Config::panel_keys);
      for (Index r = g * group; r < (g + 1) * group; ++r) {
        std::fill_n(grads + r * keys, first, T(0));
        std::fill_n(grads + r * keys + last, keys - last, T(0));
      }
      for (Index key = range.first; key < range.last; key += Config::panel_keys)
        softmax_tile_backward<Finish>(s, g, rows, kv, key, grads);
    }
  }

  template <bool Finish>
  [[gnu::noinline]] void softmax_tile_backward(QueryTileOf& s, Index g,
                                               const QueryTileGrad<T>& rows,
                                               const KvTileGrad<T>& kv, Index key, T* grads) {
    constexpr int vectors = Config::panel_vectors;
    const Index dim = this->problem.value_dim, count = s.group_count(g);
    simd::store_products<int(group), vectors, vectors>(
        rows.grad_panels + g * group * dim, group, kv.value_panels + key * dim, Index(0), dim,
        at(grad_weights_, g * group, kv.keys, key), keys);
#pragma GCC unroll 1
    for (Index r = 0; r < group; ++r) {
      const Index row = g * group + r;
      if (r < count) {
        const Batch<T> delta(rows.delta[row]);
#pragma GCC unroll 8
        for (int v = 0; v < vectors; ++v) {
          const Index lane = key + v * simd::width<T>;
          const Lanes<T> lanes = this->lanes(s, row, kv.keys, lane);
          const Batch<T> weight = simd::load(at(weights_, row, kv.keys, lane)), zero(T(0));
          Batch<T> grad_weight = simd::load(at(grad_weights_, row, kv.keys, lane));
          if constexpr (hook::Weight::in<V>)
            if (lanes.keys > 0) {
              grad_weight = hook::weight(this->variant, grad_weight, lanes);
              hook::weight(this->variant, weight, lanes)
                  .store_unaligned(at(weights_, row, kv.keys, lane));
            }
          // A zero weight masks its value, which may be NaN: 0 · NaN would be NaN.
          Batch<T> grad = simd::select(weight == zero, zero, weight * (grad_weight - delta));
          if (lanes.keys > 0) {
            hook::grad_scan_bias(this->variant, grad, lanes);
            if constexpr (Finish && hook::GradScore::in<V>)
              grad = hook::grad_score(this->variant, grad,
                                      simd::load(at(this->products_, row, kv.keys, lane)), lanes);
          }
          grad.store_unaligned(at(grads, row, kv.keys, lane));
        }
      } else {
        for (int v = 0; v < vectors; ++v)
          Batch<T>(T(0)).store_unaligned(at(grads, row, kv.keys, key + v * simd::width<T>));
      }
    }
  }

  [[gnu::noinline]] void add_selection_grad(QueryTileOf& s, Index g, const KvTile<T>& block,
                                            Index key) {
    constexpr int vectors = Config::panel_vectors;
    if constexpr (hook::GradScore::in<V>)
      this->template multiply<int(group), 1>(s, g, block, key, this->products_of(g));
    for (Index r = 0; r < s.group_count(g); ++r)
      for (int v = 0; v < vectors; ++v) {
        const Index row = g * group + r, lane = key + v * simd::width<T>;
        T* grads = at(grads_, row, block, lane);
        Batch<T> grad = simd::load(grads) + simd::load(at(selection_grads_, row, block, lane));
        if constexpr (hook::GradScore::in<V>) {
          const Lanes<T> lanes = this->lanes(s, row, block, lane);
          if (lanes.keys > 0)
            grad = hook::grad_score(this->variant, grad,
                                    simd::load(at(this->products_, row, block, lane)), lanes);
        }
        grad.store_unaligned(grads);
      }
  }

  /// out[key][d] += Σ_r tile[r][key] rows[r][d], over the rows whose covered range meets the key's
  /// group.
  void accumulate_rows(const QueryTileOf& s, const T* tile, const KeyRange* covered,
                       const KvTile<T>& block, const Rows<T>& rows, Index columns, T* out) {
    for (Index k = 0; k < block.last - block.first; k += group) {
      const auto sees = [&](Index g) {
        return covered[g].first < block.first + k + group && covered[g].last > block.first + k;
      };
      Index from = 0, to = s.groups();
      while (from < to && !sees(from)) ++from;
      while (to > from && !sees(to - 1)) --to;
      const Index first = from * group, count = std::min(to * group, s.count) - first;
      if (count <= 0) continue;
      const T* weights = tile + first * keys + k;
      const T* x = rows.data + first * rows.stride;
      if (*rows.finite)
        simd::accumulate<int(group), 2, 1, keys>(weights, x, rows.stride, count, columns,
                                                 out + k * columns, columns);
      else
        simd::accumulate_weighted<1, keys>(group, weights, x, rows.stride, count, columns,
                                           out + k * columns, columns);
    }
  }

  void accumulate_grad_values(const QueryTileOf& s, const QueryTileGrad<T>& rows,
                              const KvTileGrad<T>& kv) {
    accumulate_rows(s, weights_, covered_, kv.keys, rows.grads,
                    round_up(this->problem.value_dim, simd::width<T>), kv.grad_values);
  }

  void accumulate_grad_operands(const QueryTileOf& s, const QueryTileGrad<T>& rows,
                                const KvTileGrad<T>& kv, const T* grads, const KeyRange* covered) {
    const Index columns = round_up(s.dim, simd::width<T>);
    accumulate_rows(s, grads, covered, kv.keys, rows.queries, columns, kv.grad_keys);
    const bool finite = kv.key_rows.finite[kv.keys.first / keys];
    for (Index g = 0; g < s.groups(); ++g) {
      const KeyRange range = covered[g];
      if (range.first >= range.last) continue;
      const T* x = grads + g * group * keys + (range.first - kv.keys.first);
      const T* k = kv.key_rows.data + range.first * kv.key_rows.stride;
      T* out = rows.grad_queries + g * group * columns;
      if (finite)
        simd::accumulate<int(group), 2, keys, 1>(x, k, kv.key_rows.stride, range.last - range.first,
                                                 columns, out, columns);
      else
        simd::accumulate_weighted<keys, 1>(s.group_count(g), x, k, kv.key_rows.stride,
                                           range.last - range.first, columns, out, columns);
    }
  }

  T *weights_, *grads_, *grad_weights_;  ///< [block_rows][block_keys]
  T* selection_grads_ = nullptr;         ///< [block_rows][block_keys]
  KeyRange* covered_;                    ///< [groups]
};

}  // namespace heed::inline HEED_ABI::detail
