// SPDX-License-Identifier: MIT
#include "lm/json.hpp"

#include <gtest/gtest.h>

#include <limits>

namespace lm {
namespace {

/// The message of the JsonError that reading this throws.
std::string json_refusal(std::string_view text, std::size_t deepest = 9) {
  try {
    parse_json(text, deepest);
  } catch (const JsonError& error) {
    return error.what();
  }
  return "read without complaint";
}

TEST(LmJson, ReadsValuesOfEveryKindWhereTheyStand) {
  const Json all = parse_json(
      R"( {"a": [1, -2, [], 3.5, {"b": [true, false]}, null], "c": {}, "d": {"a": "text \u00fc"},
          "e": 18446744073709551615, "": [[[4]], 5]} )",
      9);
  EXPECT_EQ(all.size(), 5u);
  EXPECT_EQ(all["a"].size(), 6u);
  EXPECT_EQ(all["a"][0], 1u);
  EXPECT_TRUE(all["a"][0].is_number_unsigned());
  EXPECT_EQ(all["a"][1], -2);
  EXPECT_FALSE(all["a"][1].is_number_unsigned());
  EXPECT_TRUE(all["a"][2].is_array());
  EXPECT_EQ(all["a"][3], 3.5);
  EXPECT_EQ(all["a"][4]["b"], Json::parse("[true, false]"));
  EXPECT_TRUE(all["a"][5].is_null());
  EXPECT_TRUE(all["c"].is_object());
  EXPECT_EQ(all["d"]["a"], "text ü");
  EXPECT_EQ(all["e"], std::numeric_limits<std::uint64_t>::max());
  EXPECT_EQ(all[""][0][0][0], 4);
  EXPECT_EQ(all[""][1], 5);
  EXPECT_EQ(parse_json("7", 0), 7);
}

TEST(LmJson, RefusesANameGivenTwiceInOneObject) {
  EXPECT_EQ(json_refusal(R"({"a":1,"b":2,"a":1})"), "has 'a' twice");
  EXPECT_EQ(json_refusal(R"({"a":1,"\u0061":2})"), "has 'a' twice");
  EXPECT_EQ(json_refusal(R"([{"x":{"a":{},"a":[]}}])"), "has 'a' twice");
  EXPECT_EQ(json_refusal(R"({"a":{"a":1},"b":{"a":1}})"), "read without complaint");
  EXPECT_EQ(json_refusal(R"({"\u001b[2J":1,"\u001b[2J":1})"), "has '?[2J' twice");
}

TEST(LmJson, RefusesWhatIsNestedTooDeep) {
  EXPECT_EQ(json_refusal("[{}]", 2), "read without complaint");
  EXPECT_EQ(json_refusal("[{}]", 1), "is nested too deep");
  EXPECT_EQ(json_refusal("[[],[],[]]", 2), "read without complaint");
  EXPECT_EQ(json_refusal(std::string(1'000'000, '['), 3), "is nested too deep");
}

TEST(LmJson, RefusesWhatIsNoJson) {
  using namespace std::string_view_literals;
  for (const std::string_view text :
       {""sv, "{"sv, "}"sv, "[1"sv, "{\"a\"}"sv, "{\"a\":1,}"sv, "1 2"sv, "nul"sv, "NaN"sv,
        "1e999"sv, "'a'"sv, "\"\xff\""sv, "{}\0"sv, "{}\0{}"sv, "\0{}"sv, "[1,\0 2]"sv, "\"\0\""sv,
        "\0"sv})
    EXPECT_EQ(json_refusal(text), "is no JSON") << text;
}

}  // namespace
}  // namespace lm
