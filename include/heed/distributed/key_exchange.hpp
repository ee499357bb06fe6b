// SPDX-License-Identifier: MIT
/// @file
/// Keys and values on their way from rank to rank, and their gradients on the way back.
#pragma once

#include "heed/distributed/wanted_keys.hpp"

namespace heed::inline HEED_ABI::distributed::detail {

/// Keys and values of one rank, those that another one asked for, or their gradients; one message.
template <class T>
class KeyBlock {
 public:
  KeyBlock() = default;
  KeyBlock(const Shape& s, Index keys)
      : dims_{s.batch, s.key_heads, keys, s.dim},
        value_dims_{s.batch, s.key_heads, keys, s.value_dim} {
    numbers_.assign(std::size_t(size()), T(0));
  }

  Index keys() const { return dims_[2]; }
  Index size() const { return rows() * (dims_[3] + value_dims_[3]); }
  T* data() { return numbers_.data(); }
  View<T, 4> k() { return {numbers_.data(), dims_}; }
  View<T, 4> v() { return {numbers_.data() + rows() * dims_[3], value_dims_}; }

 private:
  Index rows() const { return dims_[0] * dims_[1] * dims_[2]; }

  Dims<4> dims_{}, value_dims_{};
  Vector<T> numbers_;
};

/// Copies or adds rows of a tensor [B, G, N, D]: calls combine(number of packed, number of whole).
template <class T, class U, class Combine>
void each_number(const View<T, 4>& packed, const View<U, 4>& whole, const Vector<Index>& rows,
                 Combine&& combine) {
  each_row(packed, [&](Index b, Index g, Index i) {
    for (Index d = 0; d < packed.dim(3); ++d)
      combine(packed(b, g, i, d), whole(b, g, rows[std::size_t(i)], d));
  });
}

/// The keys of a block that one chunk needs, without the others.
template <class T>
class ChunkKeys {
 public:
  /// @param wanted  [N] by position.
  ChunkKeys(const Shape& s, const Vector<Index>& positions, KeyBlock<T>& block,
            const Vector<bool>& wanted) {
    for (std::size_t i = 0; i < positions.size(); ++i)
      if (wanted[std::size_t(positions[i])])
        rows_.push_back(Index(i)), positions_.push_back(positions[i]);
    k_ = block.k(), v_ = block.v();
    if (rows_.size() == positions.size()) return;
    some_ = KeyBlock<T>(s, Index(rows_.size()));
    const auto copy = [](T& packed, const T& x) { packed = x; };
    each_number(some_.k(), k_, rows_, copy), each_number(some_.v(), v_, rows_, copy);
    k_ = some_.k(), v_ = some_.v();
  }

  ChunkKeys(const ChunkKeys&) = delete;
  ChunkKeys& operator=(const ChunkKeys&) = delete;

  const Vector<Index>& positions() const { return positions_; }
  View<const T, 4> k(Index first, Index count) const { return slice(k_, 2, first, count); }
  View<const T, 4> v(Index first, Index count) const { return slice(v_, 2, first, count); }
  /// Adds gradients of keys first … to those of the block.
  void add(Index first, const View<T, 4>& grad_k, const View<T, 4>& grad_v,
           KeyBlock<T>& block_grads) const {
    const Vector<Index> rows(rows_.begin() + first, rows_.begin() + first + grad_k.dim(2));
    const auto plus = [](const T& packed, T& sum) { sum += packed; };
    each_number(grad_k, block_grads.k(), rows, plus);
    each_number(grad_v, block_grads.v(), rows, plus);
  }

 private:
  Vector<Index> rows_, positions_;  ///< in the block, and in the whole sequence
  KeyBlock<T> some_;
  View<T, 4> k_, v_;
};

/// Each rank asks each other rank for the keys that it needs, and gets them directly, in R − 1
/// steps: in step s from the rank s behind, while it sends to the rank s ahead. The bytes are those
/// of a ring if all keys are needed. The keys of the next step are under way while those of this
/// step are worked on.
template <class T, class G>
class KeyExchange {
 public:
  /// @param wanted  the positions that this rank needs, by rank.
  KeyExchange(Channel<G>& channel, const Sharding& sharding, const Shape& shape,
              const Vector<Vector<Index>>& wanted)
      : channel_(&channel), shape_(shape), wanted_(wanted) {
    Vector<Vector<Index>> runs;
    for (const auto& positions : wanted) runs.push_back(as_runs(positions));
    for (const auto& of_rank : exchange_lists(channel, runs))
      asked_.push_back(rows_of(sharding, from_runs(of_rank)));
    for (std::size_t r = 0; r < asked_.size(); ++r)
      if (int(r) != channel.rank()) channel.stats().tokens += Index(asked_[r].size());
  }

