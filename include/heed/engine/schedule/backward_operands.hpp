// SPDX-License-Identifier: MIT
/// @file
/// Packed inputs and gradient accumulators of the backward pass.
#pragma once

#include "heed/engine/schedule/qk_operands.hpp"

namespace heed::inline HEED_ABI::detail {

/// The tensors that a backward call reads and writes.
template <class T>
struct BackwardTensors {
  View<const T, 4> q, k, v, out, grad_out;
  View<const T, 3> lse;
  View<T, 4> grad_q, grad_k, grad_v;
  View<const T, 3> grad_lse{};
};

/// One thread's accumulators of the gradients of a key block.
template <class T>
struct KvGradients {
  Index heads;       ///< all key heads side by side, or 1 at a time
  T *keys, *values;  ///< [heads][block_keys][columns]
};

/// grad ← factor · sum; the gradient of the factor is sum · x.
template <class T, class Grad, class Factor>
void finish_row(const T* sum, const T* x, T* grad, Index dim, Factor&& factor, Grad&& grad_factor) {
  T dot = 0;
  // Numbers that no row saw have accumulated zero, and may be NaN themselves.
  for (Index d = 0; d < dim; ++d)
    if (sum[d] != T(0)) dot += sum[d] * x[d];
  grad_factor(dot);
  const T scale = factor();
  for (Index d = 0; d < dim; ++d) grad[d] = sum[d] == T(0) ? T(0) : scale * sum[d];
}

/// The operands of q kᵀ and of ∂L/∂out vᵀ. The functions finish_…() write the accumulated gradients
/// to the caller's tensors, and pass the gradients of their factors to the stages.
template <class T, class B>
class BackwardOperands {
  using Config = TileConfig<T, B>;

 public:
  BackwardOperands() = default;
  BackwardOperands(const BackwardTensors<T>& x, const Problem& call, Arena& arena)
      : x_(x),
        problem_(call),
        padded_(round_up(call.queries, Config::block_rows)),
        value_columns_(round_up(call.value_dim, simd::width<T>)),
        product_(x.q, x.k, call, arena),
        values_(x.v, Config::panel_keys, Config::block_keys, arena),
        grads_(x.grad_out, Config::group_rows, Config::block_rows, arena),
        grad_rows_(x.grad_out, false, Config::block_rows, arena),
        delta_(arena.take<T>(call.batch * call.heads * padded_)) {}

  /// @param heads  1, or all key heads.
  KvGradients<T> key_gradients(Index heads, Arena& arena) const {
    const Index rows = heads * Config::block_keys;
    return {heads, arena.take<T>(rows * product_.columns()), arena.take<T>(rows * value_columns_)};
  }

  /// Must be called once, before the functions below. `variant` is bound.
  template <class V>
  void pack(const V& variant, const Executor& executor) {
    product_.pack(
        executor,
        [&](T unit, Index b, Index h, Index i) {
          return hook::query_factor(variant, unit, row_at(b, h, i));
        },
        [&](Index b, Index g, Index j) { return hook::key_factor(variant, T(1), b, g, j); });
    const auto one = [](Index, Index, Index) { return T(1); };
    pack_all(executor, values_,
             [&](Index b, Index g, Index j) { return hook::value_factor(variant, T(1), b, g, j); });
    pack_all(executor, grads_, one);
    pack_all(executor, grad_rows_, one);
    executor(problem_.batch * problem_.heads, [&](Index task, Index) {
      const Index h = task % problem_.heads, b = task / problem_.heads;
      for (Index i = 0; i < problem_.queries; ++i) {
        // A row that saw no key has no gradient, even if its grad_out is NaN.
        T sum = 0;
        if (x_.lse(b, h, i) > masked_below<T>) {
          for (Index d = 0; d < problem_.value_dim; ++d)
            if (const T out = x_.out(b, h, i, d); out != T(0)) sum += x_.grad_out(b, h, i, d) * out;
          if (x_.grad_lse) sum -= x_.grad_lse(b, h, i);  // ∂lse/∂s(i, j) = w(i, j)
        }
        delta_[task * padded_ + i] = sum;
      }
    });
  }

  /// Sets the query tiles of one head, [row blocks], with their lse.
  template <class V>
  void set_query_tiles(const V& variant, QueryTile<T, B>* query_tiles, Index b, Index h) const {
    product_.set_query_tiles(variant, query_tiles, b, h);
    for (Index row = 0; row < problem_.queries; row += Config::block_rows, ++query_tiles)
      for (Index r = 0; r < Config::block_rows; ++r)
        if (r < query_tiles->count)
          query_tiles->state.set_natural_lse(r, x_.lse(b, h, row + r));
        else
          query_tiles->state.set_lse(r, no_lse<T>);
  }

