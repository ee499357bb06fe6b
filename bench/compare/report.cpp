// SPDX-License-Identifier: MIT
#include "report.hpp"

#include <cstdio>
#include <fstream>
#include <nlohmann/json.hpp>
#include <stdexcept>

namespace compare {

using Json = nlohmann::json;

namespace {

Json as_json(const Measured& measured, const Entry& entry) {
  const Case& c = measured.what;
  Json row{{"case", name(c.kind)},
           {"tokens", c.tokens},
           {"dim", c.dim},
           {"heads", c.heads},
           {"key_heads", c.key_heads},
           {"contender", entry.name},
           {"seconds", entry.timing.least},
           {"median_seconds", entry.timing.median},
           {"rounds", entry.timing.rounds},
           {"flop", c.flop()},
           {"limit", measured.limit()},
           {"limit_is", c.decodes() ? "bytes/s" : "FLOP/s"},
           {"share", measured.share(entry)},
           {"time_over_heed", measured.time_over_heed(entry)},
           {"difference", entry.difference}};
  if (c.decodes()) row["bytes"] = c.bytes();
  if (c.kind == Kind::forgetting) row["budget"] = c.budget;
  return row;
}

}  // namespace

Report::Report(const Machine& machine, const Contenders& contenders) : machine_(machine) {
  for (const auto& contender : contenders)
    versions_.emplace_back(contender->name(), contender->version());
}

void Report::print_head() const {
  std::printf("%s, %s %s, %d thread%s\n\n", machine_.processor.c_str(), machine_.compiler.c_str(),
              machine_.flags.c_str(), machine_.threads, machine_.threads == 1 ? "" : "s");
  for (const auto& [name, version] : versions_)
    std::printf("- %s: %s\n", name.c_str(), version.c_str());
  for (const std::string& name : absent()) std::printf("- %s: not found\n", name.c_str());
}

void Report::add(const Measured& measured) {
  const Case& what = measured.what;
  std::printf("\n**%s**\n\n", what.label().c_str());
  std::printf("| | ms, least | median | share of %.1f %s | time over heed | differs by |\n",
              measured.limit() * 1e-9, what.decodes() ? "GB/s" : "GFLOP/s");
  std::printf("|---|--:|--:|--:|--:|--:|\n");
  for (const Entry& entry : measured.entries)
    std::printf("| %s | %.3f | %.3f | %.0f %% | %.2f | %.0e |\n", entry.name.c_str(),
                entry.timing.least * 1e3, entry.timing.median * 1e3, 100 * measured.share(entry),
                measured.time_over_heed(entry), entry.difference);
  std::fflush(stdout);
  all_.push_back(measured);
}

void Report::write_json(const std::string& file) const {
  Json results = Json::array();
  for (const Measured& measured : all_)
    for (const Entry& entry : measured.entries) results.push_back(as_json(measured, entry));
  Json versions = Json::object();
  for (const auto& [name, version] : versions_) versions[name] = version;
  const Json machine{{"processor", machine_.processor},
                     {"compiler", machine_.compiler},
                     {"flags", machine_.flags},
                     {"threads", machine_.threads}};
  std::ofstream stream(file);
  stream << Json{{"machine", machine}, {"versions", versions}, {"results", results}}.dump(1)
         << '\n';
  if (!stream.flush()) throw std::runtime_error("cannot write " + file);
}

}  // namespace compare
