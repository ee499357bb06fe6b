// SPDX-License-Identifier: MIT
/// @file
/// The processes that work on one call together, and what they need of a transport.
#pragma once

#include "heed/core/error.hpp"

#include <concepts>
#include <cstddef>
#include <span>
#include <stdexcept>
#include <utility>

namespace heed::inline HEED_ABI::distributed {

/// A message that did not arrive, or a process that did not answer in time. The other processes of
/// the group fail too, at the latest after their time limits. A group that failed is not usable any
/// more, and outputs of the call may have been written in part.
struct CommunicationError : std::runtime_error {
  template <class... Pieces>
  explicit CommunicationError(const Pieces&... pieces)
      : std::runtime_error(heed::detail::Message(pieces...).text()) {}
};

/// Ranks 0 … size() − 1, which exchange messages of bytes.
///
///     int rank() const, size() const
///     Request send(int to, std::span<const std::byte> message)
///     Request receive(int from, std::span<std::byte> message)
///     void wait(Request& request)
///
/// send() and receive() return at once; the memory belongs to the message until wait() returns.
/// Messages from one rank to another arrive in the order in which they were sent, and the receiver
/// asks for exactly the size that was sent. Neither waits for the other to be called: any number of
/// messages may be under way. No rank sends to itself. wait() throws CommunicationError if the
/// message cannot arrive, or does not within a time limit. A Request that is destroyed before it
/// was waited for must release the memory of a message that is received.
///
/// All-gather, scans and the rest are made of these four, see collectives.hpp, so that a transport
/// is an adapter of a page: MpiGroup in mpi.hpp is one. One call at a time may use a group.
template <class G>
concept Group = std::movable<typename G::Request> &&
    requires(G& group, const G& same, int rank, std::span<const std::byte> from,
             std::span<std::byte> to, typename G::Request& request) {
  { same.rank() } -> std::same_as<int>;
  { same.size() } -> std::same_as<int>;
  { group.send(rank, from) } -> std::same_as<typename G::Request>;
  { group.receive(rank, to) } -> std::same_as<typename G::Request>;
  group.wait(request);
};

/// A group of one process: nothing is ever sent.
class SingleProcess {
 public:
  struct Request {};

  int rank() const { return 0; }
  int size() const { return 1; }
  Request send(int to, std::span<const std::byte>) { return refuse(to); }
  Request receive(int from, std::span<std::byte>) { return refuse(from); }
  void wait(Request&) {}

 private:
  static Request refuse(int rank) {
    throw CommunicationError("a single process has no rank ", rank, " to talk to");
  }
};

}  // namespace heed::inline HEED_ABI::distributed
