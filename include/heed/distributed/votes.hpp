// SPDX-License-Identifier: MIT
/// @file
/// Votes go first: F at the start of every chunk, before any values are exchanged.
///
/// F of a row is the sum of the votes of all rows before it, but a vote needs the queries and keys
/// of the selecting head alone. So each rank gathers that head's keys, sums the votes of each of
/// its chunks, and one exclusive scan over the chunks gives F where each chunk begins. After that,
/// chunks and keys may be computed in any order.
#pragma once

#include "heed/distributed/folded_tokens.hpp"
#include "heed/distributed/key_parts.hpp"
#include "heed/distributed/norm_bounds.hpp"
#include "heed/engine/forward.hpp"

#include <cmath>
#include <cstdint>
#include <optional>

namespace heed::inline HEED_ABI::distributed::detail {

/// One pass over the chunks in the order of their positions, or in reverse. Each rank has one
/// array [B, N] a chunk of its own; take(c, from) is called with what came from the chunk before,
/// and pass(c, to) writes what the chunk gives to the one after; both [B, keys], the keys up to the
/// end of the earlier chunk.
template <class T, class G, class Take, class Pass>
void each_chunk_in_turn(Channel<G>& channel, const Sharding& sharding, Index batch, bool reverse,
                        Take&& take, Pass&& pass) {
  Vector<Chunk> order;
  for (const Chunk& chunk : sharding.chunks())
    if (chunk.rows() > 0) order.push_back(chunk);
  if (reverse) std::reverse(order.begin(), order.end());
  Vector<Array<T, 2>> sent;
  Array<T, 2> from;
  Vector<typename Channel<G>::Request> pending;  // gone before what it sends
  const auto is_own = [&](const Chunk& chunk) { return chunk.rank == channel.rank(); };
  Index own = reverse ? std::count_if(order.begin(), order.end(), is_own) - 1 : 0;
  for (std::size_t c = 0; c < order.size(); ++c) {
    if (!is_own(order[c])) continue;
    const auto keys_between = [&](std::size_t d) {  // of chunk d and the one after
      return std::min(order[d].last, order[d + 1].last);
    };
    if (c > 0) {
      if (!is_own(order[c - 1])) {
        Vector<typename Channel<G>::Request> arriving;
        from = Array<T, 2>({batch, keys_between(c - 1)});
        channel.receive(order[c - 1].rank, from.view().data(), from.view().size(), arriving);
        channel.wait(arriving);
      }
      take(own, std::as_const(from).view());
    }
    if (c + 1 < order.size()) {
      Array<T, 2> to({batch, keys_between(c)});
      pass(own, to.view());
      if (is_own(order[c + 1])) {
        from = std::move(to);
      } else {
        sent.push_back(std::move(to));
        channel.send(order[c + 1].rank, sent.back().view().data(), sent.back().view().size(),
                     pending);
      }
    }
    own += reverse ? -1 : 1;
  }
  channel.wait(pending);
}

/// The selecting head of a distributed call.
template <class T>
class Votes {
 public:
  Votes() = default;

  /// Gathers the selecting head's keys. F is still to be computed.
  template <class G, Stage V>
  Votes(Channel<G>& channel, const RankCall<T, V>& call, const FoldedTokens<T>& folded)
      : head_(call.selection().options.head), dim_(call.shape().dim) {
    const Shape& s = call.shape();
    const Index width = dim_ + 1;
    Array<T, 3> own({s.batch, s.keys, width});
    for (Index b = 0; b < s.batch; ++b)
      for (Index j = 0; j < s.keys; ++j) {
        const T* key = folded.k.view().row(b, s.key_head(head_), j);
        T* const to = own.view().row(b, j);
        std::copy_n(key, dim_, to);
        for (Index g = 0; g < s.key_heads; ++g)
          to[dim_] = std::max(to[dim_], norm_of(folded.k.view().row(b, g, j), dim_));
      }
    Vector<Index> counts, starts{0};
    for (int r = 0; r < channel.size(); ++r) {
      counts.push_back(s.batch * call.sharding().rows(r) * width);
      starts.push_back(starts.back() + counts.back());
    }
    Vector<T> gathered(std::size_t(starts.back()));
    all_gather(channel, own.view().data(), counts, gathered.data());
    keys_ = Array<T, 3>({s.batch, call.whole().keys, width});
    for (const Chunk& chunk : call.sharding().chunks())
      for (Index b = 0; b < s.batch && chunk.rows() > 0; ++b)
        std::copy_n(gathered.data() + starts[std::size_t(chunk.rank)] +
                        (b * call.sharding().rows(chunk.rank) + chunk.row) * width,
                    chunk.rows() * width, keys_.view().row(b, chunk.first));
    for (std::size_t c = 0; c < call.chunks().size(); ++c)
      f_.push_back(Array<T, 2>({s.batch, call.whole().keys}));
  }

