// SPDX-License-Identifier: MIT
/// @file
/// KV cache of at most K tokens per sequence, with eviction.
#pragma once

#include "heed/core/executor.hpp"
#include "heed/engine/forward.hpp"
#include "heed/kv/eviction.hpp"
#include "heed/kv/eviction_candidate.hpp"
#include "heed/kv/kv_snapshot.hpp"
#include "heed/kv/kv_state.hpp"

#include <algorithm>

namespace heed::inline HEED_ABI {

/// Optional arguments of KvBuffer::step.
template <class T>
struct KvStep {
  View<T, 3> lse{};                      ///< [B, H, N], overwritten.
  View<const std::int64_t, 1> tokens{};  ///< [B] number of the N rows that each sequence has.
  View<std::int64_t, 2> evict_row{};     ///< [B, ≥ positions] if token j is evicted, [b, j] is
                                         ///< set to the position of the first row that does not
                                         ///< see it; else it is left unchanged.
  Executor executor{};
};

namespace detail {

/// Stage that masks each slot outside its rows and subtracts F in the rows of a chunk.
template <class T>
struct KvVisibility : StageOf<Rank::scan> {
  const T* first_row = nullptr;  ///< [stride] first row in which the slot is visible
  const T* end_row = nullptr;    ///< [stride] first row in which it no longer is
  const T* penalty = nullptr;    ///< [rows of the chunk][stride] −F; null: no selection
  T* scores = nullptr;           ///< [rows of the chunk][stride] of the selecting head
  Index stride = 0;              ///< a multiple of the key block

  BlockMask block_mask(const TileRange& block) const {
    const Batch<T> first(T(block.row)), last(T(block.row + block.rows - 1));
    bool any_masked = false, any_visible = false;  // of the (row, key) pairs
    for (Index j = 0; j < block.keys; j += simd::width<T>) {
      const Mask<T> keys = simd::lanes_between<T>(0, block.keys - j);
      const Batch<T> from = simd::load(first_row + block.key + j),
                     to = simd::load(end_row + block.key + j);
      any_masked |= simd::any(keys & ((from > first) | (to <= last)));
      any_visible |= simd::any(keys & (from <= last) & (to > first));
    }
    return !any_masked ? BlockMask::full : any_visible ? BlockMask::partial : BlockMask::empty;
  }
  HEED_INLINE Mask<T> visible(const Mask<T>& m, const Lanes<T>& at) const {
    const Batch<T> row(T(at.row));
    return m & (simd::load(first_row + at.key) <= row) & (row < simd::load(end_row + at.key));
  }
  HEED_INLINE Batch<T> scan_bias(const Batch<T>& s, const Lanes<T>& at) const {
    return penalty ? s + simd::load(penalty + at.block_row * stride + at.key) : s;
  }
  void scan_tile(const ScoreTile<T>& panel) {
    for (Index r = 0; r < panel.rows; ++r)
      std::copy_n(panel.scores + r * panel.stride, panel.keys, scores + r * stride + panel.key);
  }
};

}  // namespace detail

/// KV cache for decode and prefill with selective attention and eviction (Leviathan, Kalman,
/// Matias, arXiv:2410.02703):
///
///     for each token i:  append k_i, v_i
///                        if K + 1 tokens are held, evict the one with the largest F(i, ·),
///                          except i and protected tokens; ties: the oldest
///                        out_i = Σ_j softmax_j(s_h(i, j) − F(i, j)) v_j over the tokens held
///                        F(i+1, j) = F(i, j) + max(0, s_0(i, j)), except for j = 0 and j = i
///
/// Memory and time per token do not grow with the position. F of a token does not depend on the
/// other tokens held, so that attention with eviction equals full attention under a mask. Unless
/// eviction waits for the chunk's end, any chunk size gives the same evictions, and the same
/// outputs up to rounding.
///
/// Keys and values are stored as S: T, bfloat16 or binary16 (Eigen::bfloat16, Eigen::half) rounded
/// to nearest, std::int8_t in units of |largest| / 127 of each key and value, or another type
/// listed in simd/codec/codecs.hpp. They are widened when read; all arithmetic is in T.
///
/// A stored key with NaN or infinity turns the rows that see it into NaN. When a token must be
/// evicted, such tokens and tokens whose F is not finite are evicted first, unless protected or
/// recent. Rules by age decide by age alone. A head whose row is NaN adds no received weights.
///
/// Copying the buffer forks all of its sequences. For a single sequence, `snapshot` and `restore`
/// save and reset its state; `copy_sequence` forks it within the batch or into another buffer.
template <class T, StorageOf<T> S = T>
class KvBuffer {
  using B = Blocking<T>;
  using Tile = detail::TileConfig<T, B>;
  using Stored = simd::Codec<S>;

