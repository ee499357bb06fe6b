// SPDX-License-Identifier: MIT
#include "examples/attend_calls.hpp"
#include "reference/pruning.hpp"
#include "reference/selective.hpp"

#include <set>
#include <string>
#include <utility>
#include <vector>

namespace attend {
namespace {

using AttendSelectionTest = AttendCalls;

TEST_F(AttendSelectionTest, Selects) {
  const auto wanted = reference::selective_attention(q_, k_, v_);
  const Ran ran =
      run({"--causal", "--selective", "--mask-f", path("f"), "--carry-out", path("carry")});
  ASSERT_EQ(ran.code, 0) << ran.err;
  expect_near(load("out"), wanted.out, 5e-6);
  expect_near(load("f"), wanted.f, 5e-6);
  expect_near(load("carry"), wanted.carry_out, 5e-6);

  reference::Selection selection;
  selection.head = 2;
  ASSERT_EQ(run({"--causal", "--selective", "--select-head", "2"}).code, 0);
  expect_near(load("out"),
              reference::selective_attention(q_, k_, v_, seen(reference::causal()), selection).out,
              5e-6);
}

TEST_F(AttendSelectionTest, CarriesFFromOneCallToTheNext) {
  const auto wanted = reference::selective_attention(q_, k_, v_);
  const auto rows = [](const Array& x, std::ptrdiff_t from, std::ptrdiff_t to) {
    Array part({x.dim(0), x.dim(1), to - from, x.dim(3)});
    for (std::ptrdiff_t b = 0; b < x.dim(0); ++b)
      for (std::ptrdiff_t h = 0; h < x.dim(1); ++h)
        for (std::ptrdiff_t i = from; i < to; ++i)
          for (std::ptrdiff_t d = 0; d < x.dim(3); ++d) part(b, h, i - from, d) = x(b, h, i, d);
    return part;
  };
  const std::ptrdiff_t cut = 20;
  save("q", rows(q_, 0, cut)), save("k", rows(k_, 0, cut)), save("v", rows(v_, 0, cut));
  ASSERT_EQ(run({"--causal", "--selective", "--carry-out", path("carry")}).code, 0);
  expect_near(load("out"), rows(wanted.out, 0, cut), 5e-6);

  const Array before = load("carry");
  Array carry({batch, tokens});  // new keys enter with 0
  for (std::ptrdiff_t b = 0; b < batch; ++b)
    for (std::ptrdiff_t j = 0; j < cut; ++j) carry(b, j) = before(b, j);
  save("q", rows(q_, cut, tokens)), save("k", k_), save("v", v_);
  ASSERT_EQ(run({"--causal", "--selective", "--query-offset", "20", "--carry-in",
                 save("carry_in", carry), "--carry-out", path("carry")})
                .code,
            0);
  expect_near(load("out"), rows(wanted.out, cut, tokens), 5e-6);
  expect_near(load("carry"), wanted.carry_out, 5e-6);
}

TEST_F(AttendSelectionTest, PrunesTokenByTokenAndInChunks) {
  for (const auto& [word, evict] : std::vector<std::pair<std::string, reference::Evict>>{
           {"most_masked", reference::Evict::most_masked},
           {"oldest", reference::Evict::oldest},
           {"heavy_hitters", reference::Evict::least_attended}})
    for (const std::ptrdiff_t budget : {2, 7, 36, 37, 50}) {
      reference::Pruning pruning;
      pruning.budget = budget;
      pruning.evict = evict;
      if (evict == reference::Evict::least_attended) pruning.recent = budget / 2;
      const reference::Pruned wanted = reference::pruned_attention(q_, k_, v_, pruning);
      const Words options{
          "--causal", "--selective", "--budget",  std::to_string(budget), "--evict",
          word,       "--lse",       path("lse"), "--evict-row",          path("evict_row")};
      const auto check = [&](const Words& words) {
        SCOPED_TRACE(testing::PrintToString(words));
        const Ran ran = run(words);
        ASSERT_EQ(ran.code, 0) << ran.err;
        expect_near(load("out"), wanted.out, 5e-6);
        expect_near(load("lse"), wanted.lse, 5e-6);
        EXPECT_EQ(load("evict_row").values, wanted.evict_row.values);
      };
      check(options);
      if (evict == reference::Evict::least_attended) continue;
      for (const char* chunk : {"1", "5", "37", "100"}) {
        Words words = options;
        words.insert(words.end(), {"--chunk", chunk});
        check(words);
      }
    }
}

TEST_F(AttendSelectionTest, TakesTheShortNamesOfRulesToo) {
  for (const auto& [name, rule] : std::vector<std::pair<std::string, std::string>>{
           {"f", "most_masked"}, {"mass", "heavy_hitters"}, {"window", "oldest"}}) {
    const auto evictions = [&](const std::string& word) {
      const Ran ran = run({"--causal", "--selective", "--budget", "7", "--evict", word,
                           "--evict-row", path("evict_row")});
      EXPECT_EQ(ran.code, 0) << ran.err;
      return load("evict_row").values;
    };
    EXPECT_EQ(evictions(name), evictions(rule)) << name;
  }
}

/// Each rule of the library has its word, and evicts other tokens than the rest.
TEST_F(AttendSelectionTest, KnowsEveryRule) {
  std::set<std::vector<double>> different;
  for (const char* rule : {"most_masked", "heavy_hitters", "least_attended_last", "oldest",
                           "key_difference", "snap"}) {
    const Ran ran = run({"--causal", "--selective", "--budget", "9", "--evict", rule, "--evict-row",
                         path("evict_row")});
    ASSERT_EQ(ran.code, 0) << rule << ": " << ran.err;
    const reference::Array evict_row = load("evict_row");
    std::ptrdiff_t held = 0;
    for (std::ptrdiff_t j = 0; j < tokens; ++j) held += evict_row(0, j) == double(tokens);
    EXPECT_EQ(held, std::string(rule) == "snap" ? tokens : 9)
        << rule;  // it acts after the last row
    EXPECT_TRUE(different.insert(evict_row.values).second) << rule;
  }
}

TEST_F(AttendSelectionTest, PrunesWithTemperaturesAndTellsAllOfF) {
  reference::Rules rules = seen(reference::causal());
  rules.softcap = 2;
  rules.tau_q = random(10, {batch, heads, tokens});
  rules.tau_k = random(11, {batch, key_heads, tokens});
  rules.tau_v = random(12, {batch, 1, tokens});
  const auto wanted = reference::selective_attention(q_, k_, v_, rules);
  const Words options{"--causal",    "--selective",
                      "--softcap",   "2",
                      "--tau-q",     save("tau_q", rules.tau_q),
                      "--tau-k",     save("tau_k", rules.tau_k),
                      "--tau-v",     save("tau_v", rules.tau_v),
                      "--mask-f",    path("f"),
                      "--carry-out", path("carry"),
                      "--budget"};
  for (const char* budget : {"37", "6"}) {  // 37: no eviction
    Words words = options;
    words.push_back(budget);
    const Ran ran = run(words);
    ASSERT_EQ(ran.code, 0) << ran.err;
    if (words.back() == "37") expect_near(load("out"), wanted.out, 5e-6);
    expect_near(load("f"), wanted.f, 5e-6);
    expect_near(load("carry"), wanted.carry_out, 5e-6);
  }
}

}  // namespace
}  // namespace attend
