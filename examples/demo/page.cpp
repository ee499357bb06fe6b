// SPDX-License-Identifier: MIT
#include "demo/page.hpp"

#include "heed/version.hpp"
#include "programs/page_frame.hpp"

#include <algorithm>
#include <cmath>
#include <sstream>

namespace demo {
namespace {

/// The rows of the lower triangle, one after the other.
template <class Code>
void triangle(const float* map, Index tokens, const Code& code) {
  for (Index i = 0; i < tokens; ++i)
    for (Index j = 0; j <= i; ++j) code(map[i * tokens + j]);
}

/// A weight in a byte, c ↦ 2^(−c / 16): within 2.2 %. 255 is below 2^−15.9.
std::string encode_weights(const float* map, Index tokens) {
  std::vector<unsigned char> bytes;
  triangle(map, tokens, [&](float w) {
    const double code = w > 0 ? std::round(-16 * std::log2(double(w))) : 255;
    bytes.push_back(static_cast<unsigned char>(std::clamp(code, 0., 255.)));
  });
  return programs::base64(bytes);
}

/// F in two bytes, the lower first, c ↦ c / 64.
std::string encode_f(const float* map, Index tokens) {
  std::vector<unsigned char> bytes;
  triangle(map, tokens, [&](float f) {
    const auto code = unsigned(std::clamp(std::round(double(f) * 64), 0., 65535.));
    bytes.push_back(static_cast<unsigned char>(code & 255));
    bytes.push_back(static_cast<unsigned char>(code >> 8));
  });
  return programs::base64(bytes);
}

/// Words are letters, ', - and ^: nothing that JSON would have to escape.
std::string quoted(const std::string& text) {
  return "\"" + text + "\"";
}

template <class Range, class Show>
std::string list(const Range& range, const Show& show) {
  std::string text;
  for (const auto& x : range) text += (text.empty() ? "" : ",") + show(x);
  return "[" + text + "]";
}

std::string number(double x) {
  std::ostringstream stream;
  stream.precision(6);
  stream << x;
  return stream.str();
}

std::string json_of(const Run& run, Index tokens) {
  std::string text = "{\"name\":" + quoted(run.name) + ",\"id\":" + quoted(run.id) +
                     ",\"pairs\":" + std::to_string(run.pairs) + ",\"kept\":" + number(run.kept) +
                     ",\"bytes\":" + std::to_string(run.bytes) +
                     ",\"entropy\":" + list(run.entropy, number) +
                     ",\"recall\":" + number(run.recall) + ",\"seconds\":" + number(run.seconds);
  if (!run.id.empty()) {
    const Index map = tokens * tokens;
    std::vector<const float*> heads;
    for (Index at = 0; at < Index(run.weights.size()); at += map)
      heads.push_back(run.weights.data() + at);
    text += ",\"weights\":" +
            list(heads, [&](const float* head) { return quoted(encode_weights(head, tokens)); });
  }
  return text + "}";
}

std::string json_of(const Eviction& eviction) {
  return "{\"rule\":" + quoted(eviction.rule) + ",\"budget\":" + std::to_string(eviction.budget) +
         ",\"row\":" + list(eviction.row, [](std::int64_t row) { return std::to_string(row); }) +
         "}";
}

std::string json_of(const Text& text, const Runs& runs) {
  const Index tokens = text.size();
  const Mixture& mixture = runs.mixture;
  return "{\"version\":" +
         quoted(std::to_string(HEED_VERSION_MAJOR) + "." + std::to_string(HEED_VERSION_MINOR) +
                "." + std::to_string(HEED_VERSION_PATCH)) +
         ",\"pageTokens\":" + std::to_string(page_tokens) +
         ",\"words\":" + list(text.words(), [](const Word& word) { return quoted(word.text); }) +
         ",\"verses\":" + list(text.words(), [](const Word& word) { return quoted(word.verse); }) +
         ",\"f\":" + quoted(encode_f(runs.f.data(), tokens)) +
         ",\"memory\":" + list(runs.memory, number) +
         ",\"runs\":" + list(runs.runs, [&](const Run& run) { return json_of(run, tokens); }) +
         ",\"mixture\":{\"name\":" + quoted(mixture.name) +
         ",\"pairs\":" + std::to_string(mixture.pairs) + ",\"ofFull\":" + number(mixture.of_full) +
         ",\"formula\":" + number(mixture.formula) + ",\"seconds\":" + number(mixture.seconds) +
         "}" +
         ",\"evictions\":" + list(runs.evictions, [](const Eviction& e) { return json_of(e); }) +
         "}";
}

}  // namespace

void write_page(const std::filesystem::path& path, const std::filesystem::path& frame,
                const Text& text, const Runs& runs) {
  programs::write_framed(path, frame, json_of(text, runs));
}

}  // namespace demo
