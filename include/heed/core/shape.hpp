// SPDX-License-Identifier: MIT
/// @file
/// The sizes of one attention call, and their check.
#pragma once

#include "heed/core/views.hpp"

namespace heed::inline HEED_ABI {

/// B, H, G, Nq, Nk, D, Dv. Query head h reads key head h div (H / G).
struct Shape {
  Index batch = 0, heads = 0, key_heads = 0, queries = 0, keys = 0, dim = 0, value_dim = 0;

  Index group() const { return heads / key_heads; }  ///< Query heads per key head.
  Index key_head(Index head) const { return head / group(); }
};

namespace detail {

template <class X>
void expect_contiguous_rows(const char* what, const X& x) {
  if (x.dim(3) > 1 && x.stride(3) != 1)
    throw ShapeError(what, " has stride ", x.stride(3),
                     " along its last dimension, which must be contiguous");
}

}  // namespace detail

/// The sizes of q [B, H, Nq, D], k [B, G, Nk, D] and v [B, G, Nk, Dv].
///
/// @throws ShapeError if they do not match, or if a row is not contiguous.
template <class Q, class K, class V>
Shape common_shape(const Q& q, const K& k, const V& v) {
  const auto differ = [](const char* a, const auto& x, const char* b, const auto& y,
                         const char* why = "") {
    throw ShapeError(a, " is ", x.dims(), ", ", b, " is ", y.dims(), why);
  };
  if (k.dim(0) != q.dim(0) || k.dim(3) != q.dim(3)) differ("k", k, "q", q);
  if (v.dim(0) != k.dim(0) || v.dim(1) != k.dim(1) || v.dim(2) != k.dim(2)) differ("v", v, "k", k);
  if (k.dim(1) == 0 ? q.dim(1) != 0 : q.dim(1) % k.dim(1) != 0)
    differ("k", k, "q", q, ": query heads must be a multiple of key heads");
  if (q.dim(3) == 0) differ("q", q, "k", k, ": the head dimension must be at least 1");
  detail::expect_contiguous_rows("q", q);
  detail::expect_contiguous_rows("k", k);
  detail::expect_contiguous_rows("v", v);
  return {.batch = q.dim(0),
          .heads = q.dim(1),
          .key_heads = k.dim(1),
          .queries = q.dim(2),
          .keys = k.dim(2),
          .dim = q.dim(3),
          .value_dim = v.dim(3)};
}

}  // namespace heed::inline HEED_ABI
