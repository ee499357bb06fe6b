// SPDX-License-Identifier: MIT
// Writes a text of riddles for train and evaluate, see lm/tasks.hpp:
//
//     riddles assignment 3000000 > assignment.txt
#include "lm/tasks.hpp"
#include "programs/command_line.hpp"

int main(int argc, char** argv) {
  std::string task;
  std::int64_t bytes = 0;
  programs::CommandLine line("riddles", "Writes a text of riddles to stdout.");
  line.text("task", task, "TASK", "assignment, copying, parity or needle")->required();
  line.number("bytes", bytes, "N", programs::count(1), "Its length, the last line whole")
      ->required();
  return line.run(argc, argv, [&] {
    const lm::Task chosen = lm::task_of(task);
    std::mt19937_64 random(1);
    for (std::int64_t written = 0; written < bytes;) {
      const std::string riddle = lm::riddle(chosen, random);
      if (!(std::cout << riddle)) break;  // which the end of run() reports
      written += std::int64_t(riddle.size());
    }
  });
}
