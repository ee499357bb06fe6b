// SPDX-License-Identifier: MIT
/// @file
/// Riddles that isolate what a memory is for. Each is a line; the answer stands between > and
/// the end of the line:
///
///     assignment  c=3;a=7;c=1;c?>1         the last value counts, those before are to be forgotten
///     copying     kxqv>kxqv                all is to be kept, in order
///     parity      0110>0100                the answer so far and one bit are all that matters
///     needle      q=7;lorn mes ta …;q?>7   one thing is to be kept, long
#pragma once

#include <cstdint>
#include <random>
#include <span>
#include <string>
#include <vector>

namespace lm {

enum class Task { assignment, copying, parity, needle };

/// @throws ConfigError if it is none of them.
Task task_of(const std::string& name);

/// The line, its end included. The same on every machine.
std::string riddle(Task task, std::mt19937_64& random);

/// Where answers lie in a window: of lines that begin in it and end in it.
struct Answer {
  std::size_t first = 0, last = 0;  ///< the bytes of the answer, without the end of the line
};
std::vector<Answer> answers_in(std::span<const std::uint8_t> window);

}  // namespace lm
