// SPDX-License-Identifier: MIT
/// @file
/// The processes of an MPI communicator as a group. The only header that includes MPI.
#pragma once

#include "heed/core/vector.hpp"
#include "heed/distributed/group.hpp"

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <mpi.h>
#include <span>
#include <thread>
#include <utility>

namespace heed::inline HEED_ABI::distributed {

/// The ranks of a communicator. It works on a duplicate of its own, so that its messages never meet
/// the program's. Errors of MPI become CommunicationError, and so does a rank that is not heard
/// from within the time limit.
///
///     MPI_Init(&argc, &argv);
///     {
///       heed::distributed::MpiGroup group(MPI_COMM_WORLD);
///       heed::distributed::forward(group, sharding, q, k, v, variant, out);
///     }
///     MPI_Finalize();
///
/// Creating one is collective. Destroy it before MPI_Finalize(). It is called by one thread at a
/// time: MPI_THREAD_FUNNELED is enough if that is the main one. A message of more than 2^30 bytes
/// is sent in pieces.
class MpiGroup {
 public:
  /// One message, perhaps in pieces.
  class Request {
   public:
    Request() = default;
    Request(Request&& o) noexcept
        : pieces_(std::move(o.pieces_)), peer_(o.peer_), arrives_(o.arrives_) {
      o.pieces_.clear();
    }
    Request& operator=(Request&& o) noexcept {
      std::swap(pieces_, o.pieces_), std::swap(peer_, o.peer_), std::swap(arrives_, o.arrives_);
      return *this;
    }
    /// Only after an error are there pieces left. What would be received must not be written to
    /// memory that is freed; a message that is sent is left to MPI.
    ~Request() {
      for (MPI_Request& piece : pieces_) {
        if (piece == MPI_REQUEST_NULL) continue;
        if (arrives_ && MPI_Cancel(&piece) == MPI_SUCCESS)
          MPI_Wait(&piece, MPI_STATUS_IGNORE);
        else
          MPI_Request_free(&piece);
      }
    }

   private:
    friend class MpiGroup;
    Vector<MPI_Request> pieces_;
    int peer_ = -1;
    bool arrives_ = false;
  };

  /// @param communicator  an intracommunicator; MPI is initialised.
  /// @param limit         how long wait() waits for a message. It must be longer than what the
  /// ranks
  ///                      compute between two messages: a rank that is late is not dead.
  /// @throws CommunicationError if the communicator cannot be duplicated.
  explicit MpiGroup(MPI_Comm communicator,
                    std::chrono::milliseconds limit = std::chrono::minutes(10))
      : limit_(limit) {
    expect(MPI_Comm_dup(communicator, &communicator_), "MPI_Comm_dup");
    expect(MPI_Comm_set_errhandler(communicator_, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler");
    expect(MPI_Comm_rank(communicator_, &rank_), "MPI_Comm_rank");
    expect(MPI_Comm_size(communicator_, &size_), "MPI_Comm_size");
  }
  MpiGroup(const MpiGroup&) = delete;
  MpiGroup& operator=(const MpiGroup&) = delete;
  /// Collective, unless the group has failed.
  ~MpiGroup() {
    int finalized = 0;
    MPI_Finalized(&finalized);
    if (!failed_ && finalized == 0) MPI_Comm_free(&communicator_);
  }

  int rank() const { return rank_; }
  int size() const { return size_; }

  Request send(int to, std::span<const std::byte> message) {
    return in_pieces(to, false, message.size(), [&](std::size_t first, int count, MPI_Request* r) {
      return MPI_Isend(message.data() + first, count, MPI_BYTE, to, tag, communicator_, r);
    });
  }
  Request receive(int from, std::span<std::byte> message) {
    return in_pieces(from, true, message.size(), [&](std::size_t first, int count, MPI_Request* r) {
      return MPI_Irecv(message.data() + first, count, MPI_BYTE, from, tag, communicator_, r);
    });
  }
  void wait(Request& request) {
    const auto start = std::chrono::steady_clock::now();
    for (MPI_Request& piece : request.pieces_)
      for (long tries = 0;; ++tries) {
        int done = 0;
        expect(MPI_Test(&piece, &done, MPI_STATUS_IGNORE), "MPI_Test");
        if (done != 0) break;
        if (std::chrono::steady_clock::now() - start > limit_) {
          failed_ = true;
          throw CommunicationError("rank ", rank_, " has not heard from rank ", request.peer_,
                                   " for ", limit_.count(), " ms");
        }
        // Ranks may share a processor: the one that is waited for should run.
        if (tries < 1000)
          std::this_thread::yield();
        else
          std::this_thread::sleep_for(std::chrono::microseconds(50));
      }
    request.pieces_.clear();
  }

 private:
  static constexpr int tag = 0;
  static constexpr std::size_t largest_piece = std::size_t(1) << 30;

  template <class Start>
  Request in_pieces(int peer, bool arrives, std::size_t bytes, Start&& start) {
    Request request;
    request.peer_ = peer, request.arrives_ = arrives;
    for (std::size_t first = 0; first < bytes; first += largest_piece) {
      request.pieces_.push_back(MPI_REQUEST_NULL);
      const int count = int(std::min(bytes - first, largest_piece));
      expect(start(first, count, &request.pieces_.back()), arrives ? "MPI_Irecv" : "MPI_Isend");
    }
    return request;
  }

  /// @throws CommunicationError unless an MPI function has succeeded.
  void expect(int code, const char* function) {
    if (code == MPI_SUCCESS) return;
    failed_ = true;
    char text[MPI_MAX_ERROR_STRING] = "";
    int length = 0;
    MPI_Error_string(code, text, &length);
    throw CommunicationError(function, " failed: ", static_cast<const char*>(text));
  }

  MPI_Comm communicator_ = MPI_COMM_NULL;
  std::chrono::milliseconds limit_;
  int rank_ = 0, size_ = 1;
  bool failed_ = false;
};

}  // namespace heed::inline HEED_ABI::distributed
