// SPDX-License-Identifier: MIT
/// @file
/// The key-value cache of one layer: sequences that come and go, over a pool of pages.
#pragma once

#include "heed/core/small_array.hpp"
#include "heed/kv/kv_append.hpp"
#include "heed/kv/kv_call.hpp"
#include "heed/kv/kv_cut.hpp"
#include "heed/kv/kv_move.hpp"
#include "heed/kv/kv_sequence.hpp"

#include <initializer_list>

namespace heed::inline HEED_ABI {

/// The key-value cache of one layer, for decode and prefill with selective attention and eviction
/// (Leviathan, Kalman, Matias, arXiv:2410.02703):
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
/// The pool may be shared with other layers. Without one the cache has its own, which grows.
///
///     KvPool<float> pool(dim, dim, {.bytes = 1 << 30});
///     KvCache<float> cache({.heads = 8, .key_heads = 2, .dim = 64, .value_dim = 64}, {.budget =
///     512},
///                          pool);
///     auto a = cache.open(), b = cache.open();
///     cache.step({&a, &b}, q, k, v, standard, out);   // one token each: q is [2, 8, 1, 64]
template <class T, StorageOf<T> S = T>
class KvCache {
  using Config = detail::KvConfig<T, S>;

 public:
  using Sequence = KvSequence<T, S>;
  using Pool = KvPool<T, S>;
  using Step = KvStep<T>;
  /// The sequences of a step, in order.
  using Sequences = std::span<Sequence* const>;

  /// @param shape  its batch is not used.
  /// @throws ValueError if a size is not positive, or if the budget is smaller than the number of
  ///     protected and recent tokens; ShapeError if the pool is of other dimensions.
  KvCache(const KvShape& shape, KvOptions options, std::optional<Pool> pool = {})
      : config_(detail::Shared<const Config>::make(shape, std::move(options), std::move(pool))) {}
  /// Copies share the pool, and may step each other's sequences; scratch is not copied.
  KvCache(const KvCache& o) : config_(o.config_) {}
  KvCache& operator=(const KvCache& o) {
    config_ = o.config_;
    return *this;
  }
  KvCache(KvCache&&) = default;
  KvCache& operator=(KvCache&&) = default;

  const KvShape& shape() const { return config_->shape; }
  /// The options given, with `protect` sorted and `chunk` limited to a row block.
  const KvOptions& options() const { return config_->options; }
  Pool pool() const { return config_->pool; }
  /// Bytes of scratch that the cache allocated itself.
  std::size_t scratch_bytes() const { return workspace_.bytes(); }

  /// Allocates the pages of this many sequences, if there is a budget, so that steps need not.
  /// @throws OutOfPages, std::bad_alloc
  void reserve(Index sequences) {
    if (options().budget) pool().reserve(sequences * config_->pages_for(*options().budget));
  }

  /// The most pages that a sequence of this many tokens holds, while a step of `rows` of them runs.
  /// If heads share a budget, or if the rule acts when a step ends, they may be more.
  Index pages_for(Index tokens, Index rows = 1) const {
    const Config& c = *config_;
    const Index slots =
        c.options.budget ? std::min(tokens, c.slots_for(*c.options.budget, rows)) : tokens;
    return detail::round_up(slots, c.pool.page()) / c.pool.page() * c.shape.key_heads;
  }

  /// A sequence without tokens.
  Sequence open() const { return Sequence(config_); }
  /// A fork of a sequence that may be of another cache with the same heads, dimensions and
  /// `select`. Its tokens must fit this cache's budget. If this cache's rule needs received
  /// weights, the other cache must have recorded them. Pages are shared if both have one pool,
  /// otherwise copied.
  /// @throws ShapeError, ValueError, naming both sides; OutOfPages, std::bad_alloc
  Sequence open(const Sequence& from) const {
    const Config& other = from.config();
    if (from.config_ == config_) return from;
    Index count = 0, most = 0;
    for (const KvSlots<T>& s : from.parts_) count += s.count, most = std::max(most, s.count);
    if (options().heads == KvHeads::shared)
      count = (count + config_->parts() - 1) / config_->parts();
    else
      count = most;
    detail::check_move(other.shape, other.options, shape(), options(), count);
    Sequence to = open();
    to.next_ = from.next_;
    for (std::size_t p = 0; p < to.parts_.size(); ++p) {
      KvSlots<T>& s = to.parts_[p];
      s = other.pool == config_->pool ? from.parts_[p]
                                      : detail::repacked(from.parts_[p], other, *config_);
      if (!options().evict.uses_weights()) s.received_weight = {};
      if (options().evict.scores_tokens()) s.received_weight.resize(std::size_t(s.capacity()));
      for (Index j = 0; j < s.slots; ++j)
        detail::mark_token(s, *config_, j, s.marks[std::size_t(j)]);
    }
    return to;
  }

