// SPDX-License-Identifier: MIT
/// @file
/// The arguments of a step of a cache, and their check.
#pragma once

#include "heed/core/executor.hpp"
#include "heed/engine/pack/stored_tensor.hpp"
#include "heed/kv/kv_config.hpp"

#include <algorithm>
#include <span>

namespace heed::inline HEED_ABI {

/// Optional arguments of KvCache::step and KvBuffer::step. N is the number of rows, B of sequences.
template <class T>
struct KvStep {
  View<T, 3> lse{};                      ///< [B, H, N], overwritten; [1, H, N] if rows are packed.
  View<const std::int64_t, 1> tokens{};  ///< [B] number of the N rows that each sequence has.
  View<std::int64_t, 2> evict_row{};     ///< [B, ≥ positions] if token j is evicted, [b, j] is
                                         ///< set to the position of the first row that does not
                                         ///< see it; else it is left unchanged.
  /// [B, N], or [1, N] if rows are packed: the new tokens are a tree, such as drafts of several
  /// continuations, and each row sees only the tokens held and those from the root to itself.
  /// Number n of a sequence follows number parents(b, n) of its new tokens, −1: the last token
  /// held. A token comes right behind its parent or behind a child's last descendant (the order of
  /// a walk in depth). Stages see a row at the position of its depth. Nothing may select, use
  /// weights or have to be evicted in the step. KvSequence::accept() keeps one path.
  View<const std::int64_t, 2> parents{};
  Executor executor{};
  Workspace* workspace = nullptr;  ///< Scratch, which many caches can share; null: the cache's own.
  detail::ReservedPages* reserved = nullptr;  ///< For the library: pages set aside for this step.
};

namespace detail {

/// Queries, keys and values of the new tokens of B sequences: [B, H, N, D]; or [1, H, N, D] if the
/// rows of all sequences are packed, those of sequence b from starts[b] to starts[b + 1].
template <class T>
struct KvInputs {
  StoredTensor<T> q, k, v;
  View<const std::int64_t, 1> starts{};   ///< [B + 1]; none: not packed
  View<const std::int64_t, 1> tokens{};   ///< [B] rows of each sequence; none: N, or packed
  View<const std::int64_t, 2> parents{};  ///< see KvStep; none: each row follows the one before
  bool adds = true;  ///< false: only queries; the rows are those of the last tokens
  Index rows = 0;    ///< of the longest sequence, set by check()

  bool packed() const { return bool(starts); }
  Index rows_of(Index b) const {
    return packed() ? Index(starts(b + 1) - starts(b)) : tokens ? Index(tokens(b)) : rows;
  }
  /// A row of q, k or v; `scratch` holds one, unless it is stored as T.
  const T* row(const StoredTensor<T>& x, Index b, Index head, Index at, T* scratch) const {
    return packed() ? x.row(0, head, Index(starts(b)) + at, scratch) : x.row(b, head, at, scratch);
  }
  /// The rows of sequence b of an output; the batch index is without effect if rows are packed.
  template <std::size_t Rank>
  View<T, Rank> rows_in(const View<T, Rank>& x, Index b) const {
    if (!packed() || !x) return x;
    Dims<Rank> dims = x.dims(), strides = x.strides();
    dims[0] = b + 1, dims[2] = rows_of(b), strides[0] = 0;
    return {x.data() + Index(starts(b)) * strides[2], dims, strides};
  }

  /// Checks the sizes against those of a cache, and returns them.
  /// @throws ShapeError, ValueError
  Shape check(const KvShape& s, Index batch, CallTensors& named) {
    Shape shape{batch, s.heads, s.key_heads, q.dim(2), q.dim(2), s.dim, s.value_dim};
    if (adds) shape = common_shape(q, k, v);
    const Index leading = packed() ? 1 : batch;
    rows = shape.queries;
    expect_dims("q", q.dims(), {leading, s.heads, rows, s.dim}, "the buffer's");
    expect_contiguous_rows("q", q);
    if (adds) {
      expect_dims("k", k.dims(), {leading, s.key_heads, rows, s.dim}, "the buffer's");
      expect_dims("v", v.dims(), {leading, s.key_heads, rows, s.value_dim}, "the buffer's");
      k.check("k"), v.check("v");
    }
    if (parents) check_parents(leading, rows, named);
    if (packed()) check_starts(batch, named);
    if (tokens) {
      if (packed()) throw ValueError("step: packed rows have starts, and no tokens beside them");
      expect_dims("tokens", tokens.dims(), {batch}, "one number per sequence");
    }
    named.reads("tokens", tokens);
    expect_counts("tokens", tokens, rows);
    // Row numbers are compared as T, which represents all integers up to here.
    constexpr Index most = Index(1) << std::numeric_limits<T>::digits;
    if (rows >= most)
      throw ValueError("step: at most ", most - 1, " rows at once, there are ", rows);
    shape.batch = batch, shape.queries = rows;
    if (parents)
      for (Index b = 0; b < batch; ++b) check_tree(b);
    return shape;
  }

  /// Of new token n of a sequence: its parent, or −1.
  Index parent(Index b, Index n) const {
    if (!parents) return n - 1;
    return packed() ? Index(parents(0, Index(starts(b)) + n)) : Index(parents(b, n));
  }
  Index depth(Index b, Index n) const {
    if (!parents) return n;
    Index depth = 0;
    while ((n = parent(b, n)) >= 0) ++depth;
    return depth;
  }

 private:
  void check_parents(Index leading, Index all, CallTensors& named) const {
    named.reads("parents", parents);
    expect_dims("parents", parents.dims(), {leading, all}, "a parent for each new token");
    if (all > 0 && parents.stride(1) != 1)
      throw ShapeError("parents has stride ", parents.stride(1),
                       " along its last dimension, which must be contiguous");
  }
  /// @throws ValueError unless each parent is the token before, or one of those it descends from.
  void check_tree(Index b) const {
    for (Index n = 0; n < rows_of(b); ++n) {
      const Index wanted = parent(b, n);
      Index above = n - 1;
      while (above > wanted && above >= 0) above = parent(b, above);
      if (wanted < -1 || above != wanted)
        throw ValueError("parents of sequence ", b, ": token ", n, " follows token ", wanted,
                         ", which is neither the one before nor one that this descends from");
    }
  }
  /// Sets the number of rows to the longest sequence's.
  void check_starts(Index batch, CallTensors& named) {
    const Index all = rows;
    named.reads("starts", starts);
    expect_dims("starts", starts.dims(), {batch + 1}, "one more than there are sequences");
    rows = 0;
    for (Index b = 0; b < batch; ++b) {
      const Index first = Index(starts(b)), end = Index(starts(b + 1));
      if (first > end || (b == 0 && first != 0))
        throw ValueError("starts[", b, "] is ", first, ", starts[", b + 1, "] is ", end,
                         ": they begin with 0 and never fall");
      rows = std::max(rows, end - first);
    }
    if (starts(batch) != all)
      throw ValueError("starts[", batch, "] is ", starts(batch), ", there are ", all,
                       " packed rows");
  }
};

}  // namespace detail
}  // namespace heed::inline HEED_ABI
