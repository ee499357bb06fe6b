// SPDX-License-Identifier: MIT
#include "examples/attend_calls.hpp"

#include <algorithm>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

namespace attend {
namespace {

using AttendRefusalsTest = AttendCalls;

TEST_F(AttendRefusalsTest, RefusesWrongCommandLines) {
  for (const auto& [options, reason] : std::vector<std::pair<Words, std::string>>{
           {{"--block", "1000000000", "--previous-blocks", "1000001"},
            "--previous-blocks is '1000001', must be at most 1000000 where --block is 1000000000"},
           {{"--dtype", "f16"}, "--dtype is 'f16', must be one of f32|f64"},
           {{"--lse", ""}, "--lse names no file"},
           {{"--previous-blocks", "1"}, "--previous-blocks needs --block"},
           {{"--select-head", "1"}, "--select-head needs --selective"},
           {{"--mask-f", path("f")}, "--mask-f needs --selective"},
           {{"--carry-in", path("q")}, "--carry-in needs --selective"},
           {{"--carry-out", path("c")}, "--carry-out needs --selective"},
           {{"--grad-q", path("dq")}, "--grad-q needs --grad-out"},
           {{"--grad-out", path("q")}, "--grad-out needs a gradient to write, such as --grad-q"},
           {{"--grad-out", path("q"), "--grad-tau-k", path("d")}, "--grad-tau-k needs --tau-k"},
           {{"--grad-out", path("q"), "--grad-bias", path("d")}, "--grad-bias needs --bias"},
           {{"--causal", "--selective", "--grad-out", path("q"), "--grad-carry", path("d")},
            "--grad-carry needs --carry-in"},
           {{"--causal", "--selective", "--budget", "8", "--grad-out", path("q"), "--grad-q",
             path("d")},
            "--budget does not go with --grad-out"},
           {{"--causal", "--budget", "8"}, "--budget needs --causal and --selective"},
           {{"--selective", "--budget", "8"}, "--budget needs --causal and --selective"},
           {{"--causal", "--selective", "--chunk", "8"}, "--chunk needs --budget"},
           {{"--causal", "--selective", "--evict", "f"}, "--evict needs --budget"},
           {{"--causal", "--selective", "--evict-row", path("e")}, "--evict-row needs --budget"},
           {{"--causal", "--selective", "--budget", "8", "--evict", "luck"},
            "--evict is 'luck', must be one of "
            "most_masked|heavy_hitters|least_attended_last|oldest|key_difference|snap"},
           {{"--causal", "--selective", "--budget", "8", "--chunk", "4", "--evict",
             "heavy_hitters"},
            "--chunk does not go with --evict heavy_hitters, which is decided token by token"},
           {{"--causal", "--selective", "--budget", "8", "--window", "4"},
            "--budget does not go with --window"},
           {{"--causal", "--selective", "--budget", "8", "--mask", path("q")},
            "--budget does not go with --mask"},
       })
    expect_refusal(options, reason);
  // CLI11's own words, which differ from version to version.
  for (const auto& [options, mentions] :
       std::vector<std::pair<Words, std::string>>{{{"--speed"}, "--speed"},
                                                  {{"more"}, "more"},
                                                  {{"--scale"}, "--scale"},
                                                  {{"--block", "2", "--block", "3"}, "--block"}}) {
    const Ran ran = run(options);
    EXPECT_EQ(ran.code, 2);
    EXPECT_EQ(std::ranges::count(ran.err, '\n'), 1) << ran.err;
    EXPECT_NE(ran.err.find(mentions), std::string::npos) << ran.err;
    EXPECT_EQ(outputs(), Words());
  }
  const Ran ran = call({"attend", "--q", path("q")});
  EXPECT_EQ(ran.code, 2);
  EXPECT_EQ(std::ranges::count(ran.err, '\n'), 1) << ran.err;
}

/// Each option that takes a number, and what of numbers no option takes.
TEST_F(AttendRefusalsTest, RefusesNumbersThatAreNoneOrBeyondBounds) {
  const auto whole = [](const char* least, const char* last = "1000000000000000") {
    return std::string("a whole number from ") + least + " to " + last;
  };
  const std::string window = "L or L,R, tokens to the left and to the right: " +
                             whole("0").replace(0, 14, "whole numbers");
  struct Option {
    const char* name;
    std::string rule;
    Words refused;
  };
  const Words never{" 1",   "1 ",   "0x10",     "nan", "NaN",  "-nan", "inf",
                    "-inf", "fast", "infinity", "1e",  "1..2", "1e40", "1e999"};
  const Words fractions{"-1", "-0.5", "1.0", "2.5", "1e3", "+1"};
  const Words beyond{"1000000000000001",     "9223372036854775807",  "9223372036854775808",
                     "18446744073709551616", "-9223372036854775809", "99999999999999999999999"};
  const auto all_of = [&](Words more) {
    for (const Words* words : {&fractions, &beyond})
      more.insert(more.end(), words->begin(), words->end());
    return more;
  };
  for (const Option& option : std::vector<Option>{
           {"--scale", "a finite number from -1e+30 to 1e+30", {"1.1e30", "-1.1e30"}},
           {"--softcap",
            "a finite number from 1e-30 to 1e+30",
            {"0", "-0.0", "-1", "1e-31", "1e-400"}},
           {"--query-offset", whole("0"), all_of({})},
           {"--window", window, all_of({"3,", ",", ",3", "1,2,3", "1,-1", "1,nan", "-1,1"})},
           {"--window", window, {"1,9223372036854775808", "9223372036854775808,1"}},
           {"--block", whole("1"), all_of({"0"})},
           {"--previous-blocks", whole("0"), all_of({})},
           {"--prefix", whole("0"), all_of({})},
           {"--select-head", whole("0"), all_of({})},
           {"--budget", whole("2"), all_of({"0", "1"})},
           {"--chunk", whole("1"), all_of({"0"})},
           {"--threads", whole("1", "1024"), all_of({"0", "1025"})},
           {"--repeat", whole("1", "1000000"), all_of({"0", "1000001"})},
       })
    for (const Words* texts : {&never, &option.refused})
      for (const std::string& text : *texts)
        // In one word: CLI11 would take -1 for another option in its turn.
        expect_refusal({option.name + ("=" + text)},
                       option.name + (" is '" + text) + "', must be " + option.rule);
}

/// The largest numbers the options take do no harm.
TEST_F(AttendRefusalsTest, TakesTheLargestNumbers) {
  const std::string most = "1000000000000000";
  for (const Words& options : std::vector<Words>{{"--causal", "--query-offset", most},
                                                 {"--window", most + "," + most},
                                                 {"--block", most, "--previous-blocks", "1"},
                                                 {"--block", "1", "--previous-blocks", most},
                                                 {"--causal", "--prefix", most},
                                                 {"--scale=-1e30"},
                                                 {"--softcap", "1e30"}}) {
    const Ran ran = run(options);
    EXPECT_EQ(ran.code, 0) << ran.err;
    for (const double x : load("out").values) ASSERT_TRUE(std::isfinite(x)) << options[0];
  }
}

TEST_F(AttendRefusalsTest, RefusesFilesThatDoNotFit) {
  const std::string floats = save("floats", random(4, {tokens})),
                    flags = save<bool>("flags", Array({tokens}, 1)),
                    three = save("three", random(5, {batch, heads, tokens})),
                    five = save("five", random(6, {1, batch, heads, tokens, tokens})),
                    lengths = save<std::int64_t>("lengths", Array({batch}, 38));
  for (const auto& [options, reason] : std::vector<std::pair<Words, std::string>>{
           {{"--bias", path("absent")}, path("absent") + ": no such file"},
           {{"--mask", folder_.string()}, folder_.string() + ": it is not a regular file"},
           {{"--mask", floats}, floats + ": it holds float32, mask must be whole numbers or bool"},
           {{"--bias", flags}, flags + ": it holds bool, bias must be float16, float32 or float64"},
           {{"--bias", five}, five + ": bias is [1, 2, 4, 37, 37], must have at most 4 dimensions"},
           {{"--bias", three}, "bias is [1, 2, 4, 37], must be or broadcast to [2, 4, 37, 37]"},
           {{"--sinks", three}, three + ": sinks is [2, 4, 37], must have 1 dimension"},
           {{"--sinks", floats}, "sinks is [37], should be [4]: one logit per head"},
           {{"--tau-k", three},
            "key_temperature is [2, 4, 37], should be [2, 2, 37]: one per token, per head or "
            "shared "
            "by the heads"},
           {{"--lengths", lengths}, "lengths[0] is 38, must lie in 0 … 37, the number of keys"},
           {{"--causal", "--selective", "--carry-in", save("c", random(6, {batch, 5}))},
            "carry_in is [2, 5], should be [2, 37]: one number per key"},
           {{"--causal", "--selective", "--select-head", "4"},
            "selective: head 4 selects, there are 4"},
           {{"--causal", "--selective", "--budget", "9", "--tau-v", three},
            "tau-v is [2, 4, 37], should be [2, 2, 37]: one per token, per key head or shared by "
            "them"},
           {{"--grad-out", path("q"), "--grad-q", path("dq")},
            "grad_out is [2, 4, 37, 8], should be [2, 4, 37, 5]: the dimensions of out"},
           {{"--grad-out", three, "--grad-q", path("dq")},
            three + ": grad-out is [2, 4, 37], must have 4 dimensions"},
           {{"--lse", path("absent/lse")}, path("absent/lse") + ": its folder does not exist"},
           {{"--lse", "/dev/null"}, "/dev/null: it exists and is not a regular file"},
           {{"--lse", path("out")}, path("out") + ": two outputs go to this file"},
           {{"--lse", path("k")}, path("k") + ": it is an input as well as an output"},
       })
    expect_refusal(options, reason);

  std::filesystem::resize_file(path("v"), std::filesystem::file_size(path("v")) - 1);
  expect_refusal({}, path("v") +
                         ": it is truncated: its header says [2, 2, 37, 5] of float32, 2960 "
                         "bytes, and 2959 follow");
  save("v", random(4, {batch, heads, tokens}));
  expect_refusal({}, path("v") + ": v is [2, 4, 37], must have 4 dimensions");
  save("v", random(4, {batch, key_heads, tokens - 1, value_dim}));
  const Ran ran = run({});
  EXPECT_EQ(ran.code, 2);
  EXPECT_EQ(std::ranges::count(ran.err, '\n'), 1);
  EXPECT_NE(ran.err.find("[2, 2, 36, 5]"), std::string::npos) << ran.err;
  EXPECT_EQ(outputs(), Words());
}

}  // namespace
}  // namespace attend
