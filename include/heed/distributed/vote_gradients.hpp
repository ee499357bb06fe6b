// SPDX-License-Identifier: MIT
/// @file
/// The gradient of the votes: one scan back over the chunks, then the selecting head alone.
///
/// Each part of the backward pass gives ∂L/∂F of its rows' keys, summed over the rows. A vote
/// counts for all later rows, so the sums of later chunks are ∂L/∂ the carry out of a chunk; from
/// it the selecting head's queries and keys get the rest of their gradient, which is linear in it.
#pragma once

#include "heed/distributed/key_parts.hpp"
#include "heed/distributed/wanted_keys.hpp"
#include "heed/engine/backward.hpp"

namespace heed::inline HEED_ABI::distributed::detail {

template <class T, Stage V, class G>
class VoteGradients {
 public:
  VoteGradients(Channel<G>& channel, const RankCall<T, V>& call, const FoldedTokens<T>& folded,
                const Votes<T>& votes, const View<const T, 3>& lse, StageGradients<T>& stages,
                const Options& options)
      : channel_(channel),
        call_(call),
        folded_(folded),
        votes_(votes),
        lse_(lse),
        stages_(stages),
        options_(options) {
    options_.negligible = 0;
    const Shape& s = call.shape();
    const Index tokens = call.whole().keys;
    for (std::size_t c = 0; c < call.chunks().size(); ++c) {
      of_f_.push_back(Array<T, 2>({s.batch, tokens}));
      after_.push_back(Array<T, 2>({s.batch, tokens}));
    }
    keys_ = Array<T, 4>({s.batch, 1, tokens, s.dim});
    touched_.assign(std::size_t(tokens), false);
  }

  /// ∂L/∂F of the keys of a part, summed over the rows of chunk c.
  void add(Index c, const Vector<Index>& positions, const KeyPart<T>& part,
           const View<const T, 2>& sums) {
    for (Index b = 0; b < sums.dim(0); ++b)
      for (Index j = 0; j < sums.dim(1); ++j)
        of_f_[std::size_t(c)].view()(b, positions[std::size_t(part.first + j)]) += sums(b, j);
  }

  /// Adds the gradients of the selecting head's queries and keys that come from votes.
  void finish(FoldedTokens<T>& grads) {
    if (call_.selection().tensors.grad_memory)
      for (std::size_t c = 0; c < call_.chunks().size(); ++c) differentiate_memory(Index(c), grads);
    each_chunk_in_turn<T>(
        channel_, call_.sharding(), call_.shape().batch, true,
        [&](Index c, const View<const T, 2>& from) {
          each_entry(from,
                     [&](Index b, Index j) { after_[std::size_t(c)].view()(b, j) = from(b, j); });
        },
        [&](Index c, const View<T, 2>& to) {
          each_entry(View<const T, 2>(to), [&](Index b, Index j) {
            to(b, j) = after_[std::size_t(c)].view()(b, j) + of_f_[std::size_t(c)].view()(b, j);
          });
        });
    for (std::size_t c = 0; c < call_.chunks().size(); ++c) differentiate_votes(Index(c), grads);
    return_keys(grads);
  }

 private:
  template <class Visit>
  static void each_entry(const View<const T, 2>& x, Visit&& visit) {
    for (Index b = 0; b < x.dim(0); ++b)
      for (Index j = 0; j < x.dim(1); ++j) visit(b, j);
  }

  /// The backward pass of the selecting head, without values, on keys [B, 1, K, D]. Calls
  /// add_key(b, j, gradient) for each key.
  template <class AddKey>
  void run(const Chunk& chunk, const View<const T, 4>& keys, const SeenKeys& seen,
           const SelectiveWith<T>& scan, FoldedTokens<T>& grads, AddKey&& add_key) {
    const Index batch = call_.shape().batch, dim = call_.shape().dim;
    const auto rows = [&](auto&& x) {
      return slice(slice(x, 1, votes_.head(), 1), 2, chunk.row, chunk.rows());
    };
    const View<const T, 4> no_rows(nullptr, {batch, 1, chunk.rows(), 0}),
        no_values(nullptr, {batch, 1, keys.dim(2), 0});
    const View<T, 4> no_grads(nullptr, no_values.dims());
    Array<T, 4> grad_q({batch, 1, chunk.rows(), dim}), grad_k({batch, 1, keys.dim(2), dim});
    const auto variant =
        part_variant<T>(call_.variant(), call_.shape().heads, seen, true, scan, &stages_);
    channel_.stats().work +=
        heed::backward(rows(folded_.q.view()), keys, no_values, variant, no_rows, rows(lse_),
                       no_rows, grad_q.view(), grad_k.view(), no_grads, options_);
    stages_.add();
    detail::add(rows(grads.q.view()), std::as_const(grad_q).view());
    for (Index b = 0; b < batch; ++b)
      for (Index j = 0; j < keys.dim(2); ++j) add_key(b, j, grad_k.view().row(b, 0, j));
  }
  void add_key(Index b, Index position, const T* gradient) {
    T* const sum = keys_.view().row(b, 0, position);
    for (Index d = 0; d < call_.shape().dim; ++d) sum[d] += gradient[d];
    touched_[std::size_t(position)] = true;
  }

