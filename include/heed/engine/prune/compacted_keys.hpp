// SPDX-License-Identifier: MIT
/// @file
/// The keys that remain after pruning, packed without gaps.
#pragma once

#include "heed/engine/prune/score_bounds.hpp"
#include "heed/engine/tile/query_tile.hpp"

namespace heed::inline HEED_ABI::detail {

/// The live keys among keys 0 … boundary − 1, as one worker keeps them: those that may still
/// receive weight. The stage's bias array is compacted with them: element c is the bias −F of the
/// c-th live key.
template <class T, class B>
class CompactedKeys {
  using Config = TileConfig<T, B>;
  using Packed = typename Config::Packed;
  static constexpr Index numbers = Config::numbers;

 public:
  CompactedKeys() = default;
  CompactedKeys(const Shape& s, Index key_heads, Arena& arena)
      : dim_(simd::operands<Packed>(s.dim)),
        columns_(round_up(s.value_dim, simd::width<T>)),
        capacity_(round_up(s.keys, Config::block_keys)) {
    keys_ = arena.take<Index>(s.keys);
    panels_ = arena.take<Packed>(key_heads * capacity_ * dim_);
    values_ = arena.take<Packed>(key_heads * capacity_ / numbers * columns_);
    factors_ = arena.take<T>(numbers > 1 ? key_heads * capacity_ : 0);
    finite_ = arena.take<std::uint8_t>(capacity_ / Config::block_keys);
    if (!arena.measuring()) std::fill_n(finite_, capacity_ / Config::block_keys, std::uint8_t(1));
  }

  void begin() { count_ = boundary_ = 0, pruned_weight_ = 0; }
  Index count() const { return count_; }
  Index boundary() const { return boundary_; }
  /// Upper bound of the weight that all pruned keys could have received from one row.
  double pruned_weight() const { return pruned_weight_; }

  /// Removes the keys before `end` that are dead from `row_block` on. It compacts from the first
  /// position after which at least 1/8 of the keys (new ones included) are dead, so that the copy
  /// pays off. Returns true if the live set changed.
  bool prune(Index end, T* key_bias, const ScoreBounds<T>& bounds, Index b, Index row_block) {
    const auto is_dead = [&](Index j, T bias) { return bounds.is_dead(b, row_block, j, bias); };
    const Index added = end - boundary_;
    Index dead = 0, first_moved = count_;
    for (Index j = boundary_; j < end; ++j) dead += is_dead(j, key_bias[j]);
    bool worth_copying = dead > 0 && 8 * dead >= added;
    for (Index c = count_; c-- > 0;)
      if (is_dead(keys_[c], key_bias[c]) && 8 * ++dead >= added + count_ - c)
        first_moved = c, worth_copying = true;
    if (!worth_copying) return false;

    Index kept = packed_ = first_moved;
    // In place: `kept` never passes the read position.
    const auto keep_or_prune = [&](Index j, T bias) {
      if (is_dead(j, bias))
        pruned_weight_ += bounds.weight(b, row_block, j, bias);
      else
        keys_[kept] = j, key_bias[kept++] = bias;
    };
    for (Index c = first_moved; c < count_; ++c) keep_or_prune(keys_[c], key_bias[c]);
    for (Index j = boundary_; j < end; ++j) keep_or_prune(j, key_bias[j]);
    count_ = kept, boundary_ = end;
    return true;
  }

  /// Packs the live keys of one key head into `slot`, except those that are already there.
  /// `scratch` holds a panel of keys.
  template <class Factor>
  void pack(Index slot, const StoredTensor<T>& k, Index b, Index g, Factor&& factor,
            const Rows<Packed>& values, const PackScratch<T, Packed>& scratch) const {
    Packed* panels = panels_ + slot * capacity_ * dim_;
    for (Index c = packed_ / Config::panel_keys * Config::panel_keys; c < count_;
         c += Config::panel_keys)
      pack_panel([&](Index r) { return k.row(b, g, keys_[c + r], scratch.rows + r * k.dim(3)); },
                 std::min<Index>(Config::panel_keys, count_ - c), k.dim(3),
                 Index(Config::panel_keys), [&](Index r) { return factor(keys_[c + r]); }, scratch,
                 panels + c * dim_, factors(slot) + c);
    Packed* rows = values_ + slot * capacity_ / numbers * columns_;
    for (Index c = packed_ / numbers * numbers; c < count_; c += numbers)
      copy_row(values, c, rows + c / numbers * columns_);
    zero_padding(rows, simd::operands<Packed>(count_), columns_);
  }
  PackedKv<T, Packed> store(Index slot) const {
    return {panels_ + slot * capacity_ * dim_,
            dim_,
            {values_ + slot * capacity_ / numbers * columns_, columns_, finite_},
            factors(slot)};
  }

 private:
  T* factors(Index slot) const { return factors_ + (numbers > 1 ? slot * capacity_ : 0); }

  /// Copies the values of live key c; with pairs, also those of live key c + 1 if it exists.
  void copy_row(const Rows<Packed>& values, Index c, Packed* to) const {
    const auto row = [&](Index key) { return values.data + key / numbers * values.stride; };
    if constexpr (numbers == 1) {
      std::copy_n(row(keys_[c]), columns_, to);
    } else {
      const bool last = c + 1 == count_;
      const Packed *first = row(keys_[c]), *second = last ? first : row(keys_[c + 1]);
      const Index shift = keys_[c] % 2 * 16, second_shift = last ? 0 : keys_[c + 1] % 2 * 16;
      const std::uint32_t second_half = last ? 0 : 0xffff;
      for (Index d = 0; d < columns_; ++d)
        to[d].bits = (first[d].bits >> shift & 0xffff) |
                     (second[d].bits >> second_shift & second_half) << 16;
    }
  }

  Index dim_ = 0, columns_ = 0, capacity_ = 0, count_ = 0, boundary_ = 0;
  double pruned_weight_ = 0;
  Index packed_ = 0;       ///< live keys that have not moved since they were last packed
  Index* keys_ = nullptr;  ///< [Nk] the live keys, ascending
  Packed *panels_ = nullptr, *values_ = nullptr;
  T* factors_ = nullptr;  ///< [slots][capacity], for pairs only
  std::uint8_t* finite_ = nullptr;
};

}  // namespace heed::inline HEED_ABI::detail