  Index head() const { return head_; }
  /// The selecting head's keys 0 … keys − 1 of the whole sequence, [B, 1, keys, D].
  View<const T, 4> keys(Index keys) const {
    const auto all = keys_.view();
    return {all.data(), {all.dim(0), 1, keys, dim_}, {all.stride(0), 0, dim_ + 1, 1}};
  }
  /// The largest norm of a key over the key heads.
  T norm(Index b, Index position) const { return keys_.view()(b, position, dim_); }
  /// F of the first row of the rank's c-th chunk, [B, N].
  View<const T, 2> f(Index c) const { return f_[std::size_t(c)].view(); }

  /// Computes F, and M of this rank's rows if it is wanted. Of a key that is dead for all rows
  /// after some row, no vote after that row is counted: F is then less than it would be, but
  /// enough.
  /// @param negligible  what a row may lose of its weight.
  template <class G, Stage V>
  void count(Channel<G>& channel, const RankCall<T, V>& call, const FoldedTokens<T>& folded,
             const Options& options, double negligible) {
    const auto& tensors = call.selection().tensors;
    std::optional<NormBounds> bounds;
    if (keys_can_die(call, negligible) && !tensors.memory && !tensors.grad_memory)
      bounds = bounds_of_all(channel, call, folded, negligible);
    Vector<Array<T, 2>> sums;
    for (const Chunk& chunk : call.chunks()) {
      sums.push_back(Array<T, 2>({call.shape().batch, call.whole().keys}));
      if (chunk.last == call.whole().keys) continue;  // no row comes after
      sum_votes(channel, call, folded, chunk, sums.back().view(), options, bounds);
    }
    const auto each = [&](const View<T, 2>& to, auto&& value) {
      for (Index b = 0; b < to.dim(0); ++b)
        for (Index j = 0; j < to.dim(1); ++j) to(b, j) = value(b, j);
    };
    each_chunk_in_turn<T>(
        channel, call.sharding(), call.shape().batch, false,
        [&](Index c, const View<const T, 2>& from) {
          each(slice(f_[std::size_t(c)].view(), 1, 0, from.dim(1)),
               [&](Index b, Index j) { return from(b, j); });
        },
        [&](Index c, const View<T, 2>& to) {
          each(to,
               [&](Index b, Index j) { return f(c)(b, j) + sums[std::size_t(c)].view()(b, j); });
        });
    if (const auto& memory = call.selection().tensors.memory; memory && !call.whole().backward)
      for (std::size_t c = 0; c < call.chunks().size(); ++c) {
        const Chunk& chunk = call.chunks()[c];
        run(channel, call, folded, chunk, keys(chunk.last), seen(call, chunk),
            selecting_alone(call)
                .carry_in(slice(f(Index(c)), 1, 0, chunk.last))
                .memory(slice(memory, 1, chunk.row, chunk.rows()),
                        call.selection().tensors.memory_tau),
            options);
      }
  }

  /// The selecting head's keys of a part of a list, [B, 1, K, D].
  Array<T, 4> keys_at(const Vector<Index>& positions, const KeyPart<T>& part) const {
    const View<const T, 4> all = keys(keys_.view().dim(1));
    Array<T, 4> some({all.dim(0), 1, part.count, dim_});
    for (Index b = 0; b < all.dim(0); ++b)
      for (Index j = 0; j < part.count; ++j)
        std::copy_n(all.row(b, 0, positions[std::size_t(part.first + j)]), dim_,
                    some.view().row(b, 0, j));
    return some;
  }
  /// What the rows of a chunk see of the keys from the first one on, with the selecting head alone.
  template <Stage V>
  SeenKeys seen(const RankCall<T, V>& call, const Chunk& chunk) const {
    SeenKeys seen = call.seen(chunk, head_);
    seen.whole = &call.whole(), seen.whole_row = chunk.first;
    return seen;
  }
  /// The caller's selection, for calls that have no other head.
  template <Stage V>
  SelectiveWith<T> selecting_alone(const RankCall<T, V>& call) const {
    SelectOptions options = call.selection().options;
    options.head = 0;
    return {{}, options, {}};
  }