  /// Appends N tokens to each sequence; each row attends to the tokens held at that point.
  ///
  /// @param sequences  B different sequences of this cache.
  /// @param q  [B, H, N, D].   @param k  [B, G, N, D].   @param v  [B, G, N, Dv]. T or a type of 16
  ///     bits; k and v may be Quantized.
  /// @param variant  stages that do not read keys by index: query temperatures, standard or scaled,
  ///     softcap, alibi, score_rule, sinks. The cache adds causality and selection itself.
  /// @param out  [B, H, N, Dv], overwritten; zero in rows past a sequence's last token.
  /// @throws ShapeError, ValueError, OutOfPages, std::bad_alloc: no sequence has changed then.
  /// @note A token costs 2 (D + Dv) FLOP per head and token held, independent of its position.
  template <class Q, TokensLike K, TokensLike V, Stage Variant, class Out>
  requires TensorLike<Q, 4> && StoredFor<Q, T> && StoredFor<K, T> && StoredFor<V, T> &&
      TensorLike<Out, 4>
          WorkStats step(Sequences sequences, const Q& q, const K& k, const V& v,
                         const Variant& variant, Out&& out, const Step& options = {}) {
    detail::CallTensors tensors;
    detail::reads_tokens(tensors, "q", "", q);
    detail::reads_tokens(tensors, "k", "the scale of k", k);
    detail::reads_tokens(tensors, "v", "the scale of v", v);
    return run(sequences, {q, k, v, {}, options.tokens, options.parents}, variant, View<T, 4>(out),
               options, tensors);
  }
  template <class Q, TokensLike K, TokensLike V, Stage Variant, class Out>
  requires TensorLike<Q, 4> && StoredFor<Q, T> && StoredFor<K, T> && StoredFor<V, T> &&
      TensorLike<Out, 4>
          WorkStats step(std::initializer_list<Sequence*> sequences, const Q& q, const K& k,
                         const V& v, const Variant& variant, Out&& out, const Step& options = {}) {
    return step(Sequences(sequences.begin(), sequences.size()), q, k, v, variant, out, options);
  }

  /// The same for sequences with different numbers of new tokens, packed one after the other.
  ///
  /// @param starts  [B + 1] sequence b has the rows starts[b] … starts[b + 1] − 1, or none.
  /// @param q  [N, H, D], N rows in all.   @param k  [N, G, D].   @param v  [N, G, Dv].
  /// @param out  [N, H, Dv], overwritten.
  template <class Q, class K, class V, Stage Variant, class Out>
  requires TensorLike<Q, 3> && TensorLike<K, 3> && TensorLike<V, 3> && TensorLike<Out, 3> WorkStats
  step_packed(Sequences sequences, const View<const std::int64_t, 1>& starts, const Q& q,
              const K& k, const V& v, const Variant& variant, Out&& out, const Step& options = {}) {
    detail::CallTensors tensors;
    const View<const ScalarOf<Q>, 4> queries = as_batch(View<const ScalarOf<Q>, 3>(q));
    const View<const ScalarOf<K>, 4> keys = as_batch(View<const ScalarOf<K>, 3>(k));
    const View<const ScalarOf<V>, 4> values = as_batch(View<const ScalarOf<V>, 3>(v));
    tensors.reads("q", queries), tensors.reads("k", keys), tensors.reads("v", values);
    return run(sequences, {queries, keys, values, starts, options.tokens, options.parents}, variant,
               as_batch(View<T, 3>(out)), options, tensors);
  }

  /// Puts N tokens that were computed elsewhere into a sequence, without attending: by forward()
  /// over a prompt, or in another cache. What follows is as if the sequence had taken their rows.
  /// Tokens held already keep their F and weights: those given should be of the same row.
  ///
  /// @param k  [1, G, N, D].   @param v  [1, G, N, Dv], of any type that step() takes.
  /// @throws ShapeError, or ValueError if positions do not rise, if F or weights are missing or
  ///     without use, or if more tokens would be held than the budget; OutOfPages, std::bad_alloc.
  ///     Nothing has changed then.
  template <TokensLike K, TokensLike V>
  requires StoredFor<K, T> && StoredFor<V, T>
  void append(Sequence& sequence, const K& k, const V& v, const KvAppend<T>& known = {}) {
    expect_own(sequence);
    detail::CallTensors tensors;
    detail::reads_tokens(tensors, "k", "the scale of k", k);
    detail::reads_tokens(tensors, "v", "the scale of v", v);
    const detail::StoredTensor<T> keys(k), values(v);
    detail::KvTokens<T, S> tokens(*config_, keys, values, known, tensors);
    tokens.check(sequence.parts_, sequence.budget_, sequence.next_);
    tokens.store(sequence.parts_, sequence.next_);
  }

  /// The last N tokens of each sequence attend again, with other queries: for a layer that shares
  /// the keys and values of this one. Row n is that of token next() − N + n and sees the tokens
  /// held up to it. Nothing is appended, evicted or counted, and F is not subtracted.
  ///
  /// @throws ValueError if a sequence has fewer tokens; as step() does.
  template <class Q, Stage Variant, class Out>
  requires TensorLike<Q, 4> && StoredFor<Q, T> && TensorLike<Out, 4> WorkStats
  attend(Sequences sequences, const Q& q, const Variant& variant, Out&& out,
         const Step& options = {}) {
    detail::CallTensors tensors;
    detail::reads_tokens(tensors, "q", "", q);
    detail::KvInputs<T> in{q, {}, {}, {}, options.tokens};
    in.adds = false;
    return run(sequences, in, variant, View<T, 4>(out), options, tensors);
  }