 public:
  /// @throws ValueError if a size is not positive, if the budget is smaller than the number of
  ///     protected and recent tokens, or if the buffer would exceed any machine's memory.
  KvBuffer(const KvShape& shape, KvOptions options) : shape_(shape), options_(std::move(options)) {
    for (Index n : {shape.batch, shape.heads, shape.key_heads, shape.dim, shape.value_dim})
      if (n < 1) throw ValueError("KvBuffer: every size must be at least 1");
    if (shape.heads % shape.key_heads != 0)
      throw ShapeError("KvBuffer: ", shape.heads, " query heads are no multiple of ",
                       shape.key_heads, " key heads");
    Vector<Index>& protect = options_.protect;
    std::sort(protect.begin(), protect.end());
    protect.erase(std::unique(protect.begin(), protect.end()), protect.end());
    detail::check(options_, shape.heads);
    recent_ = options_.recent_tokens();
    negligible_ = detail::negligible_weight<T>(options_.negligible);
    if (options_.when == EvictWhen::chunk_end && options_.chunk > Tile::block_rows)
      throw ValueError("chunk is ", options_.chunk, ", must be at most ", Index(Tile::block_rows),
                       " where eviction waits for its end");
    check_bytes();
    columns_ = detail::round_up(shape.value_dim, simd::width<T>);
    options_.chunk = std::min<Index>(options_.chunk, Tile::block_rows);
    sequences_.resize(std::size_t(shape.batch));
    if (options_.budget)
      for (auto& s : sequences_) grow(s, capacity_for(*options_.budget));
  }
  KvBuffer(const KvBuffer& o)
      : shape_(o.shape_),
        options_(o.options_),
        columns_(o.columns_),
        recent_(o.recent_),
        negligible_(o.negligible_),
        sequences_(o.sequences_) {}
  KvBuffer& operator=(const KvBuffer& o) { return *this = KvBuffer(o); }
  KvBuffer(KvBuffer&&) = default;
  KvBuffer& operator=(KvBuffer&&) = default;

  const KvShape& shape() const { return shape_; }
  /// The options given, with `protect` sorted and `chunk` limited to a row block.
  const KvOptions& options() const { return options_; }
  /// The state of one sequence.
  /// @throws ValueError if `batch` is out of range, like every function that takes it.
  const KvSequence<T, S>& sequence(Index batch) const {
    check_index(batch);
    return sequences_[std::size_t(batch)];
  }

  /// A copy of the state of one sequence.
  KvSnapshot<T, S> snapshot(Index batch) const { return {shape_, options_, sequence(batch)}; }

  /// Replaces a sequence by the snapshot, including positions and F.
  ///
  /// The snapshot may be of another buffer with the same heads, dimensions and `select`. Its tokens
  /// must fit this buffer's budget. If this buffer's rule needs received weights, the snapshot's
  /// buffer must have recorded them.
  /// @throws ShapeError, ValueError, naming both sides; std::bad_alloc. The buffer is then
  /// unchanged.
  void restore(Index batch, const KvSnapshot<T, S>& snapshot) {
    put(batch, snapshot.shape_, snapshot.options_, snapshot.sequence_);
  }

  /// Copies sequence `from_batch` of `from`, which may be this buffer, to sequence `to_batch`: the
  /// same as restore(to_batch, from.snapshot(from_batch)), with one copy less.
  void copy_sequence(const KvBuffer& from, Index from_batch, Index to_batch) {
    put(to_batch, from.shape_, from.options_, from.sequence(from_batch));
  }

  /// Removes all tokens of one sequence; its memory stays allocated.
  void clear(Index batch) {
    check_index(batch);
    KvSequence<T, S>& s = state(batch);
    s.next = s.slots = s.count = 0, s.dropped = 0, s.first = empty_slot;
    s.free.clear();
    std::fill(s.finite.begin(), s.finite.end(), std::uint8_t(1));
    std::fill(s.position.begin(), s.position.end(), KvSequence<T, S>::empty_slot);
  }

