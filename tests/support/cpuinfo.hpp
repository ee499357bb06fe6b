// SPDX-License-Identifier: MIT
/// @file
/// What Linux says of the first processor: another way to know it than cpuid.
#pragma once

#include <fstream>
#include <sstream>
#include <string>

namespace heed::test {

/// Is this word in the line of that name? No, where the processor has no such line.
inline bool cpuinfo_says(const std::string& name, const std::string& word) {
  std::ifstream info("/proc/cpuinfo");
  for (std::string line; std::getline(info, line);) {
    if (line.rfind(name, 0) != 0) continue;
    std::istringstream words(line.substr(line.find(':') + 1));
    for (std::string one; words >> one;)
      if (one == word) return true;
    return false;
  }
  return false;
}

}  // namespace heed::test
