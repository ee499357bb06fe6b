// SPDX-License-Identifier: MIT
/// @file
/// Messages of numbers, counted, and what is made of them.
#pragma once

#include "heed/core/vector.hpp"
#include "heed/core/views.hpp"
#include "heed/distributed/group.hpp"
#include "heed/distributed/traffic_stats.hpp"

#include <algorithm>
#include <type_traits>
#include <utility>

namespace heed::inline HEED_ABI::distributed::detail {

/// A group whose messages hold numbers of one type, and are counted. Messages without numbers are
/// not sent.
template <Group G>
class Channel {
 public:
  using Request = typename G::Request;

  Channel(G& group, TrafficStats& stats) : group_(&group), stats_(&stats) {}

  int rank() const { return std::as_const(*group_).rank(); }
  int size() const { return std::as_const(*group_).size(); }
  /// The rank that is `steps` behind this one, or ahead of it if negative, around the group.
  int neighbour(int steps) const { return (rank() - steps % size() + size()) % size(); }

  template <class T>
  void send(int to, const T* numbers, Index count, Vector<Request>& pending) {
    static_assert(std::is_trivially_copyable_v<T>);
    if (count == 0) return;
    const std::span<const std::byte> bytes = std::as_bytes(std::span(numbers, std::size_t(count)));
    stats_->bytes += Index(bytes.size()), ++stats_->messages;
    pending.push_back(group_->send(to, bytes));
  }
  template <class T>
  void receive(int from, T* numbers, Index count, Vector<Request>& pending) {
    static_assert(std::is_trivially_copyable_v<T>);
    if (count == 0) return;
    pending.push_back(
        group_->receive(from, std::as_writable_bytes(std::span(numbers, std::size_t(count)))));
  }
  /// Waits for all of them, and forgets them.
  void wait(Vector<Request>& pending) {
    for (Request& request : pending) group_->wait(request);
    pending.clear();
  }

  TrafficStats& stats() { return *stats_; }

 private:
  G* group_;
  TrafficStats* stats_;
};

/// all ← what each rank gives, rank after rank; counts[r] numbers come from rank r.
template <class G, class T>
void all_gather(Channel<G>& channel, const T* own, const Vector<Index>& counts, T* all) {
  Vector<Index> starts{0};
  for (const Index count : counts) starts.push_back(starts.back() + count);
  const auto of = [](int rank) { return std::size_t(rank); };
  const int rank = channel.rank();
  std::copy_n(own, counts[of(rank)], all + starts[of(rank)]);
  Vector<typename Channel<G>::Request> pending;
  for (int step = 1; step < channel.size(); ++step) {
    const int from = channel.neighbour(step);
    channel.receive(from, all + starts[of(from)], counts[of(from)], pending);
  }
  for (int step = 1; step < channel.size(); ++step)
    channel.send(channel.neighbour(-step), own, counts[of(rank)], pending);
  channel.wait(pending);
}

/// Gives each rank a list, to[r], and returns the lists that the ranks gave to this one.
template <class G, class T>
Vector<Vector<T>> exchange_lists(Channel<G>& channel, const Vector<Vector<T>>& to) {
  const auto of = [](int rank) { return std::size_t(rank); };
  const int size = channel.size(), rank = channel.rank();
  Vector<Index> theirs(to.size()), ours(to.size());
  Vector<Vector<T>> from(to.size());
  Vector<typename Channel<G>::Request> pending;
  for (int r = 0; r < size; ++r) ours[of(r)] = Index(to[of(r)].size());
  for (int r = 0; r < size; ++r)
    if (r != rank) channel.receive(r, &theirs[of(r)], 1, pending);
  for (int r = 0; r < size; ++r)
    if (r != rank) channel.send(r, &ours[of(r)], 1, pending);
  channel.wait(pending);
  for (int r = 0; r < size; ++r) {
    if (r == rank) continue;
    from[of(r)].resize(std::size_t(theirs[of(r)]));
    channel.receive(r, from[of(r)].data(), theirs[of(r)], pending);
  }
  for (int r = 0; r < size; ++r)
    if (r != rank) channel.send(r, to[of(r)].data(), ours[of(r)], pending);
  channel.wait(pending);
  from[of(rank)] = to[of(rank)];
  return from;
}

}  // namespace heed::inline HEED_ABI::distributed::detail
