// SPDX-License-Identifier: MIT
/// @file
/// The scan of selective attention: one worker's state, which turns votes into F down the rows, and
/// the gradient of F into those of the votes up the rows. See selective.hpp.
#pragma once

#include "heed/score/stage.hpp"
#include "heed/score/votes.hpp"

namespace heed::inline HEED_ABI {

/// Optional inputs and outputs of selective attention, beside q, k and v.
template <class T>
struct SelectTensors {
  View<const T, 2> carry_in;                   ///< [B, Nk] F of the first row, from earlier rows
  View<const std::uint8_t, 2> protected_keys;  ///< [B, Nk] not 0 where a key gets no votes
  View<T, 2> carry_out;                        ///< [B, Nk] F of the row after the last
  View<T, 2> memory;                           ///< [B, Nq] M, see Selective::memory
  double memory_tau = 1;
  View<T, 3> mask_f;  ///< [B, Nq, Nk]
  Projection<T> projection;
  View<T, 2> grad_carry_in;         ///< [B, Nk]
  View<const T, 2> grad_carry_out;  ///< [B, Nk]
  View<const T, 2> grad_memory;     ///< [B, Nq]
  GradProjection<T> grad_projection;
};

namespace detail {

/// One worker's pass over the rows of one batch entry.
template <class T>
class Selecting : public StageOf<Rank::scan> {
 public:
  /// The largest tile that the engine passes to scan_tile().
  static constexpr Index block_rows = largest_tile_rows, block_keys = largest_tile_keys;

  Selecting() = default;
  Selecting(const SelectOptions& options, const SelectTensors<T>& tensors, const Problem& p,
            Arena& arena)
      : options_(options), tensors_(tensors), problem_(p) {
    carry_ = arena.take<T>(p.keys + block_keys);
    penalty_ = arena.take<T>(block_rows * block_keys);
    if (!p.is_one_sequence() || tensors.protected_keys)
      first_keys_ = arena.take<T>(p.keys + block_keys);
    if (p.backward) {
      score_grads_ = arena.take<T>(block_rows * block_keys);
      below_ = arena.take<T>(block_keys);
    }
    // Copied: carry_out may be carry_in itself, and one worker may write it before another reads
    // it.
    if (tensors.carry_in && tensors.carry_out) {
      carry_in_ = arena.take<T>(p.batch * p.keys);
      if (!arena.measuring())
        for (Index b = 0; b < p.batch; ++b)
          for (Index j = 0; j < p.keys; ++j) carry_in_[b * p.keys + j] = tensors.carry_in(b, j);
    }
  }

  Index selecting_head() const { return options_.head; }
  bool keeps_causal_past() const { return true; }
  bool shares_gradients() const { return false; }
  Projection<T> projection() const { return tensors_.projection; }
  /// Without accumulation, a row that casts no vote still clears the votes of the row before.
  bool visits_masked_tiles() const {
    return !options_.accumulate || tensors_.grad_memory ||
           (leader_ && (tensors_.memory || tensors_.mask_f));
  }

  void begin(Index batch, bool leader) {
    batch_ = batch;
    leader_ = leader;
    std::fill_n(carry_, problem_.keys + block_keys, T(0));
    if (tensors_.carry_in)
      for (Index j = 0; j < problem_.keys; ++j) carry_[j] = -carry_in(batch, j) * simd::log2e<T>;
    if (first_keys_) {
      std::fill_n(first_keys_, problem_.keys + block_keys, T(0));
      for (Index j = 0; j < problem_.keys; ++j)
        if (tensors_.protected_keys ? tensors_.protected_keys(batch, j) != 0
                                    : problem_.first_key(batch, j) == j)
          first_keys_[j] = T(1);
    }
    if (leader && tensors_.memory)  // keys past the last one are never masked
      for (Index i = 0; i < problem_.queries; ++i) {
        const Index p = problem_.position(batch, i);
        tensors_.memory(batch, i) =
            T(std::max<Index>(p + 1 - std::max(problem_.first_key(batch, p), problem_.keys), 0));
      }
    if (leader && tensors_.mask_f)
      for (Index i = 0; i < problem_.queries; ++i)
        for (Index j = 0; j < problem_.keys; ++j) tensors_.mask_f(batch, i, j) = 0;
  }
  /// F never decreases if votes are not negative and accumulate. The bounds of pruning assume that
  /// every row sees its own key and the first one unmasked. M does not depend on −F once it is
  /// below −τ.
  T* monotone_key_bias(T threshold) {
    const bool f_is_wanted =
        problem_.backward ? bool(tensors_.grad_carry_out) : tensors_.carry_out || tensors_.mask_f;
    const bool m_is_wanted = problem_.backward ? bool(tensors_.grad_memory) : bool(tensors_.memory);
    if (!votes_as_in_the_paper(options_) || f_is_wanted || tensors_.projection.queries)
      return nullptr;
    if (m_is_wanted && simd::log2e<T> * T(tensors_.memory_tau) > -threshold) return nullptr;
    const auto masked = [](T minus_f) { return minus_f != T(0); };
    const Index first = std::clamp<Index>(problem_.first_position(batch_), 0, problem_.keys);
    if (std::any_of(carry_ + first, carry_ + problem_.keys, masked)) return nullptr;
    if (options_.protect_first && problem_.keys > 0 && masked(carry_[0])) return nullptr;
    return carry_;
  }
  void end() {
    if (leader_ && tensors_.carry_out)
      for (Index j = 0; j < problem_.keys; ++j)
        tensors_.carry_out(batch_, j) = T(0) - carry_[j] * simd::ln2<T>;
  }

