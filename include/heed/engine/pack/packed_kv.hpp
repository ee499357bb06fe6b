// SPDX-License-Identifier: MIT
/// @file
/// Tensors packed in the order in which the engine reads them.
#pragma once

#include "heed/engine/blocking.hpp"
#include "heed/engine/pack/stored_tensor.hpp"
#include "heed/score/stage.hpp"
#include "heed/simd/pack.hpp"

namespace heed::inline HEED_ABI::detail {

/// Rows of one head, `stride` apart, that may be read in whole registers. With pairs, a row holds
/// two tokens.
template <class Packed>
struct Rows {
  const Packed* data = nullptr;
  Index stride = 0;
  const std::uint8_t* finite = nullptr;  ///< per block of tokens: 1 if every number is finite

  /// The rows from this one on. It must start a block, unless all blocks are finite.
  Rows from(Index row, Index block) const {
    constexpr Index numbers = simd::Operand<Packed>::numbers;
    return finite ? Rows{data + row / numbers * stride, stride, finite + row / block} : Rows{};
  }
};

/// The packed keys and values of one key head, from key 0 on.
template <class T, class Packed = T>
struct PackedKv {
  const Packed* panels = nullptr;  ///< [⌈Nk / panel_keys⌉][dim][panel_keys]
  Index dim = 0;                   ///< D, or half of it if pairs are packed
  Rows<Packed> values;
  const T* factors = nullptr;  ///< [Nk] factors of the keys, unless the panels contain them
};

/// A KV tile: keys [first, last), at most a block, with their values.
template <class T, class Packed = T>
struct KvTile {
  Index first, last;
  const Packed* panels;  ///< from `first` on
  Rows<Packed> values;
  /// If not null, K and V are read unpacked from here, and `panels` and `values` are unset.
  const RawKvBlock<T, Packed>* stored = nullptr;
  const T* factors = nullptr;  ///< PackedKv::factors, from `first` on
};

/// Scratch memory for packing: holds a few tokens of D numbers before they enter a panel.
template <class T, class Packed = T>
struct PackScratch {
  T* rows = nullptr;        ///< [tokens][D], for tokens that must be widened
  Packed* pairs = nullptr;  ///< [tokens][⌈D / 2⌉], for operands that are pairs

