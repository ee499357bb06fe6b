// SPDX-License-Identifier: MIT
#include "serve/requests.hpp"

#include "lm/config.hpp"

#include <cmath>
#include <random>

namespace serve {
namespace {

/// What the standard's distributions would draw is not the same everywhere.
class Draws {
 public:
  explicit Draws(std::uint64_t seed) : random_(seed) {}

  /// In [0, 1).
  double share() { return double(random_() >> 11) * 0x1p-53; }
  std::int64_t from(const Between& range) {
    return range.least + std::int64_t(share() * double(range.most - range.least + 1));
  }
  /// Between two events of a Poisson process.
  double gap(double rate) { return -std::log1p(-share()) / rate; }

 private:
  std::mt19937_64 random_;
};

}  // namespace

std::vector<Request> requests_of(lm::Bytes text, const Traffic& traffic) {
  const auto size = std::int64_t(text.size());
  if (size < traffic.prompt.most)
    throw lm::ConfigError("the text has " + std::to_string(size) +
                          " bytes left for prompts, which may have " +
                          std::to_string(traffic.prompt.most));
  Draws draws(traffic.seed);
  std::vector<Request> requests;
  double time = 0;
  for (std::int64_t i = 0; i < traffic.requests; ++i) {
    Request request;
    request.arrives = std::int64_t(time += draws.gap(traffic.rate));
    const std::int64_t length = draws.from(traffic.prompt), first = draws.from({0, size - length});
    const lm::Bytes prompt = text.subspan(std::size_t(first), std::size_t(length));
    request.prompt.assign(prompt.begin(), prompt.end());
    request.tokens = draws.from(traffic.tokens);
    // Drawn for all, so that one share or another changes nothing else.
    const bool cancelled = draws.share() < traffic.cancelled;
    const std::int64_t leaves = draws.from({1, request.tokens});
    if (cancelled && leaves < request.tokens) request.leaves = leaves;
    requests.push_back(std::move(request));
  }
  return requests;
}

}  // namespace serve
