// SPDX-License-Identifier: MIT
/// @file Tensors in the order the engine reads them in.
#pragma once

#include "heed/engine/blocking.hpp"
#include "heed/engine/pack/stored_tensor.hpp"
#include "heed/score/stage.hpp"
#include "heed/simd/pack.hpp"

namespace heed::inline HEED_ABI::detail {

/// Rows of one head, `stride` apart, that can be read to the end of a register. Of pairs, a row
/// holds two tokens.
template <class Packed>
struct Rows {
  const Packed* data = nullptr;
  Index stride = 0;
  const std::uint8_t* finite = nullptr;  ///< per block of tokens: is every number finite?

  /// From this row on: the first of a block, or every number of all blocks is finite.
  Rows from(Index row, Index block) const {
    constexpr Index numbers = simd::Operand<Packed>::numbers;
    return finite ? Rows{data + row / numbers * stride, stride, finite + row / block} : Rows{};
  }
};

/// What the forward pass reads of one key head, from key 0 on.
template <class T, class Packed = T>
struct PackedKv {
  const Packed* panels = nullptr;  ///< [⌈Nk / panel_keys⌉][dim][panel_keys]
  Index dim = 0;                   ///< D, or half of it if pairs are packed
  Rows<Packed> values;
  const T* factors = nullptr;  ///< of each key, where they are not in the panels
};

/// Keys [first, last), at most a block, and what is read of them.
template <class T, class Packed = T>
struct KvTile {
  Index first, last;
  const Packed* panels;  ///< from `first` on
  Rows<Packed> values;
  const RawKvBlock<T, Packed>* stored = nullptr;  ///< if given, it is all there is
  const T* factors = nullptr;                     ///< PackedKv's, from `first` on
};

/// A few tokens of D numbers on their way into a panel.
template <class T, class Packed = T>
struct PackScratch {
  T* rows = nullptr;        ///< [tokens][D], where they are not in place
  Packed* pairs = nullptr;  ///< [tokens][⌈D / 2⌉], where they are paired

  PackScratch() = default;
  PackScratch(Index tokens, Index dim, bool in_place, Arena& arena)
      : rows(arena.take<T>(in_place ? 0 : tokens * dim)),
        pairs(arena.take<Packed>(
            simd::Operand<Packed>::numbers == 1 ? 0 : tokens * simd::operands<Packed>(dim))) {}
};

/// A panel of `count` tokens, `width` side by side: row(r) points to token r's D numbers, factor(r)
/// scales it. Pairs are not scaled: their factors go to `factors`.
template <class T, class Packed, class RowOf, class Factor>
void pack_panel(RowOf&& row, Index count, Index dim, Index width, Factor&& factor,
                const PackScratch<T, Packed>& room, Packed* panel, T* factors) {
  if constexpr (simd::Operand<Packed>::numbers == 1) {
    simd::pack_panel(row, count, dim, width, factor, panel);
  } else {
    const Index pairs = simd::operands<Packed>(dim);
    for (Index r = 0; r < count; ++r) {
      simd::pair_up(row(r), dim, room.pairs + r * pairs);
      factors[r] = factor(r);
    }
    std::fill(factors + count, factors + width, T(1));
    simd::pack_panel([&](Index r) { return &room.pairs[r * pairs].bits; }, count, pairs, width,
                     [](Index) { return std::uint32_t(1); }, &panel->bits);
  }
}

/// Tokens [first, first + block) of one head in panels: [block / width][D][width], `width` tokens
/// side by side, zero behind the last. factor(batch, head, token) scales a token.
template <class T, class Packed, class Factor>
void pack_panels(const StoredTensor<T>& x, Index batch, Index head, Index first, Index block,
                 Index width, Factor&& factor, const PackScratch<T, Packed>& room, Packed* panels,
                 T* factors) {
  const Index dim = x.dim(3), stride = x.in_place() ? x.stride(2) : dim;
  for (Index token = first; token < first + block; token += width) {
    const Index count = std::clamp<Index>(x.dim(2) - token, 0, width), at = token - first;
    const T* rows = x.rows(batch, head, token, count, room.rows, stride);
    pack_panel([&](Index r) { return rows + r * stride; }, count, dim, width,
               [&](Index r) { return factor(batch, head, token + r); }, room,
               panels + at * simd::operands<Packed>(dim), factors ? factors + at : nullptr);
  }
}

/// Can tokens not be read where they are, a register behind the other?
template <class Packed, class T>
bool needs_copy(const StoredTensor<T>& x, bool scaled) {
  return !std::is_same_v<Packed, T> || scaled || !x.in_place() || x.dim(3) % simd::width<T> != 0;
}

/// Rows of operands of which `count` are there, up to those that are read together.
template <class Packed>
constexpr Index whole_rows(Index count) {
  return round_up(count, simd::Operand<Packed>::together);
}
/// Noughts in the rows behind the last.
template <class Packed>
void end_rows(Packed* rows, Index count, Index columns) {
  std::fill(rows + count * columns, rows + whole_rows<Packed>(count) * columns, Packed{});
}

/// The same in rows, of pairs two tokens in one; returns whether every number of them is finite,
/// scaled as it is. `room` is for two tokens of D numbers, where they are paired and not in place.
template <class T, class Packed, class Factor>
bool pack_rows(const StoredTensor<T>& x, Index batch, Index head, Index first, Index count,
               Index columns, Factor&& factor, T* room, Packed* copy) {
  if constexpr (simd::Operand<Packed>::numbers == 1) {
    const T* rows = x.rows(batch, head, first, count, copy, columns);
    simd::pack_rows(
        rows, x.in_place() ? x.stride(2) : columns, count, x.dim(3),
        [&](Index r) { return factor(batch, head, first + r); }, copy, columns);
    return simd::all_finite(copy, columns, count, columns);
  } else {
    const Index dim = x.dim(3), stride = x.in_place() ? x.stride(2) : dim;
    for (Index r = 0; r < count; r += 2) {
      const bool alone = r + 1 == count;
      const T* rows = x.rows(batch, head, first + r, alone ? 1 : 2, room, stride);
      simd::pair_rows(rows, factor(batch, head, first + r), alone ? nullptr : rows + stride,
                      alone ? T(0) : factor(batch, head, first + r + 1), dim, columns,
                      copy + r / 2 * columns);
    }
    const Index pairs = simd::operands<Packed>(count);
    end_rows(copy, pairs, columns);
    return simd::all_finite(copy, columns, pairs, columns);
  }
}

/// Every head of a [B, H, N, D] tensor in panels, from pack_panels().
template <class T, class Packed = T>
class PackedPanels {
  static constexpr bool pairs = simd::Operand<Packed>::numbers > 1;

