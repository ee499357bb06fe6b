// SPDX-License-Identifier: MIT
// Writes a text of riddles for train and evaluate, see lm/tasks.hpp:
//
//     riddles assignment 3000000 > assignment.txt
#include "lm/config.hpp"
#include "lm/tasks.hpp"

#include <charconv>
#include <iostream>
#include <string_view>

int main(int argc, char** argv) {
  try {
    if (argc != 3) throw lm::ConfigError("a task and a number of bytes are wanted");
    const lm::Task task = lm::task_of(argv[1]);
    const std::string_view number = argv[2];
    std::size_t bytes = 0;
    if (const auto [end, error] = std::from_chars(number.begin(), number.end(), bytes);
        error != std::errc() || end != number.end() || bytes == 0)
      throw lm::ConfigError("'" + std::string(number) + "' is no number of bytes");
    std::mt19937_64 random(1);
    for (std::size_t written = 0; written < bytes;) {
      const std::string line = lm::riddle(task, random);
      std::cout << line;
      written += line.size();
    }
    return std::cout.flush() ? 0 : 2;
  } catch (const std::exception& error) {
    std::cerr << "riddles: " << error.what() << std::endl;
    return 2;
  }
}
