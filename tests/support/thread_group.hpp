// SPDX-License-Identifier: MIT
/// @file
/// Ranks as threads of one process, with mailboxes: a group for tests.
#pragma once

#include "heed/distributed/group.hpp"

#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstring>
#include <deque>
#include <exception>
#include <functional>
#include <map>
#include <mutex>
#include <span>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace heed::test {

/// What the threads share.
class Mailboxes {
 public:
  Mailboxes(int size, std::chrono::milliseconds limit) : size_(size), limit_(limit) {}

  int size() const { return size_; }
  void put(int from, int to, std::span<const std::byte> message) {
    const std::lock_guard lock(mutex_);
    boxes_[{from, to}].emplace_back(message.begin(), message.end());
    changed_.notify_all();
  }
  void take(int from, int to, std::span<std::byte> message) {
    std::unique_lock lock(mutex_);
    auto& box = boxes_[{from, to}];
    if (!changed_.wait_for(lock, limit_, [&] { return !box.empty(); }))
      throw distributed::CommunicationError("rank ", from, " has not answered rank ", to);
    if (box.front().size() != message.size())
      throw distributed::CommunicationError("rank ", from, " sent ", box.front().size(),
                                            " bytes, rank ", to, " expected ", message.size());
    std::memcpy(message.data(), box.front().data(), message.size());
    box.pop_front();
  }
  /// Is no message left that was not received?
  bool empty() const {
    for (const auto& [between, box] : boxes_)
      if (!box.empty()) return false;
    return true;
  }

 private:
  int size_;
  std::chrono::milliseconds limit_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<std::pair<int, int>, std::deque<std::vector<std::byte>>> boxes_;
};

/// One thread's place in the group. A message is copied when it is sent, and received in wait().
class ThreadGroup {
 public:
  struct Request {
    int from = -1;
    std::span<std::byte> to;
  };

  ThreadGroup(Mailboxes& boxes, int rank) : boxes_(&boxes), rank_(rank) {}

  int rank() const { return rank_; }
  int size() const { return boxes_->size(); }
  Request send(int to, std::span<const std::byte> message) {
    boxes_->put(rank_, to, message);
    return {};
  }
  Request receive(int from, std::span<std::byte> message) { return {from, message}; }
  void wait(Request& request) {
    if (request.from >= 0) boxes_->take(request.from, rank_, request.to);
    request.from = -1;
  }

 private:
  Mailboxes* boxes_;
  int rank_;
};

/// Runs body(group) on each of `size` threads. Returns what each has thrown, or "".
inline std::vector<std::string> on_ranks(
    int size, const std::function<void(ThreadGroup&)>& body,
    std::chrono::milliseconds limit = std::chrono::seconds(60)) {
  Mailboxes boxes(size, limit);
  std::vector<std::string> thrown(static_cast<std::size_t>(size));
  std::vector<std::thread> threads;
  for (int rank = 0; rank < size; ++rank)
    threads.emplace_back([&, rank] {
      ThreadGroup group(boxes, rank);
      try {
        body(group);
      } catch (const std::exception& e) {
        thrown[static_cast<std::size_t>(rank)] = e.what();
      }
    });
  for (std::thread& thread : threads) thread.join();
  bool failed = false;
  for (const std::string& text : thrown) failed = failed || !text.empty();
  if (!failed && !boxes.empty()) thrown[0] = "messages were sent and not received";
  return thrown;
}

}  // namespace heed::test