  PackScratch() = default;
  PackScratch(Index tokens, Index dim, bool in_place, Arena& arena)
      : rows(arena.take<T>(in_place ? 0 : tokens * dim)),
        pairs(arena.take<Packed>(
            simd::Operand<Packed>::numbers == 1 ? 0 : tokens * simd::operands<Packed>(dim))) {}
};

/// Packs a panel of `count` tokens, `width` side by side: row(r) points to the D numbers of token
/// r, and factor(r) scales them. Pairs are not scaled; their factors are written to `factors`.
template <class T, class Packed, class RowOf, class Factor>
void pack_panel(RowOf&& row, Index count, Index dim, Index width, Factor&& factor,
                const PackScratch<T, Packed>& scratch, Packed* panel, T* factors) {
  if constexpr (simd::Operand<Packed>::numbers == 1) {
    simd::pack_panel(row, count, dim, width, factor, panel);
  } else {
    const Index pairs = simd::operands<Packed>(dim);
    for (Index r = 0; r < count; ++r) {
      simd::pair_up(row(r), dim, scratch.pairs + r * pairs);
      factors[r] = factor(r);
    }
    std::fill(factors + count, factors + width, T(1));
    simd::pack_panel([&](Index r) { return &scratch.pairs[r * pairs].bits; }, count, pairs, width,
                     [](Index) { return std::uint32_t(1); }, &panel->bits);
  }
}

/// Packs tokens [first, first + block) of one head into panels: [block / width][D][width], with
/// zero padding after the last token. factor(batch, head, token) scales a token.
template <class T, class Packed, class Factor>
void pack_panels(const StoredTensor<T>& x, Index batch, Index head, Index first, Index block,
                 Index width, Factor&& factor, const PackScratch<T, Packed>& scratch,
                 Packed* panels, T* factors) {
  const Index dim = x.dim(3), stride = x.in_place() ? x.stride(2) : dim;
  for (Index token = first; token < first + block; token += width) {
    const Index count = std::clamp<Index>(x.dim(2) - token, 0, width), at = token - first;
    const T* rows = x.rows(batch, head, token, count, scratch.rows, stride);
    pack_panel([&](Index r) { return rows + r * stride; }, count, dim, width,
               [&](Index r) { return factor(batch, head, token + r); }, scratch,
               panels + at * simd::operands<Packed>(dim), factors ? factors + at : nullptr);
  }
}

/// True if rows must be copied before the kernels can read them in whole registers.
template <class Packed, class T>
bool needs_copy(const StoredTensor<T>& x, bool scaled) {
  return !std::is_same_v<Packed, T> || scaled || !x.in_place() || x.dim(3) % simd::width<T> != 0;
}

/// `count` rows of operands, rounded up to the number of rows that kernels read together.
template <class Packed>
constexpr Index padded_rows(Index count) {
  return round_up(count, simd::Operand<Packed>::value_row_multiple);
}
/// Zero-fills the padding rows.
template <class Packed>
void zero_padding(Packed* rows, Index count, Index columns) {
  std::fill(rows + count * columns, rows + padded_rows<Packed>(count) * columns, Packed{});
}

/// Packs tokens [first, first + count) of one head into rows; with pairs, a row holds two tokens.
/// Returns true if every scaled number is finite. `scratch` holds two tokens of D numbers; it is
/// needed only for pairs of tokens that must be widened.
template <class T, class Packed, class Factor>
bool pack_rows(const StoredTensor<T>& x, Index batch, Index head, Index first, Index count,
               Index columns, Factor&& factor, T* scratch, Packed* copy) {
  if constexpr (simd::Operand<Packed>::numbers == 1) {
    const T* rows = x.rows(batch, head, first, count, copy, columns);
    simd::pack_rows(
        rows, x.in_place() ? x.stride(2) : columns, count, x.dim(3),
        [&](Index r) { return factor(batch, head, first + r); }, copy, columns);
    return simd::all_finite(copy, columns, count, columns);
  } else {
    const Index dim = x.dim(3), stride = x.in_place() ? x.stride(2) : dim;
    for (Index r = 0; r < count; r += 2) {
      const bool last = r + 1 == count;
      const T* rows = x.rows(batch, head, first + r, last ? 1 : 2, scratch, stride);
      simd::pair_rows(rows, factor(batch, head, first + r), last ? nullptr : rows + stride,
                      last ? T(0) : factor(batch, head, first + r + 1), dim, columns,
                      copy + r / 2 * columns);
    }
    const Index pairs = simd::operands<Packed>(count);
    zero_padding(copy, pairs, columns);
    return simd::all_finite(copy, columns, pairs, columns);
  }
}

/// All heads of a [B, H, N, D] tensor in panels, packed by pack_panels().
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
    // One block of padding: the widest tile of a block that starts at any panel may read past the
    // last token. Scores of the padding are masked.
    const Index tokens = (tasks() + 1) * block;
    panels_ = arena.take<Packed>(tokens * dim_);
    factors_ = arena.take<T>(pairs ? tokens : 0);
  }

  /// The number of pieces that can be packed independently.
  Index tasks() const { return x_.dim(0) * x_.dim(1) * blocks_; }

  /// factor(batch, head, token) scales a token.
  template <class Factor>
  void pack(Index task, Factor&& factor, const PackScratch<T, Packed>& scratch = {}) const {
    const Index head = task / blocks_ % x_.dim(1), batch = task / blocks_ / x_.dim(1);
    pack_panels(x_, batch, head, task % blocks_ * block_, block_, width_, factor, scratch,
                panels_ + task * block_ * dim_, pairs ? factors_ + task * block_ : nullptr);
  }

  /// The panels of one head, together with its values.
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
  T* factors_ = nullptr;  ///< [B][H][tokens], for pairs only
};

/// All heads of a [B, H, N, D] tensor in rows: the tensor itself if the kernels can read it, else a
/// copy.
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
        head_rows_(padded_rows<Packed>(simd::operands<Packed>(x.dim(2)))),
        copies_(needs_copy<Packed>(x, scaled)) {
    finite_ = arena.take<std::uint8_t>(x.dim(0) * x.dim(1) * blocks_);
    if (copies_) rows_ = arena.take<Packed>(x.dim(0) * x.dim(1) * head_rows_ * columns_);
  }

  Index tasks() const { return x_.dim(0) * x_.dim(1) * blocks_; }
  Index columns() const { return columns_; }

  /// `scratch` is passed to pack_rows().
  template <class Factor>
  void pack(Index task, Factor&& factor, T* scratch = nullptr) const {
    const Index head_index = task / blocks_, head = head_index % x_.dim(1),
                batch = head_index / x_.dim(1), first = task % blocks_ * block_,
                rows = std::min(block_, x_.dim(2) - first);
    finite_[task] =
        copies_
            ? pack_rows(x_, batch, head, first, rows, columns_, factor, scratch,
                        rows_ + (head_index * head_rows_ + first / numbers) * columns_)
            : simd::all_finite(x_.row(batch, head, first, nullptr), x_.stride(2), rows, x_.dim(3));
  }

  Rows<Packed> operator()(Index batch, Index head) const {
    const Index head_index = batch * x_.dim(1) + head;
    const std::uint8_t* finite = finite_ + head_index * blocks_;
    if constexpr (std::is_same_v<Packed, T>)
      if (!copies_) return {x_.row(batch, head, 0, nullptr), x_.stride(2), finite};
    return {rows_ + head_index * head_rows_ * columns_, columns_, finite};
  }

 private:
  StoredTensor<T> x_;
  Index block_ = 1, blocks_ = 0, columns_ = 0;
  Index head_rows_ = 0;  ///< rows per head of the copy
  bool copies_ = false;
  Packed* rows_ = nullptr;
  std::uint8_t* finite_ = nullptr;
};

}  // namespace heed::inline HEED_ABI::detail
