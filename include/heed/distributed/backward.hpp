// SPDX-License-Identifier: MIT
/// @file
/// The backward pass over the ranks of a group.
#pragma once

#include "heed/distributed/forward.hpp"
#include "heed/distributed/vote_gradients.hpp"

namespace heed::inline HEED_ABI::distributed {

namespace detail {

/// The gradients of the sinks from this rank's rows.
template <class T, Stage V>
void differentiate_sinks(const RankCall<T, V>& call, const heed::detail::BackwardTensors<T>& x) {
  with_bound<T>(chosen<ThatHaveSinks<T>>(call.variant()), call.rows(), [&](auto& sinks) {
    hook::clear_gradients(sinks);
    for (Index b = 0; b < x.out.dim(0); ++b)
      for (Index h = 0; h < x.out.dim(1); ++h) {
        const T sink = hook::sink(sinks, masked<T>, b, h);
        if (sink < masked_below<T>) continue;
        double sum = 0;
        for (Index i = 0; i < x.out.dim(2); ++i) {
          const double lse = double(x.lse(b, h, i));
          double delta = x.grad_lse ? -double(x.grad_lse(b, h, i)) : 0;
          for (Index d = 0; d < x.out.dim(3); ++d)
            if (const T out = x.out(b, h, i, d); out != T(0))
              delta += double(x.grad_out(b, h, i, d)) * double(out);
          sum -= std::exp(double(sink) - lse) * delta;
        }
        hook::grad_sink(sinks, T(sum), b, h);
      }
  });
}

template <class T, Stage V, class G>
void differentiate(const Prepared<T, V, G>& p, const heed::detail::BackwardTensors<T>& x) {
  const RankCall<T, V>& call = p.call;
  const Selection<T>& selection = call.selection();
  FoldedTokens<T> grads(call.shape());
  StageGradients<T> stages;
  // A rank without parts writes zeros too.
  (void)part_variant<T>(call.variant(), call.shape().heads, SeenKeys(), false, {}, &stages);
  std::optional<VoteGradients<T, V, G>> of_votes;
  if (selection.active)
    of_votes.emplace(p.channel, call, p.folded, p.votes, x.lse, stages, p.part_options);

  KeyExchange<T, G> exchange(p.channel, call.sharding(), call.shape(), p.wanted.by_rank);
  exchange.run(
      p.folded, &grads,
      [&](const Vector<Index>& positions, KeyBlock<T>& block, KeyBlock<T>& block_grads) {
        for (std::size_t c = 0; c < call.chunks().size(); ++c) {
          const Chunk& chunk = call.chunks()[c];
          const auto rows = [&](auto&& y) { return slice(y, 2, chunk.row, chunk.rows()); };
          const ChunkKeys<T> keys(call.shape(), positions, block, p.wanted.by_chunk[c]);
          each_key_part(call, p.f(c), chunk, 0, keys.positions(), [&](const KeyPart<T>& part) {
            const View<const T, 4> k = keys.k(part.first, part.count),
                                   v = keys.v(part.first, part.count);
            const View<T, 4> q_sum = rows(grads.q.view());
            Array<T, 4> grad_q(q_sum.dims()), grad_k(k.dims()), grad_v(v.dims());
            Array<T, 2> of_f({call.shape().batch, selection.active ? part.count : 0});
            const auto variant =
                part_variant<T>(call.variant(), call.shape().heads, part.seen, selection.active,
                                part.scan(selection.options).grad_carry_in(of_f.view()), &stages);
            p.channel.stats().work +=
                heed::backward(rows(p.folded.q.view()), k, v, variant, rows(x.out), rows(x.lse),
                               rows(x.grad_out), x.grad_lse ? rows(x.grad_lse) : x.grad_lse,
                               grad_q.view(), grad_k.view(), grad_v.view(), p.part_options);
            stages.add();
            add(q_sum, std::as_const(grad_q).view());
            keys.add(part.first, grad_k.view(), grad_v.view(), block_grads);
            if (of_votes)
              of_votes->add(Index(c), keys.positions(), part, std::as_const(of_f).view());
          });
        }
      });
  if (of_votes) of_votes->finish(grads);
  unfold(call, grads, x.grad_q, x.grad_k, x.grad_v);
  differentiate_sinks(call, x);
  stages.write();
}

}  // namespace detail

/// heed::backward() of a sequence whose tokens are spread over the ranks of a group: the gradients
/// of distributed::forward(), each rank those of its own tokens.
///
/// Keys and values travel as in forward(), and their gradients travel back. Under selection the
/// votes are computed again, ∂L/∂F is summed over later chunks by a scan in reverse, and the
/// selecting head's queries and keys get their share of it at the end.
///
/// Gradients of tensors with one entry for each token of this rank (temperatures) are complete.
/// Those of parameters that all ranks share (slopes of alibi, a relative_bias table, sinks, α,
/// scales of scalable_softmax) are this rank's share: the sum over the ranks is the gradient, as
/// with all other parameters of a model that is trained so.
///
/// @param q, k, v, variant, sharding  as for forward(), all ranks alike.
/// @param out, lse   [B, H, n, Dv], [B, H, n]: the results of forward().
/// @param grad_out   [B, H, n, Dv].
/// @param grad_lse   [B, H, n]; an empty view: zero. All ranks must give it, or none.
/// @param grad_q, grad_k, grad_v  the dimensions of q, k and v, overwritten.
/// @throws as forward().
/// @note Twice the traffic of forward(). Selection costs the votes again, a backward pass of one
/// head over those keys that later chunks still see, and with grad_memory one over all keys.
template <Group G, class Q, class K, class V, Stage Variant, class Out, class Lse, class GradOut,
          class GradLse, class GradQ, class GradK, class GradV>
requires TensorLike<GradLse, 3> && TensorLike<GradV, 4> TrafficStats backward(
    G& group, const Sharding& sharding, const Q& q, const K& k, const V& v, const Variant& variant,
    const Out& out, const Lse& lse, const GradOut& grad_out, const GradLse& grad_lse,
    GradQ&& grad_q, GradK&& grad_k, GradV&& grad_v, const Options& options = {}) {
  using T = ScalarOf<Q>;
  static_assert((std::is_same_v<T, float> ||
                 std::is_same_v<T, double>)&&detail::are_of<T, K, V, Out, Lse, GradOut, GradLse,
                                                            GradQ, GradK, GradV>,
                "heed: distributed calls take all tensors in float, or all in double");
  const heed::detail::BackwardTensors<T> x{View<const T, 4>(q),        View<const T, 4>(k),
                                           View<const T, 4>(v),        View<const T, 4>(out),
                                           View<const T, 4>(grad_out), View<const T, 3>(lse),
                                           View<T, 4>(grad_q),         View<T, 4>(grad_k),
                                           View<T, 4>(grad_v),         View<const T, 3>(grad_lse)};
  TrafficStats stats;
  detail::Channel<G> channel(group, stats);
  std::optional<detail::RankCall<T, Variant>> call;
  detail::begin_call<T>(channel, call, x.q, x.k, x.v, variant, sharding, true, bool(x.grad_lse),
                        options, [&](const Shape& s, heed::detail::CallTensors& tensors) {
                          heed::detail::check_backward_tensors(x, s, tensors);
                        });
  const detail::Prepared<T, Variant, G> prepared(channel, *call, options);
  detail::differentiate(prepared, x);
  return stats;
}

/// The same for a loss that does not depend on the log-sum-exp.
template <Group G, class Q, class K, class V, Stage Variant, class Out, class Lse, class GradOut,
          class GradQ, class GradK, class GradV>
TrafficStats backward(G& group, const Sharding& sharding, const Q& q, const K& k, const V& v,
                      const Variant& variant, const Out& out, const Lse& lse,
                      const GradOut& grad_out, GradQ&& grad_q, GradK&& grad_k, GradV&& grad_v,
                      const Options& options = {}) {
  return distributed::backward(group, sharding, q, k, v, variant, out, lse, grad_out,
                               View<const ScalarOf<Q>, 3>{}, grad_q, grad_k, grad_v, options);
}

}  // namespace heed::inline HEED_ABI::distributed
