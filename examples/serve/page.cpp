// SPDX-License-Identifier: MIT
#include "serve/page.hpp"

#include "programs/page_frame.hpp"

#include <algorithm>
#include <nlohmann/json.hpp>

namespace serve {
namespace {

using Json = nlohmann::json;

/// Points that a curve of the page has at most.
constexpr std::int64_t curve_points = 300;

/// A run's course: means of equal stretches of steps. In steps that were none nothing was in
/// flight, and the prefix alone was held.
Json curves_of(const std::vector<Moment>& moments, std::int64_t prefix_pages) {
  const std::int64_t steps = moments.back().step + 1,
                     stretch = (steps + curve_points - 1) / curve_points;
  Json at = Json::array(), in_flight = at, waiting = at, pages = at;
  auto moment = moments.begin();
  for (std::int64_t first = 0; first < steps; first += stretch) {
    const std::int64_t last = std::min(first + stretch, steps);
    std::int64_t flying = 0, queued = 0, held = 0, count = 0;
    for (; moment != moments.end() && moment->step < last; ++moment, ++count)
      flying += moment->in_flight, queued += moment->waiting, held += moment->pages_held;
    held += (last - first - count) * prefix_pages;
    const auto mean = [&](std::int64_t sum) { return double(sum) / double(last - first); };
    at.push_back(double(first + last) / 2), in_flight.push_back(mean(flying));
    waiting.push_back(mean(queued)), pages.push_back(mean(held));
  }
  return {{"step", at}, {"inFlight", in_flight}, {"waiting", waiting}, {"pages", pages}};
}

Json json_of(const Quantiles& q) {
  return {{"median", q.median}, {"most", q.most}};
}

Json json_of(const Trial& t, const std::vector<Request>& requests, std::size_t shown) {
  const Summary& s = t.summary;
  Json waited = Json::array(), budgets = Json::array();
  for (const auto& budget : t.layers) budgets.push_back(budget ? Json(*budget) : Json());
  for (std::size_t id = 0; id < requests.size(); ++id)
    waited.push_back(*t.outcomes[id].admitted - requests[id].arrives);
  return {{"budgets", t.budgets},
          {"overbook", t.overbook},
          {"layerBudgets", budgets},
          {"loss", t.score.loss},
          {"steps", s.steps},
          {"seconds", s.seconds},
          {"tokensPerSecond", s.tokens_per_second},
          {"requestsPerSecond", s.requests_per_second},
          {"inFlight", s.in_flight},
          {"mostInFlight", s.most_in_flight},
          {"mostWaiting", s.most_waiting},
          {"stepsWaited", json_of(s.steps_waited)},
          {"secondsWaited", json_of(s.seconds_waited)},
          {"mostPages", s.most_pages},
          {"putBack", s.put_back},
          {"cancelled", s.cancelled},
          {"waited", waited},
          {"text", t.outcomes[shown].text},
          {"curves", curves_of(t.moments, t.moments.back().pages_held)}};
}

/// A request that came to its end, of a middling length.
std::size_t shown_of(const std::vector<Request>& requests) {
  std::vector<std::size_t> ids;
  for (std::size_t id = 0; id < requests.size(); ++id)
    if (!requests[id].leaves) ids.push_back(id);
  if (ids.empty()) return 0;
  std::ranges::nth_element(ids, ids.begin() + std::ptrdiff_t(ids.size() / 2), {},
                           [&](std::size_t id) { return requests[id].tokens; });
  return ids[ids.size() / 2];
}

}  // namespace

void write_page(const std::filesystem::path& path, const std::filesystem::path& frame,
                const Setting& setting, const std::vector<Trial>& trials) {
  const std::size_t shown = shown_of(setting.requests);
  const auto& prompt = setting.requests[shown].prompt;
  Json runs = Json::array();
  for (const Trial& trial : trials) runs.push_back(json_of(trial, setting.requests, shown));
  const Json json = {{"prefix", setting.prefix},
                     {"prefixTokens", setting.prefix.size()},
                     {"keyHeads", setting.key_heads},
                     {"evict", setting.evict},
                     {"rate", setting.rate},
                     {"poolBytes", setting.pool_bytes},
                     {"pageBytes", setting.page_bytes},
                     {"poolPages", setting.pool_pages},
                     {"pageTokens", setting.page_tokens},
                     {"requests", setting.requests.size()},
                     {"lastArrival", setting.requests.back().arrives},
                     {"prompt", std::string(prompt.begin(), prompt.end())},
                     {"trials", runs}};
  // A model may say anything: what is no UTF-8 becomes a sign for it, and no tag ends the script.
  std::string text = json.dump(-1, ' ', false, Json::error_handler_t::replace), data;
  for (const char c : text) data += c == '<' ? std::string("\\u003c") : std::string(1, c);
  programs::write_framed(path, frame, data);
}

}  // namespace serve