  /// Turns the selecting head's scores into −F on the tile, and updates the carry.
  void scan_tile(const ScoreTile<T>& tile) {
    assert(tile.rows <= block_rows && tile.keys <= block_keys);
    const Index last_past = votes_as_in_the_paper(options_) ? past_keys(tile) : 0;
    for (Index c = 0; c < last_past; c += columns * simd::width<T>) select_past(tile, c);
    for (Index c = last_past; c < tile.keys; c += simd::width<T>) select_column(tile, c);
    if (leader_ && tensors_.memory) count_memory(tile);
    if (leader_ && tensors_.mask_f) write_mask(tile);
  }

  HEED_INLINE Batch<T> scan_bias(const Batch<T>& s, const Lanes<T>& at) const {
    return s + simd::load(penalty_ + at.block_row * block_keys + at.block_key);
  }

  // Backward: ∂L/∂F = −Σ_h ∂L/∂score_h is accumulated over the heads of a tile, runs up the rows as
  // F ran down, and passes through the derivative of the votes.

  void save_scan(Index key, Index keys, T* to) const { std::copy_n(carry_ + key, keys, to); }
  void restore_scan(Index key, Index keys, const T* from) { std::copy_n(from, keys, carry_ + key); }
  void begin_gradients(Index key, Index keys) {
    columns_ = (keys + simd::width<T> - 1) / simd::width<T> * simd::width<T>;
    for (Index c = 0; c < columns_; ++c)
      below_[c] =
          tensors_.grad_carry_out && c < keys ? tensors_.grad_carry_out(batch_, key + c) : T(0);
  }
  void clear_scan_gradient() {
    for (Index r = 0; r < block_rows; ++r)
      std::fill_n(score_grads_ + r * block_keys, columns_, T(0));
  }
  HEED_INLINE void grad_scan_bias(const Batch<T>& grad, const Lanes<T>& at) {
    T* sum = score_grads_ + at.block_row * block_keys + at.block_key;
    (simd::load(sum) + grad).store_unaligned(sum);
  }
  void scan_tile_backward(const ScoreTile<T>& tile, T* grads) {
    if (tensors_.grad_memory) add_memory_gradient(tile);
    for (Index c = 0; c < tile.keys; c += simd::width<T>) deselect_column(tile, c, grads);
  }
  void end_gradients(Index key, Index keys) {
    if (tensors_.grad_carry_in)
      for (Index c = 0; c < keys; ++c) tensors_.grad_carry_in(batch_, key + c) = below_[c];
  }
  GradProjection<T> grad_projection() const { return tensors_.grad_projection; }

 private:
  /// The votes on one register of keys of the tile. Rows count from the first one of the tile.
  Votes<T> votes(const ScoreTile<T>& tile, Index key) const {
    const Batch<T> place = simd::iota<T>() + Batch<T>(T(key - tile.position));
    const Mask<T> counted = first_keys_ != nullptr && options_.protect_first
                                ? simd::load(first_keys_ + key) == Batch<T>(T(0))
                                : voted_on<T>(options_, -key);
    return {options_, place, counted, !simd::any(place >= Batch<T>(T(0)))};
  }

  /// Registers processed together, to hide the latency of the additions.
  static constexpr int columns = 2;

  /// Does the tile hold a key that is protected as the first of a sequence is?
  bool holds_first_key(const ScoreTile<T>& tile) const {
    if (!first_keys_) return tile.key == 0;
    const T* flags = first_keys_ + tile.key;
    return std::find(flags, flags + tile.keys, T(1)) != flags + tile.keys;
  }

  /// The number of leading keys that every row may vote against, in whole groups of registers.
  Index past_keys(const ScoreTile<T>& tile) const {
    if (options_.protect_first && holds_first_key(tile)) return 0;
    const Index step = columns * simd::width<T>;
    return std::clamp<Index>(tile.position - tile.key, 0, tile.keys) / step * step;
  }

  /// select_column() for the options of the paper and keys that every row votes on.
  void select_past(const ScoreTile<T>& tile, Index c) {
    T* carry = carry_ + tile.key + c;
    Batch<T> sum[columns];
    for (int v = 0; v < columns; ++v) sum[v] = simd::load(carry + v * simd::width<T>);
    const T* scores = tile.scores + c;
    T* penalty = penalty_ + c;
    for (Index r = 0; r < tile.rows; ++r, scores += tile.stride, penalty += block_keys)
#pragma GCC unroll 2
      for (int v = 0; v < columns; ++v) {
        sum[v].store_unaligned(penalty + v * simd::width<T>);
        sum[v] = sum[v] - simd::max(simd::load(scores + v * simd::width<T>), Batch<T>(T(0)));
      }
    for (int v = 0; v < columns; ++v) sum[v].store_unaligned(carry + v * simd::width<T>);
  }

