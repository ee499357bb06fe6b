// SPDX-License-Identifier: MIT
// heed beside what one would use in its place, in one process, by turns:
//
//     compare --cases causal,selective --tokens 1024,2048 --json figures.json
//
// Before a rival is timed, its results are held against heed's: exit code 1 if they differ.
#include "contender.hpp"
#include "report.hpp"
#include "request.hpp"

#include <algorithm>
#include <cstdlib>
#include <iostream>
#include <malloc.h>
#include <stdexcept>
#include <unistd.h>

namespace compare {
namespace {

/// Libraries read their number of threads when they are loaded, which has happened: sets it and
/// starts the program again.
void insist_on_threads(int threads, char** argv) {
  const std::string wanted = std::to_string(threads);
  for (const char* name : {"OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"})
    if (const char* set = std::getenv(name); !set || set != wanted) {
      setenv("OMP_NUM_THREADS", wanted.c_str(), 1);
      setenv("OPENBLAS_NUM_THREADS", wanted.c_str(), 1);
      execv("/proc/self/exe", argv);
      throw std::runtime_error("cannot start again");
    }
}

/// Freed memory stays the program's. A composition that is given its N × N tensors anew by the
/// system, page by page, takes twice as long.
void keep_freed_memory() {
  mallopt(M_MMAP_MAX, 0);
  mallopt(M_TRIM_THRESHOLD, -1);
}

/// More than rounding errors. A score of the selecting head that is zero except for rounding may
/// vote in one implementation and not in the other, and then a row's gradient jumps.
double tolerance(const Case& what) {
  return what.kind == Kind::selective_training ? 1e-2 : 1e-4;
}

/// The results of one run, or of every token that comes where the case forgets.
std::vector<Results> first_results(const Case& what, Job& job) {
  const Index runs = what.kind == Kind::forgetting ? Inputs::coming : 1;
  std::vector<Results> all;
  for (Index run = 0; run < runs; ++run) {
    job.run();
    all.push_back(job.results());
  }
  return all;
}

/// How far a job's results are from those expected.
/// @throws std::runtime_error if that is more than the tolerance.
double checked(const Case& what, const std::vector<Results>& expected, const Contender& by,
               Job& job) {
  const std::vector<Results> got = first_results(what, job);
  double most = 0;
  for (std::size_t run = 0; run < got.size(); ++run) {
    const double apart = difference(got[run], expected[run]);
    if (!(apart <= tolerance(what)))
      throw std::runtime_error(what.label() + ": " + by.name() + " differs from heed by " +
                               std::to_string(apart));
    most = std::max(most, apart);
  }
  return most;
}

/// One case, by all contenders that compute it.
Measured measure(const Case& what, const Contenders& contenders, const Request& asked) {
  const Inputs inputs(what);
  Measured measured{what, limits(asked.threads), {}};
  const std::vector<Results> expected = first_results(what, *contenders.front()->prepare(inputs));
  std::vector<std::unique_ptr<Job>> jobs;
  for (const auto& contender : contenders)
    if (std::unique_ptr<Job> job = contender->prepare(inputs)) {
      measured.entries.push_back(
          {contender->name(), {}, checked(what, expected, *contender, *job)});
      jobs.push_back(std::move(job));
    }
  const std::vector<Timing> timings = by_turns(jobs, asked.threads, asked.patience);
  for (std::size_t i = 0; i < jobs.size(); ++i) measured.entries[i].timing = timings[i];
  measured.limits |= limits(asked.threads);
  return measured;
}

void run(const Request& asked) {
  Contenders contenders = all_contenders(asked.threads);
  std::erase_if(contenders, [&](const auto& c) {
    return c != contenders.front() && c->name().find(asked.only) == std::string::npos;
  });
  Report report(this_machine(asked.threads), contenders);
  report.print_head();
  for (const Case& what : asked.cases) report.add(measure(what, contenders, asked));
  if (!asked.json.empty()) report.write_json(asked.json);
}

}  // namespace
}  // namespace compare

int main(int argc, char** argv) try {
  const auto asked = compare::request(argc, argv);
  if (!asked) return 0;
  compare::insist_on_threads(asked->threads, argv);
  compare::keep_freed_memory();
  compare::run(*asked);
  return 0;
} catch (const std::exception& error) {
  std::cerr << "compare: " << error.what() << '\n';
  return 1;
}
