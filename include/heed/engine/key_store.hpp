// SPDX-License-Identifier: MIT
/// @file Tensors in the order the engine reads them in.
#pragma once

#include "heed/engine/blocking.hpp"
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
};

/// Every head of a [B, H, N, D] tensor in panels: [N / width][D][width], `width` tokens side by
/// side. Panels go on to the end of a block of tokens, zero behind the last.
template <class T>
class PackedPanels {
 public:
  PackedPanels() = default;
  PackedPanels(const View<const T, 4>& x, Index width, Index block, Arena& arena)
      : x_(x),
        width_(width),
        block_(block),
        blocks_((x.dim(2) + block - 1) / block),
        panels_(arena.take<T>(x.dim(0) * x.dim(1) * blocks_ * block * x.dim(3))) {}

  /// Pieces that can be packed independently.
  Index tasks() const { return x_.dim(0) * x_.dim(1) * blocks_; }

  /// factor(batch, head, token) scales a token.
  template <class Factor>
  void pack(Index task, Factor&& factor) const {
    const Index head = task / blocks_ % x_.dim(1), batch = task / blocks_ / x_.dim(1),
                first = task % blocks_ * block_, dim = x_.dim(3);
    T* panels = panels_ + task * block_ * dim;
    for (Index token = first; token < first + block_; token += width_, panels += width_ * dim)
      simd::pack_panel([&](Index r) { return x_.row(batch, head, token + r); },
                       std::clamp<Index>(x_.dim(2) - token, 0, width_), dim, width_,
                       [&](Index r) { return factor(batch, head, token + r); }, panels);
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
  View<const T, 4> x_;
  Index width_ = 1, block_ = 1, blocks_ = 0;
  T* panels_ = nullptr;
};

/// Every head of a [B, H, N, D] tensor in rows: the tensor itself if its rows end with a register
/// and nothing scales them, else a copy.
template <class T>
class PackedRows {
 public:
  PackedRows() = default;
  PackedRows(const View<const T, 4>& x, bool scaled, Index block, Arena& arena)
      : x_(x),
        block_(block),
        blocks_((x.dim(2) + block - 1) / block),
        columns_(round_up(x.dim(3), simd::width<T>)) {
    finite_ = arena.take<std::uint8_t>(x.dim(0) * x.dim(1) * blocks_);
    if (scaled || columns_ != x.dim(3))
      rows_ = arena.take<T>(x.dim(0) * x.dim(1) * x.dim(2) * columns_);
    copies_ = scaled || columns_ != x.dim(3);
  }

  Index tasks() const { return x_.dim(0) * x_.dim(1) * blocks_; }
  Index columns() const { return columns_; }

  template <class Factor>
  void pack(Index task, Factor&& factor) const {
    const Index which = task / blocks_, head = which % x_.dim(1), batch = which / x_.dim(1),
                first = task % blocks_ * block_, rows = std::min(block_, x_.dim(2) - first);
    const T* x = x_.row(batch, head, first);
    if (!copies_) {
      finite_[task] = simd::all_finite(x, x_.stride(2), rows, x_.dim(3));
      return;
    }
    T* copy = rows_ + (which * x_.dim(2) + first) * columns_;
    simd::pack_rows(
        x, x_.stride(2), rows, x_.dim(3), [&](Index r) { return factor(batch, head, first + r); },
        copy, columns_);
    finite_[task] = simd::all_finite(copy, columns_, rows, columns_);  // scaled, as they are read
  }

  Rows<T> operator()(Index batch, Index head) const {
    const Index which = batch * x_.dim(1) + head;
    const T* own = x_.data() + batch * x_.stride(0) + head * x_.stride(1);
    return {copies_ ? rows_ + which * x_.dim(2) * columns_ : own, copies_ ? columns_ : x_.stride(2),
            finite_ + which * blocks_};
  }

 private:
  View<const T, 4> x_;
  Index block_ = 1, blocks_ = 0, columns_ = 0;
  bool copies_ = false;
  T* rows_ = nullptr;
  std::uint8_t* finite_ = nullptr;
};

}  // namespace heed::inline HEED_ABI::detail
