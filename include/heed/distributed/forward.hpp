// SPDX-License-Identifier: MIT
/// @file
/// The forward pass over the ranks of a group.
#pragma once

#include "heed/distributed/key_exchange.hpp"
#include "heed/distributed/key_parts.hpp"
#include "heed/engine/merge.hpp"
#include "heed/engine/prune/dead_keys.hpp"

#include <limits>
#include <optional>
#include <type_traits>

namespace heed::inline HEED_ABI::distributed {

namespace detail {

/// What a distributed call needs before its keys are exchanged.
template <class T, Stage V, class G>
struct Prepared {
  Channel<G>& channel;
  const RankCall<T, V>& call;
  FoldedTokens<T> folded;
  Votes<T> votes;
  WantedKeys wanted;
  /// Of calls on parts: what a row may lose is shared between the keys that are not sent and those
  /// that a call drops by itself.
  Options part_options;

  /// F of the first row of a chunk; nothing without a selection.
  View<const T, 2> f(std::size_t c) const {
    return call.selection().active ? votes.f(Index(c)) : View<const T, 2>();
  }

  Prepared(Channel<G>& to_others, const RankCall<T, V>& of_call, const Options& options)
      : channel(to_others), call(of_call), folded(fold(of_call)), part_options(options) {
    const double negligible = heed::detail::negligible_weight<T>(options.negligible) / 2;
    part_options.negligible = negligible;
    if (call.selection().active) {
      Options all = options;
      all.negligible = 0;
      votes = Votes<T>(channel, call, folded);
      votes.count(channel, call, folded, all, negligible);
    }
    wanted = WantedKeys(call, folded, votes, negligible);
    channel.stats().work.dropped = wanted.dropped;
    const Shape& s = call.shape();
    channel.stats().ring_bytes += Index(sizeof(T)) * (channel.size() - 1) * s.batch * s.key_heads *
                                  s.keys * (s.dim + s.value_dim) * (call.whole().backward ? 2 : 1);
  }
};

/// Makes the call of this rank, or learns why it cannot, and compares it with the others'.
template <class T, class G, Stage V, class CheckOutputs>
void begin_call(Channel<G>& channel, std::optional<RankCall<T, V>>& call, const View<const T, 4>& q,
                const View<const T, 4>& k, const View<const T, 4>& v, const V& variant,
                const Sharding& sharding, bool backward, bool has_grad_lse, const Options& options,
                CheckOutputs&& check_outputs) {
  CallRecord record;
  try {
    heed::detail::CallTensors tensors;
    tensors.reads("q", q), tensors.reads("k", k), tensors.reads("v", v);
    call.emplace(q, k, v, variant, sharding, channel.rank(), channel.size(), backward, tensors);
    check_outputs(call->shape(), tensors);
    heed::detail::check_bfloat16(options.bfloat16);
    record = call->record(heed::detail::negligible_weight<T>(options.negligible), has_grad_lse);
  } catch (...) {
    record.refuse_by_current_exception();
  }
  agree(channel, record);
}

/// Adds the sinks to the denominators of finished rows.
template <class T, Stage V>
void add_sinks(const RankCall<T, V>& call, const View<T, 4>& out, const View<T, 3>& lse) {
  with_bound<T>(chosen<ThatHaveSinks<T>>(call.variant()), call.rows(), [&](const auto& sinks) {
    each_row(out, [&](Index b, Index h, Index i) {
      const T sink = hook::sink(sinks, masked<T>, b, h);
      if (sink < masked_below<T>) return;
      // A sink is a key without a value.
      const T keys = lse(b, h, i), most = std::max(keys, sink),
              of_keys = keys < masked_below<T> ? T(0) : std::exp(keys - most),
              sum = of_keys + std::exp(sink - most);
      lse(b, h, i) = most + std::log(sum);
      for (Index d = 0; d < out.dim(3); ++d) out(b, h, i, d) *= of_keys / sum;
    });
  });
}

template <class T, Stage V, class G>
void attend(const Prepared<T, V, G>& p, const View<T, 4>& out, const View<T, 3>& lse) {
  const RankCall<T, V>& call = p.call;
  each_row(out, [&](Index b, Index h, Index i) {
    for (Index d = 0; d < out.dim(3); ++d) out(b, h, i, d) = T(0);
    lse(b, h, i) = -std::numeric_limits<T>::infinity();
  });
  KeyExchange<T, G> exchange(p.channel, call.sharding(), call.shape(), p.wanted.by_rank);
  exchange.run(p.folded, nullptr, [&](const Vector<Index>& positions, KeyBlock<T>& block, auto&) {
    for (std::size_t c = 0; c < call.chunks().size(); ++c) {
      const Chunk& chunk = call.chunks()[c];
      const auto rows = [&](auto&& x) { return slice(x, 2, chunk.row, chunk.rows()); };
      const View<T, 4> to = rows(out);
      const View<T, 3> to_lse = rows(lse);
      const ChunkKeys<T> keys(call.shape(), positions, block, p.wanted.by_chunk[c]);
      each_key_part(call, p.f(c), chunk, 0, keys.positions(), [&](const KeyPart<T>& part) {
        Array<T, 4> some(to.dims());
        Array<T, 3> some_lse(to_lse.dims());
        const auto variant =
            part_variant<T>(call.variant(), call.shape().heads, part.seen, call.selection().active,
                            part.scan(call.selection().options), nullptr);
        p.channel.stats().work += heed::forward(
            rows(p.folded.q.view()), keys.k(part.first, part.count), keys.v(part.first, part.count),
            variant, some.view(), some_lse.view(), p.part_options);
        merge(to, to_lse, std::as_const(some).view(), std::as_const(some_lse).view(), to, to_lse);
      });
    }
  });
  add_sinks(call, out, lse);
}

template <class T, class... X>
inline constexpr bool are_of = (std::is_same_v<T, ScalarOf<X>> && ...);

}  // namespace detail

/// heed::forward() of a sequence whose tokens are spread over the ranks of a group. Each rank gives
/// the queries, keys and values of its own tokens, and receives their rows of out and lse: those of
/// one process to rounding, and the same bits for any number of threads.
///
/// Keys visit the ranks that see them, in any order; partial results in T are merged by their
/// log-sum-exp. Masks compare positions in the whole sequence. Under selection, votes go first, see
/// votes.hpp; keys that it has masked for good where a chunk begins are not sent to that chunk.
///
/// These stages compose: query_, key_, value_, position_ and staircase_temperature,
/// scalable_softmax, standard, scaled, softcap, alibi, relative_bias, score_rule that reads
/// distances alone, causal masks, window, block_span, prefix_lm, documents, starts, lengths, sinks,
/// selective with memory; when; and stages of your own that do one of: scale, mask by intervals,
/// change scores by distance, give a sink. Not bias, boolean_mask, alive, dropout, largest_score,
/// query_offset other than 0, a projection or carries of selective, selection without accumulation,
/// 16-bit and Quantized tensors.
///
/// @param group     the ranks, see Group. All call this function, with the same variant and
/// options.
/// @param sharding  which rank holds which tokens.
/// @param q         [B, H, n, D], n = sharding.rows(rank); float or double, as all tensors.
/// @param k, v      [B, G, n, D], [B, G, n, Dv].
/// @param variant   as for heed::forward(). Temperatures and selective.memory() have this rank's
///                  tokens; documents [B, N] and everything per head is the same on all ranks.
/// @param out, lse  [B, H, n, Dv], [B, H, n], overwritten.
/// @param options   as for heed::forward(); executor and workspace are the rank's own.
/// @throws ShapeError, ValueError on all ranks with one message, if a rank's arguments are wrong or
///     two ranks disagree; nothing was written then. CommunicationError if a rank fails or does not
///     answer; out is unspecified then.
/// @note Memory O(n) for all heads; under selection O(N) beside it: the selecting head's keys, and
///     as many numbers as tokens for each chunk of the rank. Selection costs the scores of one head
///     more, of the pairs that are seen until a key is dead for all rows to come (of all visible
///     ones with selective.memory(), or masks beside the causal one); the scan takes the latency of
///     one message [B, N] a chunk.
template <Group G, class Q, class K, class V, Stage Variant, class Out, class Lse>
requires TensorLike<Lse, 3> TrafficStats forward(G& group, const Sharding& sharding, const Q& q,
                                                 const K& k, const V& v, const Variant& variant,
                                                 Out&& out, Lse&& lse,
                                                 const Options& options = {}) {
  using T = ScalarOf<Out>;
  static_assert(
      (std::is_same_v<T, float> || std::is_same_v<T, double>)&&detail::are_of<T, Q, K, V, Out, Lse>,
      "heed: distributed calls take all tensors in float, or all in double");
  TrafficStats stats;
  detail::Channel<G> channel(group, stats);
  std::optional<detail::RankCall<T, Variant>> call;
  const View<T, 4> to(out);
  const View<T, 3> to_lse(lse);
  detail::begin_call<T>(channel, call, View<const T, 4>(q), View<const T, 4>(k),
                        View<const T, 4>(v), variant, sharding, false, false, options,
                        [&](const Shape& s, heed::detail::CallTensors& tensors) {
                          heed::detail::check_outputs(s, to, to_lse, tensors);
                        });
  const detail::Prepared<T, Variant, G> prepared(channel, *call, options);
  if (to_lse) {
    detail::attend(prepared, to, to_lse);
  } else {
    detail::Array<T, 3> own({to.dim(0), to.dim(1), to.dim(2)});
    detail::attend(prepared, to, own.view());
  }
  return stats;
}

/// The same without the log-sum-exp.
template <Group G, class Q, class K, class V, Stage Variant, class Out>
TrafficStats forward(G& group, const Sharding& sharding, const Q& q, const K& k, const V& v,
                     const Variant& variant, Out&& out, const Options& options = {}) {
  return distributed::forward(group, sharding, q, k, v, variant, out, View<ScalarOf<Out>, 3>{},
                              options);
}

}  // namespace heed::inline HEED_ABI::distributed