  /// M depends on F of all keys that a row sees, and F on the votes of the chunk's own rows.
  void differentiate_memory(Index c, FoldedTokens<T>& grads) {
    const Chunk& chunk = call_.chunks()[std::size_t(c)];
    const auto& tensors = call_.selection().tensors;
    Array<T, 2> sums({call_.shape().batch, chunk.last});
    run(chunk, votes_.keys(chunk.last), votes_.seen(call_, chunk),
        votes_.selecting_alone(call_)
            .carry_in(slice(votes_.f(c), 1, 0, chunk.last))
            .grad_carry_in(sums.view())
            .grad_memory(slice(tensors.grad_memory, 1, chunk.row, chunk.rows()),
                         tensors.memory_tau),
        grads, [&](Index b, Index j, const T* gradient) { add_key(b, j, gradient); });
    each_entry(std::as_const(sums).view(),
               [&](Index b, Index j) { of_f_[std::size_t(c)].view()(b, j) += sums.view()(b, j); });
  }

  /// The votes of chunk c that count for later chunks. Keys without a gradient there are left out.
  void differentiate_votes(Index c, FoldedTokens<T>& grads) {
    const Chunk& chunk = call_.chunks()[std::size_t(c)];
    const View<const T, 2> after = std::as_const(after_[std::size_t(c)]).view();
    Vector<Index> positions;
    bool any = false;
    for (Index p = 0; p < chunk.last; ++p) {
      bool counts = false;
      for (Index b = 0; b < after.dim(0); ++b) counts = counts || after(b, p) != T(0);
      any = any || counts;
      if (counts || p >= chunk.first) positions.push_back(p);  // its own without gaps
    }
    if (!any) return;
    each_key_part(call_, votes_.f(c), chunk, votes_.head(), positions, [&](const KeyPart<T>& part) {
      const auto place = [&](Index j) { return positions[std::size_t(part.first + j)]; };
      const Array<T, 4> keys = votes_.keys_at(positions, part);
      Array<T, 2> after_part({after.dim(0), part.count});
      each_entry(std::as_const(after_part).view(),
                 [&](Index b, Index j) { after_part.view()(b, j) = after(b, place(j)); });
      run(chunk, keys.view(), part.seen,
          part.scan(votes_.selecting_alone(call_).options).grad_carry_out(after_part.view()), grads,
          [&](Index b, Index j, const T* gradient) { add_key(b, place(j), gradient); });
    });
  }

  /// Sends the gradients of the selecting head's keys to the ranks that hold them.
  void return_keys(FoldedTokens<T>& grads) {
    const auto of = [](int rank) { return std::size_t(rank); };
    const Index batch = call_.shape().batch, dim = call_.shape().dim,
                key_head = call_.shape().key_head(votes_.head());
    const Vector<Vector<Index>> positions =
        by_rank(call_.sharding(), [&](Index p) { return bool(touched_[std::size_t(p)]); });
    Vector<Vector<Index>> runs;
    for (const auto& list : positions) runs.push_back(as_runs(list));
    const Vector<Vector<Index>> arriving = exchange_lists(channel_, runs);
    Vector<Vector<T>> sent(runs.size()), received(runs.size());
    Vector<Vector<Index>> rows;
    Vector<typename Channel<G>::Request> pending;
    for (int r = 0; r < channel_.size(); ++r) {
      rows.push_back(rows_of(call_.sharding(), from_runs(arriving[of(r)])));
      const std::size_t numbers = std::size_t(batch * dim);
      received[of(r)].resize(rows.back().size() * numbers);
      for (Index b = 0; b < batch; ++b)
        for (const Index p : positions[of(r)])
          sent[of(r)].insert(sent[of(r)].end(), keys_.view().row(b, 0, p),
                             keys_.view().row(b, 0, p) + dim);
      if (r == channel_.rank()) {
        received[of(r)] = sent[of(r)];
        continue;
      }
      channel_.receive(r, received[of(r)].data(), Index(received[of(r)].size()), pending);
      channel_.send(r, sent[of(r)].data(), Index(sent[of(r)].size()), pending);
    }
    channel_.wait(pending);
    for (int r = 0; r < channel_.size(); ++r) {
      const T* next = received[of(r)].data();
      for (Index b = 0; b < batch; ++b)
        for (const Index row : rows[of(r)]) {
          T* const sum = grads.k.view().row(b, key_head, row);
          for (Index d = 0; d < dim; ++d) sum[d] += *next++;
        }
    }
  }

  Channel<G>& channel_;
  const RankCall<T, V>& call_;
  const FoldedTokens<T>& folded_;
  const Votes<T>& votes_;
  View<const T, 3> lse_;
  StageGradients<T>& stages_;
  Options options_;
  Vector<Array<T, 2>> of_f_;   ///< by chunk of this rank, [B, N]: Σ over its rows of ∂L/∂F
  Vector<Array<T, 2>> after_;  ///< the same of all later chunks
  Array<T, 4> keys_;           ///< [B, 1, N, D] the gradient of the selecting head's keys
  Vector<bool> touched_;       ///< [N] which of them are not zero
};

}  // namespace heed::inline HEED_ABI::distributed::detail