 private:
  /// Rows after which sum_votes() looks for dead keys: a call on that many rows is still efficient.
  static constexpr Index rows_between_looks = 512;

  /// Bounds for all rows of all ranks.
  template <class G, Stage V>
  NormBounds bounds_of_all(Channel<G>& channel, const RankCall<T, V>& call,
                           const FoldedTokens<T>& folded, double negligible) const {
    const Index batch = call.shape().batch;
    Vector<T> own, all(std::size_t(batch * channel.size()));
    for (Index b = 0; b < batch; ++b)
      own.push_back(largest_norm(folded.q.view(), b, 0, call.shape().queries));
    all_gather(channel, own.data(), Vector<Index>(std::size_t(channel.size()), batch), all.data());
    NormBounds bounds(negligible, call.whole().keys);
    for (Index b = 0; b < batch; ++b) {
      T query = 0, key = 0;
      for (int r = 0; r < channel.size(); ++r)
        query = std::max(query, all[std::size_t(r * batch + b)]);
      for (Index p = 0; p < call.whole().keys; ++p) key = std::max(key, norm(b, p));
      bounds.add(double(query), double(key));
    }
    return bounds;
  }

  /// sums ← the votes of a chunk's rows, [B, N].
  template <class G, Stage V>
  void sum_votes(Channel<G>& channel, const RankCall<T, V>& call, const FoldedTokens<T>& folded,
                 const Chunk& chunk, const View<T, 2>& sums, const Options& options,
                 const std::optional<NormBounds>& bounds) const {
    Vector<Index> live;
    Index next = 0;
    const Index step = bounds ? rows_between_looks : chunk.rows();
    for (Index first = chunk.first; first < chunk.last; first += step) {
      const Chunk rows{first, std::min(first + step, chunk.last), chunk.rank,
                       chunk.row + first - chunk.first};
      for (; next < rows.last; ++next) live.push_back(next);
      if (Index(live.size()) == rows.last) {
        const auto to = slice(sums, 1, 0, rows.last);
        run(channel, call, folded, rows, keys(rows.last), seen(call, rows),
            selecting_alone(call).carry_in(to).carry_out(to), options);
      } else {
        each_key_part(call, View<const T, 2>(sums), rows, head_, live, [&](const KeyPart<T>& part) {
          const Array<T, 4> some = keys_at(live, part);
          Array<T, 2> after({sums.dim(0), part.count});
          run(channel, call, folded, rows, some.view(), part.seen,
              part.scan(selecting_alone(call).options).carry_out(after.view()), options);
          for (Index b = 0; b < sums.dim(0); ++b)
            for (Index j = 0; j < part.count; ++j)
              sums(b, live[std::size_t(part.first + j)]) = after.view()(b, j);
        });
      }
      if (bounds)
        live.erase(std::remove_if(live.begin(), live.end(),
                                  [&](Index p) { return is_dead(*bounds, sums, p); }),
                   live.end());
    }
  }
  /// Is the key dead in all batch entries by these votes alone?
  bool is_dead(const NormBounds& bounds, const View<T, 2>& sums, Index position) const {
    for (Index b = 0; b < sums.dim(0); ++b)
      if (!bounds.is_dead(b, double(norm(b, position)), double(sums(b, position)))) return false;
    return sums.dim(0) > 0;
  }

  /// One pass of the selecting head over keys [B, 1, K, D], for what `scan` writes.
  template <class G, Stage V>
  void run(Channel<G>& channel, const RankCall<T, V>& call, const FoldedTokens<T>& folded,
           const Chunk& chunk, const View<const T, 4>& some_keys, const SeenKeys& sees,
           const SelectiveWith<T>& scan, const Options& options) const {
    const Index batch = call.shape().batch;
    const View<const T, 4> q =
        slice(slice(folded.q.view(), 1, head_, 1), 2, chunk.row, chunk.rows());
    const View<const T, 4> no_values(nullptr, {batch, 1, some_keys.dim(2), 0});
    const View<T, 4> no_out(nullptr, {batch, 1, chunk.rows(), 0});
    const auto variant =
        part_variant<T>(call.variant(), call.shape().heads, sees, true, scan, nullptr);
    channel.stats().work += heed::forward(q, some_keys, no_values, variant, no_out, options);
  }

  Index head_ = 0, dim_ = 0;
  Array<T, 3> keys_;  ///< [B, N, D + 1], the last number the norm
  Vector<Array<T, 2>> f_;
};

}  // namespace heed::inline HEED_ABI::distributed::detail
