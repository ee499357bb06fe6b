// SPDX-License-Identifier: MIT
/// @file
/// Packed queries and keys of the backward pass, and the accumulators of their gradients.
#pragma once

#include "heed/core/executor.hpp"
#include "heed/engine/tile/backward_tile.hpp"

namespace heed::inline HEED_ABI::detail {

/// Packs all pieces of a PackedPanels or PackedRows.
template <class Packed, class Factor>
void pack_all(const Executor& executor, const Packed& packed, Factor&& factor) {
  executor(packed.tasks(), [&](Index task, Index) { packed.pack(task, factor); });
}

/// Both operands of a product q kᵀ: in panels for the scores, and in rows for the gradient of the
/// other operand. The query gradients accumulate here. The key gradients accumulate in scratch
/// memory of each worker.
template <class T, class B>
class QkOperands {
  using Config = TileConfig<T, B>;

 public:
  QkOperands() = default;  ///< No operands; converts to false.
  /// @param q, k  [B, H, Nq, D], [B, G, Nk, D]; of one head, if they belong to a projection.
  QkOperands(const View<const T, 4>& q, const View<const T, 4>& k, const Problem& call,
             Arena& arena)
      : given_(true),
        problem_(call),
        heads_(q.dim(1)),
        padded_(round_up(call.queries, Config::block_rows)),
        dim_(q.dim(3)),
        columns_(round_up(dim_, simd::width<T>)),
        queries_(q, Config::group_rows, Config::block_rows, arena),
        query_rows_(q, true, Config::block_rows, arena),
        keys_(k, Config::panel_keys, Config::block_keys, arena),
        key_rows_(k, true, Config::block_keys, arena),
        grad_queries_(arena.take<T>(call.batch * heads_ * padded_ * columns_)) {}

  explicit operator bool() const { return given_; }
  Index dim() const { return dim_; }
  /// Row stride of the gradients.
  Index columns() const { return columns_; }

  /// Must be called once, before the functions below. Keys are scaled by key_factor(batch, head,
  /// key), and queries by query_factor(unit, batch, head, row), which includes the factor `unit`.
  template <class QueryFactor, class KeyFactor>
  void pack(const Executor& executor, QueryFactor&& query_factor, KeyFactor&& key_factor) const {
    pack_all(executor, queries_,
             [&](Index b, Index h, Index i) { return query_factor(simd::log2e<T>, b, h, i); });
    pack_all(executor, query_rows_,
             [&](Index b, Index h, Index i) { return query_factor(T(1), b, h, i); });
    pack_all(executor, keys_, key_factor);
    pack_all(executor, key_rows_, key_factor);
    executor(problem_.batch * heads_, [&](Index task, Index) {
      std::fill_n(grad_queries_ + task * padded_ * columns_, padded_ * columns_, T(0));
    });
  }

  /// Sets the query tiles of one head, [row blocks]. A projection's tiles have the rows of the
  /// selecting head.
  template <class V>
  void set_query_tiles(const V& variant, QueryTile<T, B>* query_tiles, Index b, Index h) const {
    const T* queries = queries_(b, heads_ > 1 ? h : 0);
    for (Index row = 0; row < problem_.queries; row += Config::block_rows, ++query_tiles) {
      query_tiles->set_rows(problem_, variant, b, h, 1, row,
                            std::min(Config::block_rows, problem_.queries - row));
      query_tiles->queries = queries + row * dim_;
    }
  }

  /// Sets all members except those of ∂L/∂out.
  QueryTileGrad<T> query_tile_grad(Index b, Index h, Index block) const {
    const Index row = block * Config::block_rows;
    return {.grad_panels = nullptr,
            .grads = {},
            .queries = query_rows_(b, h).from(row, Config::block_rows),
            .delta = nullptr,
            .grad_queries = grad_queries(b, h) + row * columns_};
  }

  /// The key block that starts with key `first`.
  KvTile<T> keys(Index b, Index g, Index first) const {
    return {
        first, std::min(first + Config::block_keys, problem_.keys), keys_(b, g) + first * dim_, {}};
  }
  /// Sets all members except those of the values.
  /// @param grad_keys  [block_keys][columns].
  KvTileGrad<T> kv_tile_grad(T* grad_keys, Index b, Index g, Index first) const {
    return {.keys = keys(b, g, first),
            .value_panels = nullptr,
            .key_rows = key_rows_(b, g),
            .grad_keys = grad_keys,
            .grad_values = nullptr};
  }

  /// [padded rows][columns] the accumulated gradient of the queries of one head.
  T* grad_queries(Index b, Index h) const {
    return grad_queries_ + (b * heads_ + h) * padded_ * columns_;
  }

 private:
  bool given_ = false;
  Problem problem_;
  Index heads_ = 0, padded_ = 0, dim_ = 0, columns_ = 0;
  PackedPanels<T> queries_;
  PackedRows<T> query_rows_;
  PackedPanels<T> keys_;
  PackedRows<T> key_rows_;
  T* grad_queries_ = nullptr;  ///< [B][H][rows, in whole blocks][columns]
};

/// The operands of a selection's own projection, whose scores are q·k / √D. Unset if a head
/// selects.
template <class T, class B>
class ProjectionOperands : public QkOperands<T, B> {
  using Base = QkOperands<T, B>;

 public:
  using Base::Base;

  void pack(const Executor& executor) const {
    const T scale = this->scale();
    Base::pack(
        executor, [&](T unit, Index, Index, Index) { return scale * unit; },
        [](Index, Index, Index) { return T(1); });
  }

  // These write the accumulated gradients to those tensors that the caller gave.
  void finish_keys(const GradProjection<T>& to, Index b, const KvTileGrad<T>& grads) const {
    for (Index j = grads.keys.first; to.keys && j < grads.keys.last; ++j)
      for (Index d = 0; d < this->dim(); ++d)
        to.keys(b, j, d) = grads.grad_keys[(j - grads.keys.first) * this->columns() + d];
  }
  void finish_queries(const GradProjection<T>& to) const {
    if (!to.queries) return;
    const T scale = this->scale();
    for (Index b = 0; b < to.queries.dim(0); ++b)
      for (Index i = 0; i < to.queries.dim(1); ++i)
        for (Index d = 0; d < this->dim(); ++d)
          to.queries(b, i, d) = scale * this->grad_queries(b, 0)[i * this->columns() + d];
  }

 private:
  T scale() const { return 1 / std::sqrt(T(this->dim())); }
};

}  // namespace heed::inline HEED_ABI::detail
