// SPDX-License-Identifier: MIT
#include "lm/tasks.hpp"

#include "lm/config.hpp"

#include <array>
#include <optional>

namespace lm {
namespace {

/// From 0 to count − 1. The standard's own distributions differ from library to library.
std::size_t draw(std::mt19937_64& random, std::size_t count) {
  return std::size_t(random() % count);
}
char letter(std::mt19937_64& random) {
  return char('a' + draw(random, 26));
}
char digit(std::mt19937_64& random) {
  return char('0' + draw(random, 10));
}

std::string assignment(std::mt19937_64& random) {
  constexpr std::size_t variables = 4;
  std::array<char, variables> values{};
  std::string line;
  std::size_t last = 0;
  for (std::size_t n = 4 + draw(random, 21); n > 0; --n) {
    last = draw(random, variables);
    values[last] = digit(random);
    line += std::string{char('a' + last), '=', values[last], ';'};
  }
  std::size_t asked = draw(random, variables);
  if (values[asked] == 0) asked = last;
  return line + char('a' + asked) + "?>" + values[asked];
}

std::string copying(std::mt19937_64& random) {
  std::string word;
  for (std::size_t n = 4 + draw(random, 29); n > 0; --n) word += letter(random);
  return word + ">" + word;
}

std::string parity(std::mt19937_64& random) {
  std::string bits, sums;
  bool odd = false;
  for (std::size_t n = 4 + draw(random, 29); n > 0; --n) {
    const bool bit = draw(random, 2) == 1;
    odd ^= bit;
    bits += bit ? '1' : '0';
    sums += odd ? '1' : '0';
  }
  return bits + ">" + sums;
}

std::string needle(std::mt19937_64& random) {
  const char name = letter(random), value = digit(random);
  std::string line{name, '=', value, ';'};
  for (std::size_t n = 10 + draw(random, 41); n > 0; --n) {
    for (std::size_t letters = 2 + draw(random, 5); letters > 0; --letters) line += letter(random);
    line += n > 1 ? ' ' : ';';
  }
  return line + name + "?>" + value;
}

}  // namespace

Task task_of(const std::string& name) {
  constexpr std::array names{"assignment", "copying", "parity", "needle"};
  for (std::size_t i = 0; i < names.size(); ++i)
    if (name == names[i]) return Task(i);
  throw ConfigError("the task is '" + name + "', must be assignment, copying, parity or needle");
}

std::string riddle(Task task, std::mt19937_64& random) {
  switch (task) {
    case Task::assignment:
      return assignment(random) + "\n";
    case Task::copying:
      return copying(random) + "\n";
    case Task::parity:
      return parity(random) + "\n";
    case Task::needle:
      break;
  }
  return needle(random) + "\n";
}

std::vector<Answer> answers_in(std::span<const std::uint8_t> window) {
  std::vector<Answer> answers;
  bool whole = false;  // did the line begin here?
  std::optional<std::size_t> first;
  for (std::size_t i = 0; i < window.size(); ++i) {
    if (window[i] == '\n') {
      if (whole && first && *first < i) answers.push_back({*first, i});
      whole = true, first.reset();
    } else if (window[i] == '>' && !first) {
      first = i + 1;
    }
  }
  return answers;
}

}  // namespace lm
