// SPDX-License-Identifier: MIT
/// @file
/// Selective attention (Leviathan, Kalman, Matias: Selective Attention Improves Transformer,
/// arXiv:2410.02703): tokens mask keys for later tokens.
///
///     R(n, j) = max(0, s_0(n, j))  if 0 < j < n, else 0     the vote of row n against key j
///     F(i, j) = Σ_{n<i} R(n, j)
///     score(i, j) of every head ← s(i, j) − F(i, j)
///
/// s_0 are the scores of head 0 as they would enter the softmax: scaled, capped, biased, masked.
/// There are no votes against token 0 or against the token itself, and none from a masked pair. A
/// vote counts for later rows only. The paper defines F under a causal mask. Under prefix_lm, a row
/// n also sees keys j > n; it casts no vote against them. j and n count from the first key of the
/// sequence of the row, see documents and starts.
#pragma once

#include "heed/score/stage.hpp"
#include "heed/score/votes.hpp"

namespace heed::inline HEED_ABI {

/// Optional inputs and outputs of selective attention, beside q, k and v.
template <class T>
struct SelectTensors {
  View<const T, 2> carry_in;  ///< [B, Nk] F of the first row, from earlier rows
  View<T, 2> carry_out;       ///< [B, Nk] F of the row after the last
  View<T, 2> memory;          ///< [B, Nq] M, see Selective::memory
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
    if (!p.is_one_sequence()) first_keys_ = arena.take<T>(p.keys + block_keys);
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
        if (problem_.first_key(batch, j) == j) first_keys_[j] = T(1);
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

  /// Does a sequence begin at a key of the tile?
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
  T* first_keys_ = nullptr;   ///< [Nk] 1 where a sequence begins; null: key 0 only
  T* carry_ = nullptr;        ///< −F of the next row, in log2 units
  T* penalty_ = nullptr;      ///< −F on the current tile
  T* score_grads_ = nullptr;  ///< Σ_h ∂L/∂score_h on the current tile
  T* below_ = nullptr;        ///< per key of the block: ∂L/∂ the carry into later rows
  Index columns_ = 0;         ///< keys of the current block, rounded up to registers
  Index batch_ = 0;
  bool leader_ = false;
};

inline void check_select_options(const SelectOptions& options, const Problem& p) {
  if (options.head < 0 || options.head >= p.heads)
    throw ValueError("selective: head ", options.head, " selects, there are ", p.heads);
}

}  // namespace detail

/// Selective attention with input and output tensors. Made by the member functions of Selective.
template <class T>
struct SelectiveWith : StageOf<Rank::scan> {
  SelectOptions options;
  SelectTensors<T> tensors;

  /// Input: F of the first row, [B, Nk], as carry_out gave it for earlier rows; 0 for new keys.
  SelectiveWith carry_in(std::type_identity_t<View<const T, 2>> x) const {
    SelectiveWith s = *this;
    s.tensors.carry_in = x;
    return s;
  }
  /// Output: F of the row after the last one, [B, Nk], overwritten. May be carry_in itself, unless
  /// backward() follows, which needs the original carry_in. Rows split into chunks in any way give
  /// the results of one pass.
  SelectiveWith carry_out(std::type_identity_t<View<T, 2>> x) const {
    SelectiveWith s = *this;
    s.tensors.carry_out = x;
    return s;
  }
  /// Output: the number of tokens that each row still holds in memory, [B, Nq], overwritten:
  ///
  ///     M(i) = i + 1 − Σ_{j≤i} min(F(i, j), τ) / τ,     τ in [1e-30, 1e30]
  SelectiveWith memory(std::type_identity_t<View<T, 2>> x, double tau = 1) const {
    SelectiveWith s = *this;
    s.tensors.memory = x;
    s.tensors.memory_tau = tau;
    return s;
  }
  /// Output: F itself, [B, Nq, Nk], overwritten, zero for j > i. For inspection of short texts: it
  /// takes O(Nq Nk) memory.
  SelectiveWith mask_f(std::type_identity_t<View<T, 3>> x) const {
    SelectiveWith s = *this;
    s.tensors.mask_f = x;
    return s;
  }
  /// Input: separate queries [B, Nq, Ds] and keys [B, Nk, Ds] whose scores, over √Ds, select in
  /// place of a head's.
  SelectiveWith projection(std::type_identity_t<View<const T, 3>> queries,
                           std::type_identity_t<View<const T, 3>> keys) const {
    SelectiveWith s = *this;
    s.tensors.projection = {queries, keys};
    return s;
  }

