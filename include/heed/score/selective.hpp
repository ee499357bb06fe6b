// SPDX-License-Identifier: MIT
/// @file Selective attention (Leviathan, Kalman, Matias: Selective Attention Improves Transformer,
/// arXiv:2410.02703): tokens tell later ones which keys to forget.
///
///     R(n, j) = max(0, s_0(n, j))  if 0 < j < n, else 0     the vote of row n against key j
///     F(i, j) = Σ_{n<i} R(n, j)
///     every head's score(i, j) ← s(i, j) − F(i, j)
///
/// s_0 are head 0's scores as they would enter the softmax: scaled, capped, biased, masked. Token 0
/// and the token itself are never voted against, a masked pair casts no vote, and a vote counts for
/// the rows below it only. The paper defines F under a causal mask. Under prefix_lm a row n sees
/// keys j > n too; it casts no vote against them. j and n count from the first key of the row's own
/// sequence, see documents and starts.
#pragma once

#include "heed/score/stage.hpp"
#include "heed/score/votes.hpp"

namespace heed::inline HEED_ABI {

/// The typed part: what goes in and out beside q, k, v. Each is optional.
template <class T>
struct SelectTensors {
  View<const T, 2> carry_in;  ///< [B, Nk] F of the first row, from the rows before it
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

/// One worker's walk down the rows of one batch entry.
template <class T>
class Selecting : public StageOf<Rank::scan> {
 public:
  /// Rows and keys of the largest block the engine hands to scan_tile().
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
    // carry_out may be carry_in itself, and one worker may write while another has yet to read.
    if (tensors.carry_in && tensors.carry_out) {
      carry_in_ = arena.take<T>(p.batch * p.keys);
      if (!arena.measuring())
        for (Index b = 0; b < p.batch; ++b)
          for (Index j = 0; j < p.keys; ++j) carry_in_[b * p.keys + j] = tensors.carry_in(b, j);
    }
  }

  Index selecting_head() const { return options_.head; }
  bool keeps_causal_past() const { return true; }
  Projection<T> projection() const { return tensors_.projection; }
  /// Without accumulation a row that casts no vote clears those of the row above.
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
    if (leader && tensors_.memory)  // keys that are not there are never forgotten
      for (Index i = 0; i < problem_.queries; ++i) {
        const Index p = problem_.position(batch, i);
        tensors_.memory(batch, i) =
            T(std::max<Index>(p + 1 - std::max(problem_.first_key(batch, p), problem_.keys), 0));
      }
    if (leader && tensors_.mask_f)
      for (Index i = 0; i < problem_.queries; ++i)
        for (Index j = 0; j < problem_.keys; ++j) tensors_.mask_f(batch, i, j) = 0;
  }
  /// F only grows where votes are never negative and accumulate. The bounds on dead keys assume
  /// that every row sees its own key, and the first one, unmasked. M does not depend on how far −F
  /// is below −τ.
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

  /// From the selecting head's scores to −F on the block, and the carry below it.
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

  // Backward: ∂L/∂F = −Σ_h ∂L/∂score_h gathers over the heads of a tile, runs up the rows as F ran
  // down, and passes the votes' gate.

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
  /// The votes on one register of keys of the tile, rows counted from its first.
  Votes<T> votes(const ScoreTile<T>& tile, Index key) const {
    const Batch<T> place = simd::iota<T>() + Batch<T>(T(key - tile.position));
    const Mask<T> counted = first_keys_ != nullptr && options_.protect_first
                                ? simd::load(first_keys_ + key) == Batch<T>(T(0))
                                : voted_on<T>(options_, -key);
    return {options_, place, counted, !simd::any(place >= Batch<T>(T(0)))};
  }

  /// Registers that descend the rows together, so that one waits less for its own last sum.
  static constexpr int columns = 2;

  /// Does a sequence begin among the keys of the tile?
  bool holds_first_key(const ScoreTile<T>& tile) const {
    if (!first_keys_) return tile.key == 0;
    const T* flags = first_keys_ + tile.key;
    return std::find(flags, flags + tile.keys, T(1)) != flags + tile.keys;
  }

  /// How many keys from the first on are voted on by every row: whole groups of registers.
  Index past_keys(const ScoreTile<T>& tile) const {
    if (options_.protect_first && holds_first_key(tile)) return 0;
    const Index step = columns * simd::width<T>;
    return std::clamp<Index>(tile.position - tile.key, 0, tile.keys) / step * step;
  }

  /// What select_column() does where the paper's choices stand and every row votes.
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

  /// One register of keys, down all rows of the block.
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

  /// One register of keys, up all rows.
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

  /// M falls by min(F, τ) / τ: where F is below τ, ∂L/∂F gains −∂L/∂M / τ.
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

  /// What is kept is added up, rather than what is lost taken off: M may be small where both are
  /// large.
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

