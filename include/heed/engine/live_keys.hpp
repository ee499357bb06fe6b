// SPDX-License-Identifier: MIT
/// @file Keys that can be dropped for good, and those that are left, packed together.
#pragma once

#include "heed/engine/strip.hpp"

namespace heed::inline HEED_ABI::detail {

/// Bounds on scores, from norms: |s(i, j)| ≤ |q_i| |k_j|, in log2 units. One set a batch entry, of
/// all heads together, so that who is dropped does not depend on how heads are shared out.
template <class T>
class ScoreBounds {
 public:
  ScoreBounds() = default;
  ScoreBounds(const Shape& s, Index block_rows, Arena& arena)
      : shape_(s), block_rows_(block_rows), blocks_((s.queries + block_rows - 1) / block_rows) {
    queries_ = arena.take<T>(s.batch * (blocks_ + 1));
    keys_ = arena.take<T>(s.batch * (s.keys + 1));
  }

  /// Pieces that can be measured independently: a row block, and as many keys.
  Index tasks() const { return shape_.batch * (blocks_ + key_blocks()); }
  template <class V>
  void measure(Index task, const View<const T, 4>& q, const View<const T, 4>& k, const V& variant,
               Index query_offset) const {
    const Index b = task / (blocks_ + key_blocks()), piece = task % (blocks_ + key_blocks());
    if (piece < blocks_) {
      T most = 0;
      const Index first = piece * block_rows_, last = std::min(first + block_rows_, shape_.queries);
      for (Index h = 0; h < shape_.heads; ++h)
        for (Index i = first; i < last; ++i)
          most = std::max(
              most, std::abs(variant.query_factor(simd::log2e<T>, Row{b, h, i, query_offset + i})) *
                        norm(q.row(b, h, i), shape_.dim));
      queries_[b * (blocks_ + 1) + piece] = most;
    } else {
      const Index first = (piece - blocks_) * block_rows_,
                  last = std::min(first + block_rows_, shape_.keys);
      for (Index j = first; j < last; ++j) {
        T most = 0;
        for (Index g = 0; g < shape_.key_heads; ++g)
          most = std::max(
              most, std::abs(variant.key_factor(T(1), b, g, j)) * norm(k.row(b, g, j), shape_.dim));
        keys_[b * (shape_.keys + 1) + j] = most;
      }
    }
  }
  /// After all pieces.
  void finish() const {
    for (Index b = 0; b < shape_.batch; ++b) {
      T* queries = queries_ + b * (blocks_ + 1);
      queries[blocks_] = 0;
      for (Index i = blocks_; i-- > 0;) queries[i] = std::max(queries[i], queries[i + 1]);
      T* keys = keys_ + b * (shape_.keys + 1);
      keys[shape_.keys] = *std::max_element(keys, keys + shape_.keys);
    }
  }

  /// By how much key j can exceed the key of a row itself, in this row block or a later one. The
  /// row's own key it sees, unmasked.
  T lead(Index b, Index row_block, Index j) const {
    const T* keys = keys_ + b * (shape_.keys + 1);
    return queries_[b * (blocks_ + 1) + row_block] * (keys[j] + keys[shape_.keys]);
  }

 private:
  Index key_blocks() const { return (shape_.keys + block_rows_ - 1) / block_rows_; }
  static T norm(const T* x, Index dim) {
    Batch<T> squares(T(0));
    Index d = 0;
    for (; d + simd::width<T> <= dim; d += simd::width<T>) {
      const Batch<T> y = simd::load(x + d);
      squares = simd::fma(y, y, squares);
    }
    T sum = simd::reduce_add(squares);
    for (; d < dim; ++d) sum += x[d] * x[d];
    return std::sqrt(sum);
  }

  Shape shape_;
  Index block_rows_ = 1, blocks_ = 0;
  T* queries_ = nullptr;  ///< [B][row blocks + 1] of this row block and all below, with its factors
  T* keys_ = nullptr;     ///< [B][Nk + 1] of each key, and the largest
};

/// Of keys 0 … boundary − 1 those that may still matter, as one worker keeps them. What is carried
/// for them moves along: −F of the c-th live key is the c-th of the stage's array.
template <class T, class B>
class LiveKeys {
  using Tile = Tiles<T, B>;