 public:
  PackedPanels() = default;
  PackedPanels(const StoredTensor<T>& x, Index width, Index block, Arena& arena)
      : x_(x),
        width_(width),
        block_(block),
        blocks_((x.dim(2) + block - 1) / block),
        dim_(simd::operands<Packed>(x.dim(3))) {
    // Behind the last there is room for the widest tile of a block that begins at any panel. What
    // is read there is masked.
    const Index tokens = (tasks() + 1) * block;
    panels_ = arena.take<Packed>(tokens * dim_);
    factors_ = arena.take<T>(pairs ? tokens : 0);
  }

  /// Pieces that can be packed independently.
  Index tasks() const { return x_.dim(0) * x_.dim(1) * blocks_; }

  /// factor(batch, head, token) scales a token.
  template <class Factor>
  void pack(Index task, Factor&& factor, const PackScratch<T, Packed>& room = {}) const {
    const Index head = task / blocks_ % x_.dim(1), batch = task / blocks_ / x_.dim(1);
    pack_panels(x_, batch, head, task % blocks_ * block_, block_, width_, factor, room,
                panels_ + task * block_ * dim_, pairs ? factors_ + task * block_ : nullptr);
  }

  /// One head's, beside its values.
  PackedKv<T, Packed> store(Index batch, Index head, const Rows<Packed>& values = {}) const {
    return {(*this)(batch, head), dim_, values,
            pairs ? factors_ + (batch * x_.dim(1) + head) * blocks_ * block_ : nullptr};
  }
  /// The panels of one head, from token 0.
  Packed* operator()(Index batch, Index head) const {
    return panels_ + (batch * x_.dim(1) + head) * blocks_ * block_ * dim_;
  }

 private:
  StoredTensor<T> x_;
  Index width_ = 1, block_ = 1, blocks_ = 0, dim_ = 0;
  Packed* panels_ = nullptr;
  T* factors_ = nullptr;  ///< [B][H][tokens], of pairs
};

/// Every head of a [B, H, N, D] tensor in rows: the tensor itself if it can be read where it is,
/// else a copy.
template <class T, class Packed = T>
class PackedRows {
  static constexpr Index numbers = simd::Operand<Packed>::numbers;

 public:
  PackedRows() = default;
  PackedRows(const StoredTensor<T>& x, bool scaled, Index block, Arena& arena)
      : x_(x),
        block_(block),
        blocks_((x.dim(2) + block - 1) / block),
        columns_(round_up(x.dim(3), simd::width<T>)),
        head_rows_(whole_rows<Packed>(simd::operands<Packed>(x.dim(2)))),
        copies_(needs_copy<Packed>(x, scaled)) {
    finite_ = arena.take<std::uint8_t>(x.dim(0) * x.dim(1) * blocks_);
    if (copies_) rows_ = arena.take<Packed>(x.dim(0) * x.dim(1) * head_rows_ * columns_);
  }

  Index tasks() const { return x_.dim(0) * x_.dim(1) * blocks_; }
  Index columns() const { return columns_; }

  /// `room` is pack_rows()'s.
  template <class Factor>
  void pack(Index task, Factor&& factor, T* room = nullptr) const {
    const Index which = task / blocks_, head = which % x_.dim(1), batch = which / x_.dim(1),
                first = task % blocks_ * block_, rows = std::min(block_, x_.dim(2) - first);
    finite_[task] = copies_ ? pack_rows(x_, batch, head, first, rows, columns_, factor, room,
                                        rows_ + (which * head_rows_ + first / numbers) * columns_)
                            : simd::all_finite(x_.row(batch, head, first, nullptr), x_.stride(2),
                                               rows, x_.dim(3));
  }

  Rows<Packed> operator()(Index batch, Index head) const {
    const Index which = batch * x_.dim(1) + head;
    const std::uint8_t* finite = finite_ + which * blocks_;
    if constexpr (std::is_same_v<Packed, T>)
      if (!copies_) return {x_.row(batch, head, 0, nullptr), x_.stride(2), finite};
    return {rows_ + which * head_rows_ * columns_, columns_, finite};
  }

 private:
  StoredTensor<T> x_;
  Index block_ = 1, blocks_ = 0, columns_ = 0;
  Index head_rows_ = 0;  ///< of a copy
  bool copies_ = false;
  Packed* rows_ = nullptr;
  std::uint8_t* finite_ = nullptr;
};

}  // namespace heed::inline HEED_ABI::detail
