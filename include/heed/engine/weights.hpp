// SPDX-License-Identifier: MIT
/// @file
/// Attention weights for inspection.
#pragma once

#include "heed/engine/schedule/forward_pass.hpp"

namespace heed::inline HEED_ABI {

/// The weights to return.
struct WeightsOf {
  Index batch = 0, head = 0;
  Index row = 0;  ///< the first row
  Index rows = 1;
};

/// out[r, j] = w(row + r, j), the softmax weights that forward() used and did not store; 0 where
/// masked.
///
/// @param lse  [B, H, Nq], the result of forward() for the same arguments.
/// @param out  [rows, Nk], overwritten.
/// @throws ShapeError if a shape does not match, ValueError if the batch entry, head or rows do not
///     exist.
/// @note Costs the scores of the requested rows. If a stage carries state from row to row, it also
///       costs the selecting head's scores of all rows before them. No other weights are ever in
///       memory.
template <class Q, TokensLike K, Stage Variant, class Lse, class Out>
requires TensorLike<Q, 4> && TensorLike<Lse, 3> && TensorLike<Out, 2>
void weights(const Q& q, const K& k, const Variant& variant, const Lse& lse, const WeightsOf& of,
             Out&& out) {
  using T = ScalarOf<Out>;
  static_assert(StoredFor<Q, T> && StoredFor<K, T>,
                "heed: q and k must have the number type of the weights, or be stored in 16 bits, "
                "k also be Quantized");
  detail::CallTensors tensors;
  detail::reads_tokens(tensors, "q", "", q);
  detail::reads_tokens(tensors, "k", "the scale of k", k);
  const detail::StoredTensor<T> queries(q), keys(k);
  const View<const T, 3> known(lse);
  const View<T, 2> to(out);
  // The weights need no values: pass a view without columns.
  const View<const T, 4> none(nullptr, {keys.dim(0), keys.dim(1), keys.dim(2), 0}, {0, 0, 0, 1});
  detail::ForwardPass<T, Blocking<T>, Variant> pass(queries, keys, none, variant, &tensors);
  const Problem& p = pass.problem();
  expect_dims("lse", known.dims(), {p.batch, p.heads, p.queries}, "one number per row of q");
  if (of.batch < 0 || of.batch >= p.batch || of.head < 0 || of.head >= p.heads || of.row < 0 ||
      of.rows < 0 || of.rows > p.queries - of.row)
    throw ValueError("weights of batch ", of.batch, ", head ", of.head, ", ", of.rows,
                     " rows from ", of.row, " do not exist: q is ", queries.dims());
  expect_dims("weights", to.dims(), {of.rows, p.keys}, "the rows asked for, and the keys");
  tensors.reads("lse", known), tensors.writes("weights", to);
  pass.softmax_weights(known, of.batch, of.head, of.row, of.rows, to);
}

}  // namespace heed::inline HEED_ABI
