// SPDX-License-Identifier: MIT
#include "examples/attend_calls.hpp"

#include <filesystem>
#include <string>
#include <vector>

namespace attend {
namespace {

using AttendTest = AttendCalls;

TEST_F(AttendTest, ComputesInTheTypeAskedFor) {
  const auto wanted = reference::attention(q_, k_, v_).out;
  ASSERT_EQ(run({"--dtype", "f64"}).code, 0);
  EXPECT_EQ(npy::read(path("out")).type, npy::Type::float64);
  expect_near(load("out"), wanted, 1e-12);
  save<double>("k", k_);
  std::filesystem::remove(path("out"));
  expect_refusal({}, path("k") + ": it holds float64, q float32; --dtype says which to compute in");
  ASSERT_EQ(run({"--dtype", "f32"}).code, 0);
  EXPECT_EQ(npy::read(path("out")).type, npy::Type::float32);
  expect_near(load("out"), wanted, 5e-6);
  save<double>("q", q_), save<double>("v", v_);
  ASSERT_EQ(run({}).code, 0);
  EXPECT_EQ(npy::read(path("out")).type, npy::Type::float64);
}

TEST_F(AttendTest, GivesTheSameWithThreads) {
  for (const Words& options : {Words{"--causal"}, Words{"--causal", "--selective"},
                               Words{"--causal", "--selective", "--budget", "9"}}) {
    ASSERT_EQ(run(options).code, 0);
    const Array alone = load("out");
    Words words = options;
    words.insert(words.end(), {"--threads", "3"});
    ASSERT_EQ(run(words).code, 0);
    EXPECT_EQ(load("out").values, alone.values);
  }
}

TEST_F(AttendTest, PrintsStatisticsWhenAsked) {
  const Ran ran = run({"--causal", "--selective", "--budget", "9", "--repeat", "3", "--stats"});
  ASSERT_EQ(ran.code, 0);
  for (const char* word : {"time ", "median of 3", "pairs ", "GFLOP/s", "% of", "buffer  9 of 37"})
    EXPECT_NE(ran.out.find(word), std::string::npos) << word << " in\n" << ran.out;
}

TEST_F(AttendTest, ExplainsItself) {
  const Ran ran = call({"attend", "--help"});
  EXPECT_EQ(ran.code, 0);
  EXPECT_EQ(ran.err, "");
  for (const char* option : {"--q",
                             "--k",
                             "--v",
                             "--out",
                             "--lse",
                             "--causal",
                             "--query-offset",
                             "--window",
                             "--block",
                             "--previous-blocks",
                             "--selective",
                             "--select-head",
                             "--tau-q",
                             "--tau-k",
                             "--tau-v",
                             "--softcap",
                             "--scale",
                             "--bias",
                             "--mask",
                             "--lengths",
                             "--prefix",
                             "--sinks",
                             "--alibi",
                             "--carry-in",
                             "--carry-out",
                             "--budget",
                             "--chunk",
                             "--evict",
                             "--evict-row",
                             "--mask-f",
                             "--grad-out",
                             "--grad-q",
                             "--grad-k",
                             "--grad-v",
                             "--grad-tau-q",
                             "--grad-tau-k",
                             "--grad-tau-v",
                             "--grad-bias",
                             "--grad-carry",
                             "--dtype",
                             "--threads",
                             "--repeat",
                             "--stats"})
    EXPECT_NE(ran.out.find(std::string("  ") + option + " "), std::string::npos) << option;
}

TEST_F(AttendTest, ServesEmptyTensors) {
  save("q", Array({batch, heads, 0, dim})), save("k", Array({batch, key_heads, 0, dim}));
  save("v", Array({batch, key_heads, 0, value_dim}));
  for (const Words& options : {Words{}, Words{"--causal", "--selective", "--stats"},
                               Words{"--causal", "--selective", "--budget", "4"}}) {
    const Ran ran = run(options);
    ASSERT_EQ(ran.code, 0) << ran.err;
    EXPECT_EQ(npy::read(path("out")).shape,
              (std::vector<std::int64_t>{batch, heads, 0, value_dim}));
  }
}

}  // namespace
}  // namespace attend