  /// Calls work(positions, block, gradients) for the keys of each rank, first this rank's own. If
  /// `gradients` are wanted, work() adds those of the block, and they are added to `to_k` and
  /// `to_v` on the rank that holds the keys, in the order of the steps.
  template <class Work>
  void run(const FoldedTokens<T>& tokens, FoldedTokens<T>* gradients, Work&& work) {
    const int steps = channel_->size();
    Step now = begin(tokens, 0), next;
    Returns returns;
    for (int step = 0; step < steps; ++step) {
      if (step + 1 < steps) next = begin(tokens, step + 1);
      channel_->wait(now.arriving);
      KeyBlock<T> grads;
      if (gradients) grads = KeyBlock<T>(shape_, now.received.keys());
      work(wanted_[index(channel_->neighbour(step))], now.received, grads);
      channel_->wait(now.leaving);
      if (gradients) {
        finish(returns, *gradients);
        returns = send_back(std::move(grads), step);
      }
      now = std::move(next);
    }
    if (gradients) finish(returns, *gradients);
  }

 private:
  using Requests = Vector<typename Channel<G>::Request>;
  struct Step {
    KeyBlock<T> sent, received;
    Requests arriving, leaving;
  };
  /// Gradients of a block that go back to its rank, and those of this rank's keys that come.
  struct Returns {
    KeyBlock<T> sent, received;
    Requests pending;
    int rank = -1;  ///< the one that sends to this rank
  };

  static std::size_t index(int rank) { return std::size_t(rank); }

  Step begin(const FoldedTokens<T>& tokens, int step) {
    const int from = channel_->neighbour(step), to = channel_->neighbour(-step);
    Step s;
    s.received = KeyBlock<T>(shape_, Index(wanted_[index(from)].size()));
    if (step == 0) {
      pack(tokens, asked_[index(to)], s.received);
      return s;
    }
    channel_->receive(from, s.received.data(), s.received.size(), s.arriving);
    s.sent = KeyBlock<T>(shape_, Index(asked_[index(to)].size()));
    pack(tokens, asked_[index(to)], s.sent);
    channel_->send(to, s.sent.data(), s.sent.size(), s.leaving);
    return s;
  }
  static void pack(const FoldedTokens<T>& tokens, const Vector<Index>& rows, KeyBlock<T>& to) {
    const auto copy = [](T& packed, const T& x) { packed = x; };
    each_number(to.k(), tokens.k.view(), rows, copy);
    each_number(to.v(), tokens.v.view(), rows, copy);
  }

  Returns send_back(KeyBlock<T>&& grads, int step) {
    Returns r;
    r.rank = channel_->neighbour(-step);
    r.sent = std::move(grads);
    if (step == 0) {
      r.received = std::move(r.sent);
      return r;
    }
    r.received = KeyBlock<T>(shape_, Index(asked_[index(r.rank)].size()));
    channel_->receive(r.rank, r.received.data(), r.received.size(), r.pending);
    channel_->send(channel_->neighbour(step), r.sent.data(), r.sent.size(), r.pending);
    return r;
  }
  void finish(Returns& returns, FoldedTokens<T>& gradients) {
    if (returns.rank < 0) return;
    channel_->wait(returns.pending);
    const auto plus = [](const T& packed, T& sum) { sum += packed; };
    each_number(returns.received.k(), gradients.k.view(), asked_[index(returns.rank)], plus);
    each_number(returns.received.v(), gradients.v.view(), asked_[index(returns.rank)], plus);
  }

  Channel<G>* channel_;
  Shape shape_;
  const Vector<Vector<Index>>& wanted_;
  Vector<Vector<Index>> asked_;  ///< by rank, the rows of this rank that it asked for
};

}  // namespace heed::inline HEED_ABI::distributed::detail