  // Inputs and outputs of backward(), beside the gradients of q, k and v.

  /// Output: ∂L/∂carry_in, [B, Nk], overwritten by backward().
  SelectiveWith grad_carry_in(std::type_identity_t<View<T, 2>> x) const {
    SelectiveWith s = *this;
    s.tensors.grad_carry_in = x;
    return s;
  }
  /// Input: ∂L/∂carry_out, [B, Nk]: grad_carry_in of the next chunk.
  SelectiveWith grad_carry_out(std::type_identity_t<View<const T, 2>> x) const {
    SelectiveWith s = *this;
    s.tensors.grad_carry_out = x;
    return s;
  }
  /// Input: ∂L/∂M, [B, Nq], from memory_loss(); τ as for memory().
  SelectiveWith grad_memory(std::type_identity_t<View<const T, 2>> x, double tau = 1) const {
    SelectiveWith s = *this;
    s.tensors.grad_memory = x;
    s.tensors.memory_tau = tau;
    return s;
  }
  /// Output: ∂L/∂ the queries and keys of projection(), overwritten by backward().
  SelectiveWith grad_projection(std::type_identity_t<View<T, 3>> queries,
                                std::type_identity_t<View<T, 3>> keys) const {
    SelectiveWith s = *this;
    s.tensors.grad_projection = {queries, keys};
    return s;
  }

  template <class U>
  detail::Selecting<T> bind(const Problem& p, Arena& arena) const {
    static_assert(std::is_same_v<T, U>,
                  "heed: selective's tensors must have the number type of out");
    return {options, tensors, p, arena};
  }
  void check(const Problem& p) const {
    detail::check_select_options(options, p);
    const auto& t = tensors;
    const char *keys = "one number per key", *rows = "one number per row";
    detail::expect_within("selective: tau", t.memory_tau, 1e-30, 1e30);
    if (t.carry_in) expect_dims("carry_in", t.carry_in.dims(), {p.batch, p.keys}, keys);
    if (t.carry_out) expect_dims("carry_out", t.carry_out.dims(), {p.batch, p.keys}, keys);
    if (t.memory) expect_dims("memory", t.memory.dims(), {p.batch, p.queries}, rows);
    if (t.grad_carry_in)
      expect_dims("grad_carry_in", t.grad_carry_in.dims(), {p.batch, p.keys}, keys);
    if (t.grad_carry_out)
      expect_dims("grad_carry_out", t.grad_carry_out.dims(), {p.batch, p.keys}, keys);
    if (t.grad_memory) expect_dims("grad_memory", t.grad_memory.dims(), {p.batch, p.queries}, rows);
    if (const auto& [q, k] = t.grad_projection; q || k) {
      expect_dims("grad_projection's queries", q.dims(), t.projection.queries.dims(),
                  "the projection's");
      expect_dims("grad_projection's keys", k.dims(), t.projection.keys.dims(), "the projection's");
    }
    if (t.mask_f)
      expect_dims("mask_f", t.mask_f.dims(), {p.batch, p.queries, p.keys}, "one number per pair");
    if (const auto& [q, k] = t.projection; q || k) {
      if (!q || !k) throw ShapeError("projection: queries and keys come together");
      expect_dims("projection queries", q.dims(), {p.batch, p.queries, q.dim(2)},
                  "as many as of q");
      expect_dims("projection keys", k.dims(), {p.batch, p.keys, q.dim(2)}, "as many as of k");
      if (q.dim(2) < 1 || q.stride(2) != 1 || k.stride(2) != 1)
        throw ShapeError("projection: rows must be contiguous and not empty");
    }
    if (p.tensors) name_tensors(*p.tensors, p.backward);
  }

