// SPDX-License-Identifier: MIT
#include "machine.hpp"

#include "roofline.hpp"

#include <algorithm>
#include <fstream>

namespace compare {
namespace {

std::string processor() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);)
    if (line.starts_with("model name")) return line.substr(line.find(':') + 2);
  return "unknown";
}

}  // namespace

Machine this_machine(int threads) {
#ifdef __clang__
  const char* compiler = __VERSION__;
#else
  const char* compiler = "GCC " __VERSION__;
#endif
  return {processor(), compiler, HEED_COMPARE_FLAGS, threads};
}

Limits& Limits::operator|=(const Limits& other) {
  peak = std::max(peak, other.peak);
  stream = std::max(stream, other.stream);
  return *this;
}

Limits limits(int threads) {
  return {roofline::multiply_add_peak<float>(threads), roofline::read_bandwidth(threads)};
}

}  // namespace compare
