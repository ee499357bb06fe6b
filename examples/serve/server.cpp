// SPDX-License-Identifier: MIT
#include "serve/server.hpp"

#include <algorithm>

namespace serve {

Server::Server(const lm::Model& model, lm::SharedMemory& memory, lm::Bytes prefix,
               std::vector<Request> requests, const ServerOptions& options)
    : model_(model),
      memory_(memory),
      options_(options),
      requests_(std::move(requests)),
      admission_(memory, std::int64_t(prefix.size()), options.piece, options.overbook),
      prefix_(memory.open()),
      prefix_tokens_(std::int64_t(prefix.size())),
      arrival_seconds_(requests_.size()),
      outcomes_(requests_.size()) {
  std::int64_t longest = prefix_tokens_;
  for (std::size_t id = 0; id < requests_.size(); ++id) {
    longest = std::max(longest, length(id));
    samplers_.emplace_back(options.temperature, options.seed + id);
  }
  admission_.expect_room(longest);
  for (std::size_t at = 0; at < prefix.size(); at += std::size_t(options.piece)) {
    const lm::Piece piece{&prefix_, prefix.subspan(at).first(
                                        std::min(std::size_t(options.piece), prefix.size() - at))};
    model.forward({&piece, 1}, memory);
  }
  start_ = std::clock();
}

/// With the prefix; the last token that is generated is never read.
std::int64_t Server::length(std::size_t id) const {
  return prefix_tokens_ + std::int64_t(requests_[id].prompt.size()) + requests_[id].tokens - 1;
}

void Server::receive() {
  if (active_.empty() && waiting_.empty())  // nothing to do until the next one
    step_ = std::max(step_, requests_[arrived_].arrives);
  for (; arrived_ < requests_.size() && requests_[arrived_].arrives <= step_; ++arrived_) {
    waiting_.push_back(arrived_);
    arrival_seconds_[arrived_] = seconds();
  }
}

void Server::admit() {
  if (crowded_) return;
  while (!waiting_.empty() && admission_.admit(length(waiting_.front()))) {
    const std::size_t id = waiting_.front();
    waiting_.pop_front();
    Outcome& outcome = outcomes_[id];
    if (!outcome.admitted) {
      outcome.admitted = step_;
      outcome.seconds_waited = seconds() - arrival_seconds_[id];
    }
    Active request{id, prefix_, requests_[id].prompt};
    request.unread.insert(request.unread.end(), outcome.text.begin(), outcome.text.end());
    active_.push_back(std::move(request));
  }
}

std::vector<std::size_t> Server::rows() const {
  std::vector<std::size_t> rows;
  bool reads = false;  // one prompt at a time
  for (const Active& request : active_) {
    const bool generates = request.unread.size() == 1;
    rows.push_back(generates ? 1
                   : reads   ? 0
                             : std::min(request.unread.size(), std::size_t(options_.piece)));
    reads |= !generates;
  }
  return rows;
}

void Server::put_back(std::size_t id) {
  admission_.leave(length(id));
  waiting_.push_front(id);
  ++outcomes_[id].put_back;
  crowded_ = true;
}

bool Server::take(Active& request,
                  const Eigen::Ref<const Eigen::Matrix<float, 1, Eigen::Dynamic>>& logits) {
  const Request& asked = requests_[request.id];
  Outcome& outcome = outcomes_[request.id];
  const std::uint8_t next = samplers_[request.id].draw(logits);
  outcome.text.push_back(char(next));
  request.unread.push_back(next);
  const auto generated = std::int64_t(outcome.text.size());
  outcome.cancelled = asked.leaves == generated;
  return outcome.cancelled || generated == asked.tokens;
}

bool Server::step() {
  if (done_ == std::int64_t(requests_.size())) return false;
  receive();
  admit();

  const std::vector<std::size_t> rows = this->rows();
  std::vector<lm::Piece> pieces;
  std::vector<Active*> served;
  for (std::size_t i = 0; i < active_.size(); ++i)
    if (rows[i] > 0) {
      pieces.push_back({&active_[i].memory, lm::Bytes(active_[i].unread).first(rows[i])});
      served.push_back(&active_[i]);
    }
  const lm::Matrix logits = model_.forward(pieces, memory_);

  Moment moment{.step = step_, .pages_held = memory_.pool().pages_held()};
  moment.in_flight =
      std::ranges::count_if(active_, [](const Active& a) { return a.memory.is_open(); });
  for (auto request = active_.rbegin(); request != active_.rend(); ++request)
    if (!request->memory.is_open()) put_back(request->id);
  Eigen::Index row = -1;
  for (std::size_t i = 0; i < served.size(); ++i) {
    Active& request = *served[i];
    if (!request.memory.is_open()) continue;  // put back
    row += Eigen::Index(pieces[i].tokens.size());
    request.unread.erase(request.unread.begin(),
                         request.unread.begin() + std::ptrdiff_t(pieces[i].tokens.size()));
    if (!request.unread.empty()) continue;
    ++moment.generated;
    if (take(request, logits.row(row))) {
      request.memory.close();
      admission_.leave(length(request.id));
      outcomes_[request.id].done = step_;
      ++done_;
      crowded_ = false;
    }
  }
  std::erase_if(active_, [](const Active& request) { return !request.memory.is_open(); });

  moment.seconds = seconds();
  moment.waiting = std::int64_t(waiting_.size());
  moment.pages_promised = admission_.promised();
  moments_.push_back(moment);
  ++step_;
  return true;
}

}  // namespace serve
