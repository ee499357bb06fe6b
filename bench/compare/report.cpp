// SPDX-License-Identifier: MIT
#include "report.hpp"

#include <cstdio>
#include <fstream>
#include <nlohmann/json.hpp>
#include <stdexcept>

namespace compare {

using Json = nlohmann::json;

Report::Report(const Machine& machine, const Contenders& contenders) : machine_(machine) {
  for (const auto& contender : contenders)
    versions_.emplace_back(contender->name(), contender->version());
}

double Report::share(const Case& what, double seconds) const {
  return what.decodes() ? what.bytes() / seconds / machine_.stream
                        : what.flop() / seconds / machine_.peak;
}

void Report::print_head() const {
  std::printf("%s, %s %s, %d thread%s: %.1f GFLOP/s, %.1f GB/s from memory.\n\n",
              machine_.processor.c_str(), machine_.compiler.c_str(), machine_.flags.c_str(),
              machine_.threads, machine_.threads == 1 ? "" : "s", machine_.peak * 1e-9,
              machine_.stream * 1e-9);
  for (const auto& [name, version] : versions_)
    std::printf("- %s: %s\n", name.c_str(), version.c_str());
  for (const std::string& name : absent()) std::printf("- %s: not found\n", name.c_str());
}

void Report::add(const Measured& measured) {
  const Case& what = measured.what;
  const char* against = what.decodes() ? "stream" : "peak";
  std::printf("\n**%s**\n\n", what.label().c_str());
  std::printf("| | ms, least | median | share of %s | time over heed | differs by |\n", against);
  std::printf("|---|--:|--:|--:|--:|--:|\n");
  const double own = measured.entries.front().timing.least;
  for (const Entry& entry : measured.entries)
    std::printf("| %s | %.3f | %.3f | %.0f %% | %.2f | %.0e |\n", entry.name.c_str(),
                entry.timing.least * 1e3, entry.timing.median * 1e3,
                100 * share(what, entry.timing.least), entry.timing.least / own, entry.difference);
  std::fflush(stdout);
  all_.push_back(measured);
}

Json Report::machine_as_json() const {
  return {{"processor", machine_.processor},  {"compiler", machine_.compiler},
          {"flags", machine_.flags},          {"threads", machine_.threads},
          {"flop_per_second", machine_.peak}, {"bytes_per_second", machine_.stream}};
}

void Report::write_json(const std::string& file) const {
  Json results = Json::array();
  for (const Measured& measured : all_)
    for (const Entry& entry : measured.entries) {
      const Case& c = measured.what;
      const Timing& t = entry.timing;
      Json row{{"case", name(c.kind)},
               {"tokens", c.tokens},
               {"dim", c.dim},
               {"heads", c.heads},
               {"key_heads", c.key_heads},
               {"contender", entry.name},
               {"seconds", t.least},
               {"median_seconds", t.median},
               {"rounds", t.rounds},
               {"flop", c.flop()},
               {"share", share(c, t.least)},
               {"share_of", c.decodes() ? "stream" : "peak"},
               {"time_over_heed", t.least / measured.entries.front().timing.least},
               {"difference", entry.difference}};
      if (c.decodes()) row["bytes"] = c.bytes();
      if (c.kind == Kind::forgetting) row["budget"] = c.budget;
      results.push_back(std::move(row));
    }
  Json versions = Json::object();
  for (const auto& [name, version] : versions_) versions[name] = version;
  std::ofstream stream(file);
  stream << Json{{"machine", machine_as_json()}, {"versions", versions}, {"results", results}}.dump(
                1)
         << '\n';
  if (!stream.flush()) throw std::runtime_error("cannot write " + file);
}

}  // namespace compare