  /// For the library: makes room for rows[b] new tokens of each sequence, all but the pages.
  /// @return how many pages the step may take.
  /// @throws ValueError, std::bad_alloc
  Index prepare(Sequences sequences, std::span<const std::int64_t> rows) const {
    expect_own(sequences);
    Index pages = 0, capacity = 0;
    for (std::size_t b = 0; b < sequences.size(); ++b) {
      const detail::KvDemand<T, S> demand{*config_, sequences[b]->budget_, Index(rows[b])};
      for (KvSlots<T>& s : sequences[b]->parts_) {
        capacity = std::max(capacity, demand.capacity(s));
        detail::reserve_slots(s, *config_, demand.capacity(s));
        pages += demand.pages(s);
      }
    }
    if (options().rotary) options().rotary->template angles<T>(capacity + 1);
    return pages;
  }

  /// Changes K of one sequence. If it holds more tokens, the rule evicts the rest at once: a prompt
  /// can be taken without a budget, and be cut afterwards.
  /// @throws ValueError if the budget is smaller than the number of protected and recent tokens, or
  ///     the sequence is not of this cache; OutOfPages, std::bad_alloc: nothing has changed then.
  void set_budget(Sequence& sequence, std::optional<Index> budget) {
    expect_own(sequence);
    if (budget && *budget > detail::max_bytes)
      throw ValueError("budget is ", *budget, ", must be at most ", detail::max_bytes);
    KvOptions with = options();
    with.budget = budget;
    detail::check(with, shape().heads);
    Sequence to = sequence;
    if (budget) detail::evict_to<T, S>(*config_, to.parts_, to.next_, *budget);
    to.budget_ = budget, to.id_ = sequence.id_;
    sequence = std::move(to);
  }

 private:
  static constexpr const char* twice = "a step names one sequence twice";

  template <class X>
  static View<X, 4> as_batch(const View<X, 3>& x) {
    const auto [rows, heads, dim] = x.dims();
    const auto [row, head, one] = x.strides();
    return {x.data(), {1, heads, rows, dim}, {rows * row, head, row, one}};
  }

  void expect_own(const Sequence& s) const {
    s.expect_open();
    if (s.config_ != config_)
      throw ValueError("the sequence is of another cache; open(sequence) continues it in this one");
  }

  template <class Variant>
  WorkStats run(Sequences sequences, const detail::KvInputs<T>& in, const Variant& variant,
                const View<T, 4>& out, const Step& options, detail::CallTensors& tensors) {
    static_assert(hook::reads<BoundOf<T, Variant>> != Reads::index,
                  "heed: this stage reads keys by index, which a buffer's slots do not have; a "
                  "buffer is causal without a stage that says so");
    static_assert(hook::well_formed<T, Variant, BoundOf<T, Variant>>());
    static_assert(!hook::scans_rows<BoundOf<T, Variant>>,
                  "heed: the buffer selects by itself, see KvOptions::select");
    detail::SmallArray<detail::KvMember<T>> held(sequences.size());
    const std::span<detail::KvMember<T>> members = held.all();
    expect_own(sequences);
    for (std::size_t b = 0; b < sequences.size(); ++b)
      members[b] = {sequences[b]->budget_, &sequences[b]->next_, sequences[b]->parts_};
    detail::KvCall<T, S, Variant> call(*config_, members, in, variant, out, options, tensors);
    return call.run(options.workspace ? *options.workspace : workspace_);
  }
  /// @throws ValueError unless they are different sequences of this cache.
  void expect_own(Sequences sequences) const {
    for (std::size_t b = 0; b < sequences.size(); ++b) {
      if (sequences[b] == nullptr) throw ValueError("sequence ", b, " of the step is null");
      expect_own(*sequences[b]);
    }
    expect_different(sequences);
  }
  static void expect_different(Sequences sequences) {
    Vector<const Sequence*> sorted;
    if (sequences.size() <= detail::SmallArray<int>::in_place) {  // no allocation
      for (std::size_t b = 1; b < sequences.size(); ++b)
        if (std::find(sequences.begin(), sequences.begin() + std::ptrdiff_t(b), sequences[b]) !=
            sequences.begin() + std::ptrdiff_t(b))
          throw ValueError(twice);
      return;
    }
    sorted.assign(sequences.begin(), sequences.end());
    std::sort(sorted.begin(), sorted.end());
    if (std::adjacent_find(sorted.begin(), sorted.end()) != sorted.end()) throw ValueError(twice);
  }

  detail::Shared<const Config> config_;
  Workspace workspace_;
};

}  // namespace heed::inline HEED_ABI
