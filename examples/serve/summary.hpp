// SPDX-License-Identifier: MIT
/// @file
/// One memory's run in figures.
#pragma once

#include "lm/score.hpp"
#include "serve/server.hpp"

namespace serve {

/// The median of something, and what one of a hundred exceeds.
struct Quantiles {
  double median = 0, most = 0;
};

struct Summary {
  std::int64_t steps = 0, generated = 0, cancelled = 0, put_back = 0;
  double seconds = 0, tokens_per_second = 0, requests_per_second = 0;  ///< over the whole run
  double in_flight = 0;  ///< mean of the steps in which requests still arrived
  std::int64_t most_in_flight = 0, most_waiting = 0;
  Quantiles steps_waited, seconds_waited;
  std::int64_t most_pages = 0;
  double pages = 0;  ///< mean, as in_flight
};

/// A run with one memory.
struct Trial {
  std::string budgets;                              ///< as on the command line
  std::vector<std::optional<std::int64_t>> layers;  ///< the same, one a layer
  double overbook = 1;
  lm::Score score;  ///< of the held-out text on these budgets
  Summary summary;
  std::vector<Moment> moments;
  std::vector<Outcome> outcomes;
};

/// Of a server whose requests are all done.
Summary summary_of(const Server& server, const std::vector<Request>& requests);

}  // namespace serve
