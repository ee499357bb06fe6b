// SPDX-License-Identifier: MIT
#include "programs/command_line.hpp"
#include "programs/number.hpp"

#include <gtest/gtest.h>

#include <functional>
#include <limits>

namespace programs {
namespace {

/// The reason for which a value is refused; empty if it is taken.
template <class T>
std::string refusal(const char* text, const Range<T>& range) {
  try {
    number<T>("--x", text, range);
  } catch (const UsageError& error) {
    return error.what();
  }
  return "";
}

TEST(ProgramsNumber, IsReadToItsLastDigit) {
  EXPECT_EQ(number("--x", "9007199254740993", Range<std::int64_t>{}), 9007199254740993);
  EXPECT_EQ(number("--x", "18446744073709551615", Range<std::uint64_t>{}),
            std::numeric_limits<std::uint64_t>::max());
  EXPECT_EQ(number("--x", "0.1", Range<double>{}), 0.1);
  EXPECT_EQ(number("--x", "-2.5e-3", Range<double>{}), -2.5e-3);
}

TEST(ProgramsNumber, IsRefusedByNameValueAndRule) {
  EXPECT_EQ(refusal("0", count(1, 9)), "--x is '0', must be a whole number from 1 to 9");
  EXPECT_EQ(refusal("10", count(1, 9)), "--x is '10', must be a whole number from 1 to 9");
  EXPECT_EQ(refusal("nan", from_zero), "--x is 'nan', must be a finite number from 0 to 1e+09");
  EXPECT_EQ(refusal("nan", Range<double>{}), "--x is 'nan', must be a finite number");
  EXPECT_EQ(refusal("0", Range<double>{.least = 0, .above = true}),
            "--x is '0', must be a finite number above 0");
  EXPECT_EQ(refusal("-1", Range<std::uint64_t>{}),
            "--x is '-1', must be a whole number from 0 to 18446744073709551615");
}

TEST(ProgramsNumber, TakesBothEndsOfItsRange) {
  EXPECT_EQ(refusal("1", count(1, 9)), "");
  EXPECT_EQ(refusal("9", count(1, 9)), "");
  EXPECT_EQ(refusal("0", from_zero), "");
  EXPECT_EQ(refusal("1e9", from_zero), "");
  EXPECT_EQ(refusal("5e-324", Range<double>{.least = 0, .above = true}), "");
}

TEST(ProgramsNumber, IsNeitherNaNNorInfiniteNorHalfANumber) {
  for (const char* text : {"nan", "-nan", "NAN", "nan(1)", "inf", "-inf", "infinity", "1e999",
                           "-1e999", "", " 1", "1 ", "1x", "0x10", "1,5", "--1"}) {
    EXPECT_NE(refusal(text, Range<double>{}), "") << text;
    EXPECT_NE(refusal(text, count(0)), "") << text;
    EXPECT_NE(refusal(text, Range<std::uint64_t>{}), "") << text;
  }
  for (const char* text : {"1.0", "1e3", "-1", "18446744073709551616", "99999999999999999999999"}) {
    EXPECT_NE(refusal(text, count(0)), "") << text;
    EXPECT_NE(refusal(text, Range<std::uint64_t>{}), "") << text;
  }
}

/// What a program with these options, and with these words after its name, ends with.
struct Ended {
  int code;
  std::string errors;
};
Ended ended_with(std::vector<const char*> words, const std::function<void(CommandLine&)>& declare) {
  CommandLine line("program", "A program.");
  declare(line);
  words.insert(words.begin(), "program");
  testing::internal::CaptureStderr();
  const int code = line.run(int(words.size()), words.data(), [] {});
  return {code, testing::internal::GetCapturedStderr()};
}

TEST(ProgramsCommandLine, RefusesANumberInOneLineWithExitCode2) {
  double temperature = 0.5;
  const auto declare = [&](CommandLine& line) {
    line.number("--temperature", temperature, "X", from_zero, "");
  };
  const Ended refused = ended_with({"--temperature", "nan"}, declare);
  EXPECT_EQ(refused.code, 2);
  EXPECT_EQ(refused.errors,
            "program: --temperature is 'nan', must be a finite number from 0 to 1e+09\n");
  EXPECT_EQ(temperature, 0.5);
  EXPECT_EQ(ended_with({"--temperature", "0.25"}, declare).code, 0);
  EXPECT_EQ(temperature, 0.25);
}

TEST(ProgramsCommandLine, RefusesAListForAnyOfItsNumbers) {
  std::vector<std::int64_t> layers{7};
  const auto declare = [&](CommandLine& line) {
    line.numbers("--layers", layers, "L,…", count(0, 9), "");
  };
  EXPECT_EQ(ended_with({"--layers", "3,1,4"}, declare).code, 0);
  EXPECT_EQ(layers, (std::vector<std::int64_t>{3, 1, 4}));
  for (const char* text : {"1,10", "1,-1", "1,,2", "1,", ",1", "", "1 2"})
    EXPECT_EQ(ended_with({"--layers", text}, declare).code, 2) << text;
}

TEST(ProgramsCommandLine, SaysWhatWentWrongWhileItRan) {
  CommandLine line("program", "A program.");
  const char* words[] = {"program"};
  testing::internal::CaptureStderr();
  EXPECT_EQ(line.run(1, words, [] { throw std::runtime_error("one\ntwo"); }), 2);
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "program: one two\n");
}

}  // namespace
}  // namespace programs
