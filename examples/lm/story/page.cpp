// SPDX-License-Identifier: MIT
#include "lm/story/page.hpp"

#include "programs/page_frame.hpp"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

namespace lm {
namespace {

using Json = nlohmann::json;

/// The rows of the lower triangle, each number in a byte.
template <class Code>
std::string triangle(const std::vector<float>& map, std::size_t tokens, const Code& code) {
  std::vector<unsigned char> bytes;
  for (std::size_t i = 0; i < tokens; ++i)
    for (std::size_t j = 0; j <= i; ++j)
      bytes.push_back(static_cast<unsigned char>(
          std::clamp(std::round(code(double(map[i * tokens + j]))), 0., 255.)));
  return programs::base64(bytes);
}

/// c ↦ 2^(−c / 16), within 2.2 %; 255 is next to nothing.
double weight_code(double w) {
  return w > 0 ? -16 * std::log2(w) : 255;
}
/// c ↦ 2^(c / 16) − 1: F up to 60 000.
double f_code(double f) {
  return 16 * std::log2(1 + std::max(f, 0.));
}

/// JSON wants UTF-8, and a model may say anything: one code a byte.
Json codes(const std::string& text) {
  Json list = Json::array();
  for (const char c : text) list.push_back(int(static_cast<unsigned char>(c)));
  return list;
}

Json json_of(const Continuation& c) {
  return {{"text", codes(c.text)},
          {"kept", c.kept},
          {"bytes", c.bytes},
          {"speed", std::round(c.tokens_per_second)}};
}

Json json_of(const Reading& r) {
  Json f = Json::array(), weights = Json::array();
  for (const auto& layer : r.f) f.push_back(triangle(layer, r.text.size(), f_code));
  for (const auto& layer : r.weights) {
    Json heads = Json::array();
    for (const auto& head : layer) heads.push_back(triangle(head, r.text.size(), weight_code));
    weights.push_back(std::move(heads));
  }
  return {{"text", r.text},          {"bits", r.bits}, {"bitsPruned", r.bits_pruned},
          {"evictRow", r.evict_row}, {"f", f},         {"weights", weights}};
}

Json json_of(const Story& s) {
  Json curves = Json::array();
  for (const Curve& c : s.curves) {
    Json points = Json::array();
    for (const Curve::Point& p : c.points) points.push_back({p.budget, p.loss, p.bytes});
    curves.push_back(
        {{"model", c.model}, {"rule", c.rule}, {"unpruned", c.unpruned}, {"points", points}});
  }
  return {{"context", s.context},          {"budget", s.budget},
          {"page", page_tokens},           {"prompt", codes(s.prompt)},
          {"whole", json_of(s.whole)},     {"pruned", json_of(s.pruned)},
          {"loss", s.score_whole.loss},    {"lossPruned", s.score_pruned.loss},
          {"reading", json_of(s.reading)}, {"curves", curves}};
}

}  // namespace

void write_page(const std::filesystem::path& path, const std::filesystem::path& frame,
                const Story& story) {
  programs::write_framed(path, frame, json_of(story).dump());
}

}  // namespace lm