 public:
  LiveKeys() = default;
  LiveKeys(const Shape& s, Index key_heads, Arena& arena)
      : dim_(s.dim),
        columns_(round_up(s.value_dim, simd::width<T>)),
        capacity_(round_up(s.keys, Tile::block_keys)) {
    keys_ = arena.take<Index>(s.keys);
    panels_ = arena.take<T>(key_heads * capacity_ * dim_);
    values_ = arena.take<T>(key_heads * capacity_ * columns_);
    finite_ = arena.take<std::uint8_t>(capacity_ / Tile::block_keys);
    if (!arena.measuring()) std::fill_n(finite_, capacity_ / Tile::block_keys, std::uint8_t(1));
  }

  void begin() { count_ = boundary_ = 0, dropped_ = 0; }
  Index count() const { return count_; }
  Index boundary() const { return boundary_; }
  /// The most that all who were dropped could have got from a row.
  double dropped() const { return dropped_; }

  /// Drops who is dead among the keys before `end`. No row below gives a key more than
  /// 2^excess(key, −F); dead is who gets less than 2^least. Keys that are new here come in if an
  /// eighth of them are dead, those that are here are closed up if an eighth of them are: else the
  /// copying is not worth it. Returns whether anything changed.
  template <class Excess>
  bool drop(Index end, T* carried, T least, Excess&& excess) {
    const auto is_dead = [&](Index j, T minus_f) { return excess(j, minus_f) < least; };
    Index dead = 0, fresh_dead = 0;
    for (Index c = 0; c < count_; ++c) dead += is_dead(keys_[c], carried[c]);
    for (Index j = boundary_; j < end; ++j) fresh_dead += is_dead(j, carried[j]);
    const bool closes_up = dead > 0 && 8 * dead >= count_;
    if (!closes_up && (fresh_dead == 0 || 8 * fresh_dead < end - boundary_)) return false;

    Index kept = 0;
    const auto take = [&](Index j, T minus_f) {  // `kept` never overtakes what is read
      if (is_dead(j, minus_f))
        dropped_ += std::exp2(double(excess(j, minus_f)));
      else
        keys_[kept] = j, carried[kept++] = minus_f;
    };
    packed_ = count_;
    if (closes_up) {
      while (!is_dead(keys_[kept], carried[kept])) ++kept;  // there is one
      packed_ = kept;
      for (Index c = kept; c < count_; ++c) take(keys_[c], carried[c]);
    } else {
      kept = count_;
    }
    for (Index j = boundary_; j < end; ++j) take(j, carried[j]);
    count_ = kept, boundary_ = end;
    return true;
  }

  /// Packs the live keys of one key head, in its place `slot`, but for those that stand there.
  template <class Factor>
  void pack(Index slot, const View<const T, 4>& k, Index b, Index g, Factor&& factor,
            const Rows<T>& values) const {
    T* panels = panels_ + slot * capacity_ * dim_;
    for (Index c = packed_ / Tile::panel_keys * Tile::panel_keys; c < count_; c += Tile::panel_keys)
      simd::pack_panel([&](Index r) { return k.row(b, g, keys_[c + r]); },
                       std::min<Index>(Tile::panel_keys, count_ - c), dim_, Tile::panel_keys,
                       [&](Index r) { return factor(keys_[c + r]); }, panels + c * dim_);
    T* rows = values_ + slot * capacity_ * columns_;
    for (Index c = packed_; c < count_; ++c)
      std::copy_n(values.data + keys_[c] * values.stride, columns_, rows + c * columns_);
  }
  KeyStore<T> store(Index slot) const {
    return {panels_ + slot * capacity_ * dim_,
            {values_ + slot * capacity_ * columns_, columns_, finite_}};
  }

 private:
  Index dim_ = 0, columns_ = 0, capacity_ = 0, count_ = 0, boundary_ = 0;
  double dropped_ = 0;
  Index packed_ = 0;       ///< how many of them stand where they are since they were last packed
  Index* keys_ = nullptr;  ///< [Nk] the live ones, ascending
  T *panels_ = nullptr, *values_ = nullptr;
  std::uint8_t* finite_ = nullptr;
};

}  // namespace heed::inline HEED_ABI::detail
