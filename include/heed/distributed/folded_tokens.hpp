// SPDX-License-Identifier: MIT
/// @file
/// Queries, keys and values times their factors, as the parts of a distributed call take them.
#pragma once

#include "heed/distributed/rank_call.hpp"
#include "heed/engine/schedule/backward_operands.hpp"

namespace heed::inline HEED_ABI::distributed::detail {

/// A rank's rows, with scale and temperatures multiplied in, so that keys travel ready for use.
/// Also the gradients with respect to them.
template <class T>
struct FoldedTokens {
  Array<T, 4> q, k, v;

  FoldedTokens() = default;
  /// Zeros.
  explicit FoldedTokens(const Shape& s)
      : q({s.batch, s.heads, s.queries, s.dim}),
        k({s.batch, s.key_heads, s.keys, s.dim}),
        v({s.batch, s.key_heads, s.keys, s.value_dim}) {}
};

/// Calls visit(b, head, chunk, i) for each row of this rank and each of `heads` heads.
template <class Call, class Visit>
void each_own_row(const Call& call, Index heads, Visit&& visit) {
  for (Index b = 0; b < call.shape().batch; ++b)
    for (Index h = 0; h < heads; ++h)
      for (const Chunk& chunk : call.chunks())
        for (Index i = 0; i < chunk.rows(); ++i) visit(b, h, chunk, i);
}

template <class T, Stage V>
FoldedTokens<T> fold(const RankCall<T, V>& call) {
  FoldedTokens<T> folded(call.shape());
  const auto scale = [](const View<const T, 4>& from, const View<T, 4>& to, Index b, Index h,
                        Index i, T factor) {
    for (Index d = 0; d < to.dim(3); ++d) to(b, h, i, d) = factor * from(b, h, i, d);
  };
  with_bound<T>(chosen<ThatRescale<T>>(call.variant()), call.rows(), [&](const auto& factors) {
    each_own_row(call, call.shape().heads, [&](Index b, Index h, const Chunk& chunk, Index i) {
      scale(call.q(), folded.q.view(), b, h, chunk.row + i,
            hook::query_factor(factors, T(1), call.row(b, h, chunk, i)));
    });
    for (Index j = 0; j < call.shape().keys; ++j)
      for (Index b = 0; b < call.shape().batch; ++b)
        for (Index g = 0; g < call.shape().key_heads; ++g) {
          scale(call.k(), folded.k.view(), b, g, j, hook::key_factor(factors, T(1), b, g, j));
          scale(call.v(), folded.v.view(), b, g, j, hook::value_factor(factors, T(1), b, g, j));
        }
  });
  return folded;
}

/// The gradients of q, k and v, and of the factors, from those of the folded tokens.
template <class T, Stage V>
void unfold(const RankCall<T, V>& call, const FoldedTokens<T>& grads, const View<T, 4>& grad_q,
            const View<T, 4>& grad_k, const View<T, 4>& grad_v) {
  const Shape& s = call.shape();
  with_bound<T>(chosen<ThatRescale<T>>(call.variant()), call.rows(), [&](auto& factors) {
    hook::clear_gradients(factors);
    each_own_row(call, s.heads, [&](Index b, Index h, const Chunk& chunk, Index i) {
      const Row row = call.row(b, h, chunk, i);
      heed::detail::finish_row(
          grads.q.view().row(b, h, row.index), call.q().row(b, h, row.index),
          grad_q.row(b, h, row.index), s.dim,
          [&] { return hook::query_factor(factors, T(1), row); },
          [&](T dot) { hook::grad_query_factor(factors, dot, row); });
    });
    hook::begin_gradients(factors, Index(0), s.keys);
    each_own_row(call, s.key_heads, [&](Index b, Index g, const Chunk& chunk, Index i) {
      const Index j = chunk.row + i;
      heed::detail::finish_row(
          grads.k.view().row(b, g, j), call.k().row(b, g, j), grad_k.row(b, g, j), s.dim,
          [&] { return hook::key_factor(factors, T(1), b, g, j); },
          [&](T dot) { hook::grad_key_factor(factors, dot, b, g, j); });
      heed::detail::finish_row(
          grads.v.view().row(b, g, j), call.v().row(b, g, j), grad_v.row(b, g, j), s.value_dim,
          [&] { return hook::value_factor(factors, T(1), b, g, j); },
          [&](T dot) { hook::grad_value_factor(factors, dot, b, g, j); });
    });
    hook::end_gradients(factors, Index(0), s.keys);
  });
}

}  // namespace heed::inline HEED_ABI::distributed::detail
