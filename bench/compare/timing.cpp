// SPDX-License-Identifier: MIT
#include "timing.hpp"

#include "roofline.hpp"

#include <algorithm>
#include <cmath>

namespace compare {
namespace {

double seconds_a_run(Job& job, int calls, int threads) {
  const roofline::Stopwatch watch(threads);
  for (int call = 0; call < calls; ++call) job.run();
  return watch.seconds() / calls;
}

/// How many calls take five milliseconds.
int calls_for(Job& job, int threads) {
  job.run();  // takes memory, touches pages
  const double once = std::max(seconds_a_run(job, 1, threads), 1e-6);
  return std::max(1, int(std::ceil(5e-3 / once)));
}

Timing summary(std::vector<double> seconds) {
  std::ranges::sort(seconds);
  const std::size_t middle = seconds.size() / 2;
  const double median =
      seconds.size() % 2 == 1 ? seconds[middle] : (seconds[middle - 1] + seconds[middle]) / 2;
  return {seconds.front(), median, int(seconds.size())};
}

}  // namespace

std::vector<Timing> by_turns(std::span<const std::unique_ptr<Job>> jobs, int threads,
                             const Patience& patience) {
  constexpr int fewest = 3;
  std::vector<int> calls;
  for (const auto& job : jobs) calls.push_back(calls_for(*job, threads));
  std::vector<std::vector<double>> seconds(jobs.size());
  const roofline::Stopwatch watch(threads);
  for (int round = 0; round < patience.rounds; ++round) {
    if (round >= fewest && watch.seconds() > patience.seconds) break;
    for (std::size_t j = 0; j < jobs.size(); ++j)
      seconds[j].push_back(seconds_a_run(*jobs[j], calls[j], threads));
  }
  std::vector<Timing> timings;
  for (auto& each : seconds) timings.push_back(summary(std::move(each)));
  return timings;
}

}  // namespace compare
