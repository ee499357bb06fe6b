// SPDX-License-Identifier: MIT
#include "serve/summary.hpp"

#include <algorithm>
#include <cmath>

namespace serve {
namespace {

/// The smallest value that at least this share of them does not exceed.
double quantile(const std::vector<double>& sorted, double share) {
  const auto rank = std::size_t(std::ceil(share * double(sorted.size())));
  return sorted[std::max<std::size_t>(rank, 1) - 1];
}

Quantiles quantiles(std::vector<double> values) {
  std::ranges::sort(values);
  return {quantile(values, 0.5), quantile(values, 0.99)};
}

}  // namespace

Summary summary_of(const Server& server, const std::vector<Request>& requests) {
  Summary s;
  std::int64_t arriving = 0;
  for (const Moment& m : server.moments()) {
    s.generated += m.generated;
    s.most_in_flight = std::max(s.most_in_flight, m.in_flight);
    s.most_waiting = std::max(s.most_waiting, m.waiting);
    s.most_pages = std::max(s.most_pages, m.pages_held);
    if (m.step > requests.back().arrives) continue;
    ++arriving;
    s.in_flight += double(m.in_flight), s.pages += double(m.pages_held);
  }
  s.in_flight /= double(arriving), s.pages /= double(arriving);
  s.steps = server.moments().back().step + 1;
  s.seconds = server.moments().back().seconds;
  s.tokens_per_second = double(s.generated) / s.seconds;
  s.requests_per_second = double(requests.size()) / s.seconds;

  std::vector<double> steps, seconds;
  for (std::size_t id = 0; id < requests.size(); ++id) {
    const Outcome& outcome = server.outcomes()[id];
    s.cancelled += outcome.cancelled, s.put_back += outcome.put_back;
    steps.push_back(double(*outcome.admitted - requests[id].arrives));
    seconds.push_back(outcome.seconds_waited);
  }
  s.steps_waited = quantiles(std::move(steps));
  s.seconds_waited = quantiles(std::move(seconds));
  return s;
}

}  // namespace serve
