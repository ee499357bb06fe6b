// SPDX-License-Identifier: MIT
/// @file Tensors in the order the engine reads them in.
#pragma once

#include "heed/engine/blocking.hpp"
#include "heed/engine/tokens.hpp"
#include "heed/score/stage.hpp"
#include "heed/simd/pack.hpp"

namespace heed::inline HEED_ABI::detail {

/// Rows of one head, `stride` apart, that can be read to the end of a register.
template <class T>
struct Rows {
  const T* data = nullptr;
  Index stride = 0;
  const std::uint8_t* finite = nullptr;  ///< per block of tokens: is every number finite?

  /// From this row on, the first of a block.
  Rows from(Index row, Index block) const {
    return finite ? Rows{data + row * stride, stride, finite + row / block} : Rows{};
  }
};

/// What the forward pass reads of one key head, from key 0 on.
template <class T>
struct KeyStore {
  const T* panels = nullptr;  ///< [⌈Nk / panel_keys⌉][D][panel_keys]
  Index dim = 0;
  Rows<T> values;
};

/// Keys [first, last), at most a block, and what is read of them.
template <class T>
struct KeyBlock {
  Index first, last;
  const T* panels;  ///< from `first` on
  Rows<T> values;
  const StoredBlock<T>* stored = nullptr;  ///< if given, it is all there is
};

/// Tokens [first, first + block) of one head in panels: [block / width][D][width], `width` tokens
/// side by side, zero behind the last. factor(batch, head, token) scales a token.
///
/// @param room  [width][D], where tokens are not in place.
template <class T, class Factor>
void pack_panels(const Tokens<T>& x, Index batch, Index head, Index first, Index block, Index width,
                 Factor&& factor, T* room, T* panels) {
  const Index dim = x.dim(3), stride = x.in_place() ? x.stride(2) : dim;
  for (Index token = first; token < first + block; token += width, panels += width * dim) {
    const Index count = std::clamp<Index>(x.dim(2) - token, 0, width);
    const T* rows = x.rows(batch, head, token, count, room, stride);
    simd::pack_panel([&](Index r) { return rows + r * stride; }, count, dim, width,
                     [&](Index r) { return factor(batch, head, token + r); }, panels);
  }
}

/// Can tokens not be read where they are, a register behind the other?
template <class T>
bool needs_copy(const Tokens<T>& x, bool scaled) {
  return scaled || !x.in_place() || x.dim(3) % simd::width<T> != 0;
}

/// The same in rows; returns whether every number of them is finite, scaled as it is.
template <class T, class Factor>
bool pack_rows(const Tokens<T>& x, Index batch, Index head, Index first, Index count, Index columns,
               Factor&& factor, T* copy) {
  const T* rows = x.rows(batch, head, first, count, copy, columns);
  simd::pack_rows(
      rows, x.in_place() ? x.stride(2) : columns, count, x.dim(3),
      [&](Index r) { return factor(batch, head, first + r); }, copy, columns);
  return simd::all_finite(copy, columns, count, columns);
}

/// Every head of a [B, H, N, D] tensor in panels, from pack_panels().
template <class T>
class PackedPanels {
 public:
  PackedPanels() = default;
  PackedPanels(const Tokens<T>& x, Index width, Index block, Arena& arena)
      : x_(x),
        width_(width),
        block_(block),
        blocks_((x.dim(2) + block - 1) / block),
        panels_(arena.take<T>(x.dim(0) * x.dim(1) * blocks_ * block * x.dim(3))) {}

  /// Pieces that can be packed independently.
  Index tasks() const { return x_.dim(0) * x_.dim(1) * blocks_; }

  /// factor(batch, head, token) scales a token. `room` is pack_panels()'s.
  template <class Factor>
  void pack(Index task, Factor&& factor, T* room = nullptr) const {
    const Index head = task / blocks_ % x_.dim(1), batch = task / blocks_ / x_.dim(1);
    pack_panels(x_, batch, head, task % blocks_ * block_, block_, width_, factor, room,
                panels_ + task * block_ * x_.dim(3));
  }

  /// One head's, beside its values.
  KeyStore<T> store(Index batch, Index head, const Rows<T>& values = {}) const {
    return {(*this)(batch, head), x_.dim(3), values};
  }
  /// The panels of one head, from token 0.
  T* operator()(Index batch, Index head) const {
    return panels_ + (batch * x_.dim(1) + head) * blocks_ * block_ * x_.dim(3);
  }

 private:
  Tokens<T> x_;
  Index width_ = 1, block_ = 1, blocks_ = 0;
  T* panels_ = nullptr;
};

/// Every head of a [B, H, N, D] tensor in rows: the tensor itself if it can be read where it is,
/// else a copy.
template <class T>
class PackedRows {
 public:
  PackedRows() = default;
  PackedRows(const Tokens<T>& x, bool scaled, Index block, Arena& arena)
      : x_(x),
        block_(block),
        blocks_((x.dim(2) + block - 1) / block),
        columns_(round_up(x.dim(3), simd::width<T>)),
        copies_(needs_copy(x, scaled)) {
    finite_ = arena.take<std::uint8_t>(x.dim(0) * x.dim(1) * blocks_);
    if (copies_) rows_ = arena.take<T>(x.dim(0) * x.dim(1) * x.dim(2) * columns_);
  }

  Index tasks() const { return x_.dim(0) * x_.dim(1) * blocks_; }
  Index columns() const { return columns_; }

  template <class Factor>
  void pack(Index task, Factor&& factor) const {
    const Index which = task / blocks_, head = which % x_.dim(1), batch = which / x_.dim(1),
                first = task % blocks_ * block_, rows = std::min(block_, x_.dim(2) - first);
    finite_[task] = copies_ ? pack_rows(x_, batch, head, first, rows, columns_, factor,
                                        rows_ + (which * x_.dim(2) + first) * columns_)
                            : simd::all_finite(x_.row(batch, head, first, nullptr), x_.stride(2),
                                               rows, x_.dim(3));
  }

  Rows<T> operator()(Index batch, Index head) const {
    const Index which = batch * x_.dim(1) + head;
    const std::uint8_t* finite = finite_ + which * blocks_;
    if (copies_) return {rows_ + which * x_.dim(2) * columns_, columns_, finite};
    return {x_.row(batch, head, 0, nullptr), x_.stride(2), finite};
  }

 private:
  Tokens<T> x_;
  Index block_ = 1, blocks_ = 0, columns_ = 0;
  bool copies_ = false;
  T* rows_ = nullptr;
  std::uint8_t* finite_ = nullptr;
};

}  // namespace heed::inline HEED_ABI::detail