  /// Bytes allocated, including scratch.
  std::size_t bytes() const {
    std::size_t n = workspace_.bytes();
    for (const auto& s : sequences_)
      n += (s.panels.capacity() + s.values.capacity()) * sizeof(S) +
           (s.key_scales.capacity() + s.value_scales.capacity() + s.carry.capacity() +
            s.received_weight.capacity()) *
               sizeof(T) +
           (s.position.capacity() + s.free.capacity()) * sizeof(Index) + s.marks.capacity() +
           s.finite.capacity();
    return n;
  }

  using Step = KvStep<T>;

  /// Appends N tokens to every sequence; each row attends to the tokens held at that point.
  ///
  /// @param q  [B, H, N, D].   @param k  [B, G, N, D].   @param v  [B, G, N, Dv].
  /// @param variant  stages that do not read keys by index: query temperatures, standard or scaled,
  ///     softcap, alibi, score_rule, sinks. The buffer adds causality and selection itself.
  /// @param out  [B, H, N, Dv], overwritten; zero in rows past a sequence's last token.
  /// @throws ShapeError, ValueError before anything changes.
  /// @note A token costs 2 (D + Dv) FLOP per head and token held, independent of its position.
  template <class Q, class K, class V, Stage Variant, class Out>
  requires TensorLike<Q, 4> && TensorLike<K, 4> && TensorLike<V, 4> && TensorLike<Out, 4> WorkStats
  step(const Q& q, const K& k, const V& v, const Variant& variant, Out&& out,
       const Step& options = {}) {
    static_assert(hook::reads<BoundOf<T, Variant>> != Reads::index,
                  "heed: this stage reads keys by index, which a buffer's slots do not have; a "
                  "buffer is causal without a stage that says so");
    static_assert(hook::well_formed<T, Variant, BoundOf<T, Variant>>());
    static_assert(!hook::scans_rows<BoundOf<T, Variant>>,
                  "heed: the buffer selects by itself, see KvOptions::select");
    Call<Variant> call(*this, {View<const T, 4>(q), View<const T, 4>(k), View<const T, 4>(v)},
                       variant, View<T, 4>(out), options);
    return call.run();
  }

 private:
  static constexpr Index empty_slot = KvSequence<T, S>::empty_slot;
  /// A row number past the end of any call.
  static constexpr T no_row = T(Index(1) << 30);

  /// One step and its scratch.
  template <class Variant>
  class Call;

  KvSequence<T, S>& state(Index batch) { return sequences_[std::size_t(batch)]; }

  void check_index(Index batch) const {
    if (batch < 0 || batch >= shape_.batch)
      throw ValueError("sequence ", batch, " is asked for, there are ", shape_.batch);
  }

  void put(Index batch, const KvShape& shape, const KvOptions& options,
           const KvSequence<T, S>& from) {
    check_index(batch);
    detail::check_move(shape, options, shape_, options_, from.count);
    const Index capacity = options_.budget ? capacity_for(*options_.budget) : from.capacity();
    KvSequence<T, S> to = capacity == from.capacity() ? from : repacked(from, capacity);
    if (!options_.evict.uses_weights()) to.received_weight.clear();
    for (Index j = 0; j < to.slots; ++j) mark(to, j, to.marks[std::size_t(j)]);
    state(batch) = std::move(to);
  }

  /// A copy with `capacity` slots. Its tokens are compacted to the first slots, in slot order.
  KvSequence<T, S> repacked(const KvSequence<T, S>& from, Index capacity) const {
    KvSequence<T, S> to;
    grow(to, capacity);
    to.free.reserve(std::size_t(capacity));
    to.next = from.next, to.count = to.slots = from.count, to.dropped = from.dropped;
    for (Index j = 0, slot = 0; j < from.slots; ++j) {
      if (from.position[std::size_t(j)] == empty_slot) continue;
      to.position[std::size_t(slot)] = from.position[std::size_t(j)];
      if (from.first == j) to.first = slot;
      to.carry[std::size_t(slot)] = from.carry[std::size_t(j)];
      to.marks[std::size_t(slot)] = from.marks[std::size_t(j)];
      if (!to.received_weight.empty())
        to.received_weight[std::size_t(slot)] = from.received_weight[std::size_t(j)];
      for (Index g = 0; g < shape_.key_heads; ++g) {
        const auto copy = [](const auto& x, Index at, Index step, Index count, auto& y,
                             Index to_at) {
          for (Index i = 0; i < count; ++i)
            y[std::size_t(to_at + i * step)] = x[std::size_t(at + i * step)];
        };
        const Index units = simd::units<S>(columns_), scales = simd::scales<S>(shape_.value_dim);
        copy(from.panels, key_offset(from, g, j), Tile::panel_keys, simd::units<S>(shape_.dim),
             to.panels, key_offset(to, g, slot));
        copy(from.key_scales, key_scale_offset(from, g, j), Tile::panel_keys,
             simd::scales<S>(shape_.dim), to.key_scales, key_scale_offset(to, g, slot));
        copy(from.values, (g * from.capacity() + j) * units, 1, units, to.values,
             (g * capacity + slot) * units);
        copy(from.value_scales, (g * from.capacity() + j) * scales, 1, scales, to.value_scales,
             (g * capacity + slot) * scales);
        to.finite[finite_index(to, g, slot)] &= from.finite[finite_index(from, g, j)];
      }
      ++slot;
    }
    return to;
  }

