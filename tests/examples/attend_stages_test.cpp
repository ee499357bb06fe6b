// SPDX-License-Identifier: MIT
#include "examples/attend_calls.hpp"

#include <cmath>
#include <string>
#include <utility>
#include <vector>

namespace attend {
namespace {

using AttendStagesTest = AttendCalls;

TEST_F(AttendStagesTest, AttendsToEverythingUnlessTold) {
  expect_attention({}, {});
}

TEST_F(AttendStagesTest, MasksAsTheOptionsSay) {
  using namespace reference;
  expect_attention({"--causal"}, seen(causal()));
  expect_attention({"--window", "5"}, seen(window(5, 5)));
  expect_attention({"--window", "5,2"}, seen(window(5, 2)));
  expect_attention({"--causal", "--window", "5"}, seen(causal() && window(5, 0)));
  expect_attention({"--causal", "--window", "5,2"}, seen(causal() && window(5, 2)));
  expect_attention({"--causal", "--block", "6"}, seen(causal() && block_span(6)));
  expect_attention({"--causal", "--block", "6", "--previous-blocks", "2"},
                   seen(causal() && block_span(6, 2)));
  expect_attention({"--prefix", "9"}, seen(prefix_lm({9, 9})));
  expect_attention({"--causal", "--prefix", "9"}, seen(prefix_lm({9, 9})));
}

TEST_F(AttendStagesTest, HidesPadding) {
  using namespace reference;
  const Array lengths = [] {
    Array x({batch});
    x(0) = 20, x(1) = 37;
    return x;
  }();
  const std::string file = save<std::int64_t>("lengths", lengths);
  expect_attention({"--lengths", file}, seen(key_lengths({20, 37})));
  expect_attention({"--causal", "--lengths", file},
                   seen(causal() && key_lengths({20, 37}) && row_lengths({20, 37})));
}

TEST_F(AttendStagesTest, ReadsMasksOfThreeTypesAndBroadcastsThem) {
  Array mask({1, heads, tokens, tokens});
  heed::test::Random numbers(7);
  for (double& x : mask.values) x = numbers.uniform() < 0.5;
  for (std::ptrdiff_t h = 0; h < heads; ++h)
    for (std::ptrdiff_t j = 0; j < tokens; ++j) mask(0, h, 3, j) = 0;  // a row that sees nothing
  expect_attention({"--mask", save<bool>("m1", mask)}, seen(reference::boolean_mask(mask)));
  expect_attention({"--mask", save<std::uint8_t>("m2", mask)}, seen(reference::boolean_mask(mask)));
  expect_attention({"--mask", save<std::int64_t>("m3", mask)}, seen(reference::boolean_mask(mask)));
  Array keys({1, 1, 1, tokens});
  for (std::ptrdiff_t j = 0; j < tokens; ++j) keys(0, 0, 0, j) = j % 3 != 0;
  Array flat({tokens});
  flat.values = keys.values;
  expect_attention({"--mask", save<bool>("m4", flat)}, seen(reference::boolean_mask(keys)));
}

TEST_F(AttendStagesTest, ChangesScoresAsTheOptionsSay) {
  reference::Rules rules = seen(reference::causal());
  rules.scale = 0.3;
  expect_attention({"--causal", "--scale", "0.3"}, rules);
  rules.softcap = 1.5;
  expect_attention({"--causal", "--scale", "0.3", "--softcap", "1.5"}, rules);
  rules.bias = random(8, {1, heads, tokens, tokens});
  rules.slopes = Array({heads});
  for (std::ptrdiff_t h = 0; h < heads; ++h) rules.slopes(h) = std::exp2(-2. * double(h + 1));
  rules.sinks = random(9, {heads});
  rules.tau_q = random(10, {batch, heads, tokens});
  rules.tau_k = random(11, {batch, key_heads, tokens});
  rules.tau_v = random(12, {batch, 1, tokens});
  expect_attention(
      {"--causal", "--scale", "0.3", "--softcap", "1.5", "--bias", save("bias", rules.bias),
       "--alibi", "--sinks", save("sinks", rules.sinks), "--tau-q", save("tau_q", rules.tau_q),
       "--tau-k", save("tau_k", rules.tau_k), "--tau-v", save("tau_v", rules.tau_v)},
      rules);
}

TEST_F(AttendStagesTest, CountsPositionsFromTheQueryOffset) {
  const std::ptrdiff_t offset = 20, rows = tokens - offset;
  Array q({batch, heads, rows, dim});
  for (std::ptrdiff_t b = 0; b < batch; ++b)
    for (std::ptrdiff_t h = 0; h < heads; ++h)
      for (std::ptrdiff_t i = 0; i < rows; ++i)
        for (std::ptrdiff_t d = 0; d < dim; ++d) q(b, h, i, d) = q_(b, h, offset + i, d);
  q_ = q;
  save("q", q);
  expect_refusal({"--causal"},
                 "--causal: q has 17 rows, k has 37; say where they sit: --query-offset N");
  expect_refusal({"--prefix", "3"},
                 "--prefix: q has 17 rows, k has 37; say where they sit: --query-offset N");
  using namespace reference;
  for (const auto& [options, visible] : std::vector<std::pair<Words, Visible>>{
           {{"--causal"}, causal()},
           {{"--causal", "--window", "7"}, causal() && window(7, 0)},
           {{"--window", "3"}, window(3, 3)},
           {{"--causal", "--block", "6"}, causal() && block_span(6)},
           {{"--prefix", "30"}, prefix_lm({30, 30})},
       }) {
    Rules rules = seen(visible);
    rules.offset = offset;
    rules.slopes = Array({heads});
    for (std::ptrdiff_t h = 0; h < heads; ++h) rules.slopes(h) = std::exp2(-2. * double(h + 1));
    Words words = options;
    words.insert(words.end(), {"--alibi", "--query-offset", "20"});
    expect_attention(words, rules);
  }
}

}  // namespace
}  // namespace attend