  QueryTileGrad<T> query_tile_grad(Index b, Index h, Index block) const {
    const Index row = block * Config::block_rows;
    QueryTileGrad<T> grads = product_.query_tile_grad(b, h, block);
    grads.grad_panels = grads_(b, h) + row * problem_.value_dim;
    grads.grads = grad_rows_(b, h).from(row, Config::block_rows);
    grads.delta = delta_ + (b * problem_.heads + h) * padded_ + row;
    return grads;
  }

  /// The key block that starts with key `first`.
  KvTile<T> keys(Index b, Index g, Index first) const { return product_.keys(b, g, first); }
  KvTileGrad<T> kv_tile_grad(const KvGradients<T>& to, Index b, Index g, Index first) const {
    const Index row = to.heads > 1 ? g * Config::block_keys : 0;
    KvTileGrad<T> grads = product_.kv_tile_grad(to.keys + row * product_.columns(), b, g, first);
    grads.value_panels = values_(b, g);
    grads.grad_values = to.values + row * value_columns_;
    return grads;
  }
  void clear(const KvGradients<T>& to) {
    const Index rows = to.heads * Config::block_keys;
    std::fill_n(to.keys, rows * product_.columns(), T(0));
    std::fill_n(to.values, rows * value_columns_, T(0));
  }

  /// Writes the gradients of a key block of one key head, after all rows were accumulated.
  template <class V>
  void finish_keys(V& variant, Index b, Index g, const KvTileGrad<T>& grads) const {
    for (Index j = grads.keys.first; j < grads.keys.last; ++j) {
      const Index r = j - grads.keys.first;
      finish_row(
          grads.grad_keys + r * product_.columns(), &x_.k(b, g, j, 0), &x_.grad_k(b, g, j, 0),
          problem_.dim, [&] { return hook::key_factor(variant, T(1), b, g, j); },
          [&](T dot) { hook::grad_key_factor(variant, dot, b, g, j); });
      if (problem_.value_dim > 0)
        finish_row(
            grads.grad_values + r * value_columns_, &x_.v(b, g, j, 0), &x_.grad_v(b, g, j, 0),
            problem_.value_dim, [&] { return hook::value_factor(variant, T(1), b, g, j); },
            [&](T dot) { hook::grad_value_factor(variant, dot, b, g, j); });
    }
  }

  /// Writes the query gradients of one head, after all keys were accumulated.
  template <class V>
  void finish_queries(V& variant, Index b, Index h) const {
    for (Index i = 0; i < problem_.queries; ++i) {
      const Row row = row_at(b, h, i);
      finish_row(
          product_.grad_queries(b, h) + i * product_.columns(), &x_.q(b, h, i, 0),
          &x_.grad_q(b, h, i, 0), problem_.dim,
          [&] { return hook::query_factor(variant, T(1), row); },
          [&](T dot) { hook::grad_query_factor(variant, dot, row); });
    }
  }

  /// Passes the gradients of the sinks to the stages. A sink is a key without a value, so that its
  /// gradient is −Σ_i weight(i) · delta(i).
  template <class V>
  void finish_sinks(V& variant) const {
    for (Index b = 0; b < problem_.batch; ++b)
      for (Index h = 0; h < problem_.heads; ++h) {
        const T sink = hook::sink(variant, masked<T>, b, h);
        if (sink < masked_below<T>) continue;
        double sum = 0;
        for (Index i = 0; i < problem_.queries; ++i)
          sum -= std::exp(double(sink) - double(x_.lse(b, h, i))) *
                 double(delta_[(b * problem_.heads + h) * padded_ + i]);
        hook::grad_sink(variant, T(sum), b, h);
      }
  }

 private:
  Row row_at(Index b, Index h, Index i) const { return problem_.row(b, h, i); }

  BackwardTensors<T> x_;
  Problem problem_;
  Index padded_ = 0, value_columns_ = 0;
  QkOperands<T, B> product_;
  PackedPanels<T> values_, grads_;
  PackedRows<T> grad_rows_;
  T* delta_ = nullptr;  ///< [B][H][rows, in whole blocks] Σ_d ∂L/∂out · out − ∂L/∂lse
};

}  // namespace heed::inline HEED_ABI::detail