  /// Index of the first unit of a slot's key, and of its first scale. Stride: panel_keys.
  Index key_offset(const KvSequence<T, S>& s, Index key_head, Index slot) const {
    return panel_offset(s, key_head, slot, simd::units<S>(shape_.dim));
  }
  Index key_scale_offset(const KvSequence<T, S>& s, Index key_head, Index slot) const {
    return panel_offset(s, key_head, slot, simd::scales<S>(shape_.dim));
  }
  static Index panel_offset(const KvSequence<T, S>& s, Index key_head, Index slot, Index of_key) {
    const Index panel = slot / Tile::panel_keys * Tile::panel_keys;
    return (key_head * s.capacity() + panel) * of_key + slot % Tile::panel_keys;
  }
  /// False if a number of the encoded key overflowed to infinity in S.
  bool fits([[maybe_unused]] const S* key) const {
    if constexpr (!std::is_same_v<S, T> && Stored::group == simd::no_scale)
      for (Index i = 0; i < simd::units<S>(shape_.dim); ++i)
        for (Index n = 0; n < Stored::numbers; ++n)
          if (const T x = Stored::template number<T>(key[i * Tile::panel_keys], n);
              !simd::is_finite(&x))
            return false;
    return true;
  }
  static std::size_t finite_index(const KvSequence<T, S>& s, Index key_head, Index slot) {
    return std::size_t(key_head * key_blocks(s.capacity()) + slot / Tile::block_keys);
  }

  /// @throws ValueError if all sequences, or one token of each, exceed any machine's memory.
  void check_bytes() const {
    const KvShape& s = shape_;
    const Index numbers = std::min(s.dim, detail::max_bytes) +
                          std::min(s.value_dim, detail::max_bytes) + simd::width<T>,
                slots = std::min(options_.budget.value_or(0), detail::max_bytes) +
                        Tile::block_rows + 4 * Tile::panel_keys,
                of_slot = Index(sizeof(KvSequence<T, S>)) +
                          detail::product_of(s.key_heads, numbers, Index(sizeof(S)));
    if (detail::product_of(s.batch, slots, of_slot) > detail::max_bytes ||
        detail::product_of(s.batch, s.heads, numbers, Index(sizeof(T))) > detail::max_bytes)
      throw ValueError("KvBuffer: batch ", s.batch, ", heads ", s.heads, ", key_heads ",
                       s.key_heads, ", dim ", s.dim, ", value_dim ", s.value_dim, ", budget ",
                       options_.budget.value_or(0), " take more than ", detail::max_bytes,
                       " bytes, which no memory holds");
  }

  Index capacity_for(Index budget) const {
    const Index slots = budget + options_.chunk - (options_.when == EvictWhen::before_row ? 1 : 0);
    return detail::round_up(slots, Tile::panel_keys);
  }