  /// The tile's columns that a row counts: its own key and those before it, of its own sequence.
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
  T* carry_in_ = nullptr;     ///< [B][Nk] a copy, where the view may be written meanwhile
  T* first_keys_ = nullptr;   ///< [Nk] 1 where a sequence begins; null: at key 0
  T* carry_ = nullptr;        ///< −F of the next row, in log2 units
  T* penalty_ = nullptr;      ///< −F on the block at hand
  T* score_grads_ = nullptr;  ///< Σ_h ∂L/∂score_h on the block at hand
  T* below_ = nullptr;  ///< per key of the block: ∂L/∂ what is carried into the rows below
  Index columns_ = 0;   ///< keys of the block that ascends, in whole registers
  Index batch_ = 0;
  bool leader_ = false;
};

inline void check_select_options(const SelectOptions& options, const Problem& p) {
  if (options.head < 0 || options.head >= p.heads)
    throw ValueError("selective: head ", options.head, " selects, there are ", p.heads);
}

}  // namespace detail

/// Selective attention with tensors going in and out. Made by the functions of Selective.
template <class T>
struct SelectiveWith : StageOf<Rank::scan> {
  SelectOptions options;
  SelectTensors<T> tensors;

  /// F of the first row, [B, Nk]: what carry_out gave for the rows before. New keys enter with 0.
  SelectiveWith carry_in(std::type_identity_t<View<const T, 2>> x) const {
    SelectiveWith s = *this;
    s.tensors.carry_in = x;
    return s;
  }
  /// F of the row after the last, [B, Nk], overwritten; may be carry_in itself, unless backward()
  /// follows, which wants carry_in as it was. Any split of the rows into chunks gives what one pass
  /// gives.
  SelectiveWith carry_out(std::type_identity_t<View<T, 2>> x) const {
    SelectiveWith s = *this;
    s.tensors.carry_out = x;
    return s;
  }
  /// Tokens each row still holds in memory, [B, Nq], overwritten:
  ///
  ///     M(i) = i + 1 − Σ_{j≤i} min(F(i, j), τ) / τ,     τ in [1e-30, 1e30]
  SelectiveWith memory(std::type_identity_t<View<T, 2>> x, double tau = 1) const {
    SelectiveWith s = *this;
    s.tensors.memory = x;
    s.tensors.memory_tau = tau;
    return s;
  }
  /// F itself, [B, Nq, Nk], overwritten, zero for j > i. For looking at short texts: it is as large
  /// as it sounds.
  SelectiveWith mask_f(std::type_identity_t<View<T, 3>> x) const {
    SelectiveWith s = *this;
    s.tensors.mask_f = x;
    return s;
  }
  /// Scores of queries [B, Nq, Ds] and keys [B, Nk, Ds] of their own select, over √Ds, in place of
  /// a head's.
  SelectiveWith projection(std::type_identity_t<View<const T, 3>> queries,
                           std::type_identity_t<View<const T, 3>> keys) const {
    SelectiveWith s = *this;
    s.tensors.projection = {queries, keys};
    return s;
  }

  // What backward() takes and gives beside the gradients of q, k and v.

  /// ∂L/∂carry_in, [B, Nk], overwritten by backward().
  SelectiveWith grad_carry_in(std::type_identity_t<View<T, 2>> x) const {
    SelectiveWith s = *this;
    s.tensors.grad_carry_in = x;
    return s;
  }
  /// ∂L/∂carry_out, [B, Nk], from the chunk behind this one: its grad_carry_in.
  SelectiveWith grad_carry_out(std::type_identity_t<View<const T, 2>> x) const {
    SelectiveWith s = *this;
    s.tensors.grad_carry_out = x;
    return s;
  }
  /// ∂L/∂M, [B, Nq], as memory_loss() gives it; τ as for memory().
  SelectiveWith grad_memory(std::type_identity_t<View<const T, 2>> x, double tau = 1) const {
    SelectiveWith s = *this;
    s.tensors.grad_memory = x;
    s.tensors.memory_tau = tau;
    return s;
  }
  /// ∂L/∂ of a projection's queries and keys, overwritten by backward().
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
  /// Those that the pass reads or writes.
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

/// Selective attention. `selective` is the paper's; selecting({...}) another setting; tensors that
/// go in or come out are named in a chain:
///
///     standard | causal | selective
///     standard | causal | selecting({.head = 3}).carry_in(before).carry_out(after)
struct Selective : StageOf<Rank::scan> {
  SelectOptions options;

  template <class X>
  auto carry_in(X&& x) const {
    return with<X>().carry_in(std::forward<X>(x));
  }
  template <class X>
  auto carry_out(X&& x) const {
    return with<X>().carry_out(std::forward<X>(x));
  }
  template <class X>
  auto memory(X&& x, double tau = 1) const {
    return with<X>().memory(std::forward<X>(x), tau);
  }
  template <class X>
  auto mask_f(X&& x) const {
    return with<X>().mask_f(std::forward<X>(x));
  }
  template <class X>
  auto grad_carry_in(X&& x) const {
    return with<X>().grad_carry_in(std::forward<X>(x));
  }
  template <class X>
  auto grad_carry_out(X&& x) const {
    return with<X>().grad_carry_out(std::forward<X>(x));
  }
  template <class X>
  auto grad_memory(X&& x, double tau = 1) const {
    return with<X>().grad_memory(std::forward<X>(x), tau);
  }
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

inline constexpr Selective selective;
constexpr Selective selecting(const SelectOptions& options) {
  return {{}, options};
}

}  // namespace heed::inline HEED_ABI