  /// One register of keys, down all rows of the tile.
  void select_column(const ScoreTile<T>& tile, Index c) {
    const Votes<T> cast = votes(tile, tile.key + c);
    T* carry = carry_ + tile.key + c;
    Batch<T> sum = simd::load(carry);
    for (Index r = 0; r < tile.rows; ++r) {
      const auto row = cast.descend(sum, simd::load(tile.scores + r * tile.stride + c), T(r));
      row.penalty.store_unaligned(penalty_ + r * block_keys + c);
      sum = row.carry;
    }
    sum.store_unaligned(carry);
  }

  /// One register of keys, up all rows of the tile.
  void deselect_column(const ScoreTile<T>& tile, Index c, T* grads) {
    const Votes<T> cast = votes(tile, tile.key + c);
    Batch<T> below = simd::load(below_ + c);
    for (Index r = tile.rows; r-- > 0;) {
      const Batch<T> own =
          Batch<T>(T(0)) - simd::load(score_grads_ + r * block_keys + c);  // ∂L/∂F(r, ·)
      const auto row = cast.ascend(below, own, simd::load(tile.scores + r * tile.stride + c), T(r));
      row.score.store_unaligned(grads + r * tile.stride + c);
      below = row.carry;
    }
    below.store_unaligned(below_ + c);
  }

  /// M contains −min(F, τ) / τ: where F < τ, ∂L/∂F gains −∂L/∂M / τ.
  void add_memory_gradient(const ScoreTile<T>& tile) {
    const T tau = T(tensors_.memory_tau);
    for (Index r = 0; r < tile.rows; ++r) {
      const T grad = tensors_.grad_memory(batch_, tile.row + r) / tau;
      if (grad == T(0)) continue;
      const KeyRange own = keys_of_row(tile, r);
      for (Index c = own.first; c < own.last; ++c)
        if (-penalty_[r * block_keys + c] * simd::ln2<T> < tau)
          score_grads_[r * block_keys + c] += grad;
    }
  }

  /// Sums τ − min(F, τ) over keys, rather than subtracting from i + 1: M may be small where both
  /// are large.
  void count_memory(const ScoreTile<T>& tile) {
    const T tau = T(tensors_.memory_tau);
    for (Index r = 0; r < tile.rows; ++r) {
      const KeyRange own = keys_of_row(tile, r);
      const T* penalty = penalty_ + r * block_keys;
      const Batch<T> zero(T(0));
      Batch<T> kept = zero;  // τ − min(F, τ)
      for (Index c = 0; c < own.last; c += simd::width<T>) {
        const Batch<T> left =
            simd::fma(simd::load(penalty + c), Batch<T>(simd::ln2<T>), Batch<T>(tau));
        kept = kept + simd::select(simd::lanes_between<T>(own.first - c, own.last - c),
                                   simd::max(left, zero), zero);
      }
      tensors_.memory(batch_, tile.row + r) += simd::reduce_add(kept) / tau;
    }
  }

  void write_mask(const ScoreTile<T>& tile) {
    for (Index r = 0; r < tile.rows; ++r) {
      const KeyRange own = keys_of_row(tile, r);
      for (Index c = own.first; c < own.last; ++c)
        tensors_.mask_f(batch_, tile.row + r, tile.key + c) =
            T(0) - penalty_[r * block_keys + c] * simd::ln2<T>;
    }
  }

  /// The columns of the tile that are at or before a row's own key, in its own sequence.
  KeyRange keys_of_row(const ScoreTile<T>& tile, Index r) const {
    const Index position = tile.position + r;
    return {std::clamp<Index>(problem_.first_key(batch_, position) - tile.key, 0, tile.keys),
            std::clamp<Index>(position + 1 - tile.key, 0, tile.keys)};
  }

  T carry_in(Index batch, Index key) const {
    return carry_in_ ? carry_in_[batch * problem_.keys + key] : tensors_.carry_in(batch, key);
  }

  SelectOptions options_;
  SelectTensors<T> tensors_;
  Problem problem_;
  T* carry_in_ = nullptr;     ///< [B][Nk] copy, if the view may be overwritten
  T* first_keys_ = nullptr;   ///< [Nk] 1 where a sequence begins or the caller says; null: key 0
  T* carry_ = nullptr;        ///< −F of the next row, in log2 units
  T* penalty_ = nullptr;      ///< −F on the current tile
  T* score_grads_ = nullptr;  ///< Σ_h ∂L/∂score_h on the current tile
  T* below_ = nullptr;        ///< per key of the block: ∂L/∂ the carry into later rows
  Index columns_ = 0;         ///< keys of the current block, rounded up to registers
  Index batch_ = 0;
  bool leader_ = false;
};

}  // namespace detail
}  // namespace heed::inline HEED_ABI