  /// Grows to `capacity` slots. Tokens keep their slots.
  void grow(KvSequence<T, S>& s, Index capacity) const {
    const Index before = s.capacity();
    if (capacity <= before) return;
    // Tiles may read up to three panels past the last. Those keys are masked.
    const Index key_units = simd::units<S>(shape_.dim), value_units = simd::units<S>(columns_);
    auto keys = grown(s.panels, before * key_units, capacity * key_units,
                      3 * Tile::panel_keys * key_units, S{});
    auto values = grown(s.values, before * value_units, capacity * value_units, 0, S{});
    auto finite = grown(s.finite, key_blocks(before), key_blocks(capacity), 0, std::uint8_t(1));
    const Index key_scale = simd::scales<S>(shape_.dim),
                value_scale = simd::scales<S>(shape_.value_dim);
    auto key_scales = grown(s.key_scales, before * key_scale, capacity * key_scale, 0, T(0));
    auto value_scales =
        grown(s.value_scales, before * value_scale, capacity * value_scale, 0, T(0));
    // Allocate before changing the state. capacity() reads position, which is therefore last.
    s.carry.resize(std::size_t(capacity));
    if (options_.evict.uses_weights()) s.received_weight.resize(std::size_t(capacity));
    s.marks.resize(std::size_t(capacity));
    s.position.resize(std::size_t(capacity), empty_slot);
    s.panels = std::move(keys), s.values = std::move(values), s.finite = std::move(finite);
    s.key_scales = std::move(key_scales), s.value_scales = std::move(value_scales);
  }
  /// Copy of `from` with `after` instead of `before` elements per key head, and `end` more at the
  /// end. New elements are `fill`.
  template <class X>
  Vector<X> grown(const Vector<X>& from, Index before, Index after, Index end, X fill) const {
    Vector<X> to(std::size_t(shape_.key_heads * after + end), fill);
    for (Index g = 0; g < shape_.key_heads; ++g)
      std::copy_n(from.data() + g * before, before, to.data() + g * after);
    return to;
  }
  static Index key_blocks(Index capacity) {
    return (capacity + Tile::block_keys - 1) / Tile::block_keys;
  }

  /// Stores a token in a free slot, or in a new one, and returns the slot.
  Index append(KvSequence<T, S>& s, const View<const T, 4>& k, const View<const T, 4>& v,
               Index batch, Index row) {
    Index slot = s.slots;
    if (!s.free.empty()) {
      slot = s.free.back();
      s.free.pop_back();
    } else {
      ++s.slots;
    }
    const Index capacity = s.capacity();
    bool good_key = true;
    for (Index g = 0; g < shape_.key_heads; ++g) {
      const T *key = k.row(batch, g, row), *value = v.row(batch, g, row);
      const Index at = g * capacity + slot;
      S* to_key = s.panels.data() + key_offset(s, g, slot);
      T* key_scale = s.key_scales.data() + key_scale_offset(s, g, slot);
      S* to_value = s.values.data() + at * simd::units<S>(columns_);
      T* value_scale = s.value_scales.data() + at * simd::scales<S>(shape_.value_dim);
      std::uint8_t& finite = s.finite[finite_index(s, g, slot)];
      Stored::encode(key, shape_.dim, to_key, Tile::panel_keys, key_scale, Tile::panel_keys);
      Stored::encode(value, shape_.value_dim, to_value, 1, value_scale, 1);
      finite &= Stored::finite(to_value, shape_.value_dim, value_scale);
      good_key &= simd::all_finite(key, 0, 1, shape_.dim) && fits(to_key);
    }
    if (s.next == 0) s.first = slot;
    s.position[std::size_t(slot)] = s.next++;
    mark(s, slot, good_key ? std::uint8_t(0) : KvSequence<T, S>::bad_key);
    s.carry[std::size_t(slot)] = T(0);
    if (!s.received_weight.empty()) s.received_weight[std::size_t(slot)] = T(0);
    ++s.count;
    return slot;
  }

  void release(KvSequence<T, S>& s, Index slot) {
    s.position[std::size_t(slot)] = empty_slot;
    s.marks[std::size_t(slot)] = 0;
    if (s.first == slot) s.first = empty_slot;
    s.free.push_back(slot);
  }

  /// Sets the marks of a token: keeps bad_key, and looks up is_protected in the options.
  void mark(KvSequence<T, S>& s, Index slot, std::uint8_t marks) const {
    const bool stays = std::binary_search(options_.protect.begin(), options_.protect.end(),
                                          s.position[std::size_t(slot)]);
    s.marks[std::size_t(slot)] = std::uint8_t((marks & KvSequence<T, S>::bad_key) |
                                              (stays ? KvSequence<T, S>::is_protected : 0));
  }

  KvShape shape_;
  KvOptions options_;
  Index columns_ = 0, recent_ = 1;
  double negligible_ = 0;
  Vector<KvSequence<T, S>> sequences_;
  Workspace workspace_;
};

}  // namespace heed::inline HEED_ABI

#include "heed/kv/kv_step.hpp"
