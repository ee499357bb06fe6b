// SPDX-License-Identifier: MIT
/// @file
/// Tokens that were computed elsewhere, put into a sequence.
#pragma once

#include "heed/engine/pack/stored_tensor.hpp"
#include "heed/kv/kv_demand.hpp"

namespace heed::inline HEED_ABI {

/// What is known of tokens that KvCache::append() puts into a sequence. N is their number. A cache
/// has one list of tokens, or one per key head where these hold different tokens.
template <class T>
struct KvAppend {
  /// [lists, N] rising from next() on in each list; negative: no token, so that lists may have
  /// different lengths. None: next(), next() + 1, …
  View<const std::int64_t, 2> positions{};
  /// [1, N] F of the row behind them, in natural units, as selective.carry_out() gives it. Needed
  /// if the cache selects, and only then.
  View<const T, 2> f{};
  /// [lists, N] softmax weights received, as KvSequence::held() has them. Needed if the rule counts
  /// weights, and only then.
  View<const T, 2> weights{};
  std::optional<Index> next{};  ///< Position of the token behind them; none: the last one's plus 1.
};

namespace detail {

/// Tokens to put into a sequence, [1, G, N, D] and [1, G, N, Dv], and their check.
template <class T, class S>
class KvTokens {
  using Slots = KvSlots<T>;

 public:
  /// @throws ShapeError, ValueError
  KvTokens(const KvConfig<T, S>& config, const StoredTensor<T>& k, const StoredTensor<T>& v,
           const KvAppend<T>& known, CallTensors& tensors)
      : config_(config), k_(k), v_(v), known_(known), count_(k.dim(2)) {
    const KvShape& s = config.shape;
    expect_dims("k", k.dims(), {1, s.key_heads, count_, s.dim}, "the cache's, of one sequence");
    expect_dims("v", v.dims(), {1, s.key_heads, count_, s.value_dim},
                "the cache's, of one sequence");
    k.check("k"), v.check("v");
    const Dims<2> lists{config.parts(), count_};
    tensors.reads("positions", known.positions);
    if (known.positions)
      expect_dims("positions", known.positions.dims(), lists, "one per list and token");
    const auto expect_evidence = [&](const char* what, const View<const T, 2>& x, bool needed,
                                     const Dims<2>& dims) {
      tensors.reads(what, x);
      if (needed != bool(x) && (needed ? count_ > 0 : bool(x)))
        throw ValueError("append: ", what, needed ? " is missing" : " is given", ", the cache ",
                         config.options.select ? "selects" : "does not select", " and evicts by ",
                         config.options.evict.name());
      if (x) expect_dims(what, x.dims(), dims, "one number per token");
    };
    expect_evidence("f", known.f, config.options.select.has_value(), {1, count_});
    expect_evidence("weights", known.weights, config.options.evict.uses_weights(), lists);
  }

  /// Checks them against the sequence that they are for. @throws ValueError
  void check(std::span<const Slots> parts, const std::optional<Index>& budget, Index next) {
    Index held = 0, most = 0, last = next - 1;
    for (Index part = 0; part < Index(parts.size()); ++part) {
      Index before = next - 1, count = parts[std::size_t(part)].count;
      for (Index n = 0; n < count_; ++n) {
        const Index position = position_of(part, n, next);
        if (position < 0) continue;
        if (position <= before || position > max_position)
          throw ValueError("append: position ", position, " follows ", before,
                           ": positions rise from next() on, at most to ", max_position);
        before = position, ++count;
      }
      last = std::max(last, before), held += count, most = std::max(most, count);
    }
    next_ = known_.next.value_or(last + 1);
    if (next_ <= last || next_ > max_position)
      throw ValueError("append: next is ", next_, ", the last token is at ", last,
                       ": it must be behind, and at most ", max_position);
    const bool shared = config_.options.heads == KvHeads::shared;
    const Index tokens = shared ? held : most;
    if (const Index room = budget.value_or(max_position);
        tokens > product_of(room, shared ? Index(parts.size()) : 1))
      throw ValueError("append: ", tokens, " tokens would be held, the budget is ", room,
                       shared ? " for each key head" : "",
                       "; append without a budget, and set_budget() evicts the rest");
  }

  /// Stores them. Nothing but the reservation of memory can fail.
  /// @throws OutOfPages, std::bad_alloc: nothing has changed then.
  void store(std::span<Slots> parts, Index& next) const {
    Vector<T> row(std::size_t(config_.shape.dim + config_.shape.value_dim));
    Index pages = 0;
    for (Index part = 0; part < Index(parts.size()); ++part) {
      Slots& s = parts[std::size_t(part)];
      const KvDemand<T, S> demand = this->demand(part, next);
      reserve_slots(s, config_, demand.capacity(s));
      pages += demand.pages(s);
    }
    ReservedPages reserved(config_.pool.pages(), pages);
    for (Index part = 0; part < Index(parts.size()); ++part) {
      Slots& s = parts[std::size_t(part)];
      add_pages(s, config_, demand(part, next).capacity(s), reserved.list());
      for (Index n = 0; n < count_; ++n)
        if (const Index position = position_of(part, n, next); position >= 0)
          store_one(s, part, n, position, row.data(), reserved.list());
    }
    next = next_;
  }

 private:
  Index position_of(Index part, Index n, Index next) const {
    return known_.positions ? Index(known_.positions(part, n)) : next + n;
  }
  /// The budget holds them, so that none leaves.
  KvDemand<T, S> demand(Index part, Index next) const {
    Index count = 0;
    for (Index n = 0; n < count_; ++n) count += position_of(part, n, next) >= 0;
    return {config_, none_, count};
  }
  void store_one(Slots& s, Index part, Index n, Index position, T* row, PageList& reserved) const {
    const Index slot = append_token(s, config_, position, reserved, [&](Index head) {
      const Index key_head = part * config_.part_heads() + head;
      return std::pair(k_.row(0, key_head, n, row),
                       v_.row(0, key_head, n, row + config_.shape.dim));
    });
    if (known_.f) s.carry[std::size_t(slot)] = -known_.f(0, n) * simd::log2e<T>;
    if (known_.weights) s.received_weight[std::size_t(slot)] = known_.weights(part, n);
  }

  const KvConfig<T, S>& config_;
  const StoredTensor<T>&k_, &v_;
  const KvAppend<T>& known_;
  Index count_, next_ = 0;
  std::optional<Index> none_{};
};

}  // namespace detail
}  // namespace heed::inline HEED_ABI