 private:
  /// Names the tensors that this pass reads or writes.
  void name_tensors(detail::CallTensors& call, bool backward) const {
    const auto& t = tensors;
    call.reads("carry_in", t.carry_in);
    call.reads("projection queries", t.projection.queries);
    call.reads("projection keys", t.projection.keys);
    if (!backward) {
      call.writes("carry_out", t.carry_out, {"carry_in"});
      call.writes("memory", t.memory), call.writes("mask_f", t.mask_f);
      return;
    }
    call.reads("grad_carry_out", t.grad_carry_out), call.reads("grad_memory", t.grad_memory);
    call.writes("grad_carry_in", t.grad_carry_in, {"grad_carry_out"});
    call.writes("grad_projection's queries", t.grad_projection.queries);
    call.writes("grad_projection's keys", t.grad_projection.keys);
  }
};

/// Selective attention. `selective` has the paper's options, selecting({...}) others. Input and
/// output tensors are added by member functions:
///
///     standard | causal | selective
///     standard | causal | selecting({.head = 3}).carry_in(before).carry_out(after)
///
/// @throws ValueError if options.head is not a query head; ShapeError if a tensor does not fit.
struct Selective : StageOf<Rank::scan> {
  SelectOptions options;

  /// See SelectiveWith::carry_in().
  template <class X>
  auto carry_in(X&& x) const {
    return with<X>().carry_in(std::forward<X>(x));
  }
  /// See SelectiveWith::carry_out().
  template <class X>
  auto carry_out(X&& x) const {
    return with<X>().carry_out(std::forward<X>(x));
  }
  /// See SelectiveWith::memory().
  template <class X>
  auto memory(X&& x, double tau = 1) const {
    return with<X>().memory(std::forward<X>(x), tau);
  }
  /// See SelectiveWith::mask_f().
  template <class X>
  auto mask_f(X&& x) const {
    return with<X>().mask_f(std::forward<X>(x));
  }
  /// See SelectiveWith::grad_carry_in().
  template <class X>
  auto grad_carry_in(X&& x) const {
    return with<X>().grad_carry_in(std::forward<X>(x));
  }
  /// See SelectiveWith::grad_carry_out().
  template <class X>
  auto grad_carry_out(X&& x) const {
    return with<X>().grad_carry_out(std::forward<X>(x));
  }
  /// See SelectiveWith::grad_memory().
  template <class X>
  auto grad_memory(X&& x, double tau = 1) const {
    return with<X>().grad_memory(std::forward<X>(x), tau);
  }
  /// See SelectiveWith::projection().
  template <class X, class Y>
  auto projection(X&& queries, Y&& keys) const {
    return with<X>().projection(std::forward<X>(queries), std::forward<Y>(keys));
  }

  template <class T>
  detail::Selecting<T> bind(const Problem& p, Arena& arena) const {
    return {options, {}, p, arena};
  }
  void check(const Problem& p) const { detail::check_select_options(options, p); }

 private:
  template <class X>
  SelectiveWith<ScalarOf<X>> with() const {
    return {{}, options, {}};
  }
};

/// Selective attention with the paper's options: head 0 votes on which keys later rows mask. Comes
/// after the causal mask.
inline constexpr Selective selective;
/// Selective attention with other options than the paper's; see SelectOptions. ValueError if
/// options.head is not a query head.
constexpr Selective selecting(const SelectOptions& options) {
  return {{}, options};
}

}  // namespace heed::inline HEED_ABI
