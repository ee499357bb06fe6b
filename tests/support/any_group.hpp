// SPDX-License-Identifier: MIT
/// @file
/// Any group behind one type, so that the tests of all transports share what is compiled.
#pragma once

#include "heed/distributed/group.hpp"

#include <cstddef>
#include <map>
#include <span>
#include <utility>

namespace heed::test {

class AnyGroup {
 public:
  using Request = int;

  AnyGroup() = default;
  AnyGroup(const AnyGroup&) = delete;
  AnyGroup& operator=(const AnyGroup&) = delete;
  virtual ~AnyGroup() = default;
  virtual int rank() const = 0;
  virtual int size() const = 0;
  virtual Request send(int to, std::span<const std::byte> message) = 0;
  virtual Request receive(int from, std::span<std::byte> message) = 0;
  virtual void wait(Request& request) = 0;
};

template <distributed::Group G>
class GroupOf final : public AnyGroup {
 public:
  explicit GroupOf(G& group) : group_(&group) {}

  int rank() const override { return group_->rank(); }
  int size() const override { return group_->size(); }
  Request send(int to, std::span<const std::byte> message) override {
    return keep(group_->send(to, message));
  }
  Request receive(int from, std::span<std::byte> message) override {
    return keep(group_->receive(from, message));
  }
  void wait(Request& request) override {
    group_->wait(requests_.at(request));
    requests_.erase(request);
  }

 private:
  Request keep(typename G::Request&& request) {
    requests_.emplace(++last_, std::move(request));
    return last_;
  }

  G* group_;
  std::map<int, typename G::Request> requests_;
  int last_ = 0;
};

}  // namespace heed::test
