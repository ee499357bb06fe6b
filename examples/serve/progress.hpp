// SPDX-License-Identifier: MIT
/// @file
/// A line that tells how far a run is.
#pragma once

#include <chrono>
#include <cstdio>
#include <string>
#include <unistd.h>

namespace serve {

/// On a terminal one line, written anew four times a second; elsewhere a line every two seconds.
/// It goes to stderr, so that stdout holds results alone.
class Progress {
 public:
  ~Progress() { clear(); }

  /// Is it time for a line?
  bool due() const { return Clock::now() >= next_; }
  void show(const std::string& line) {
    next_ = Clock::now() + (terminal_ ? std::chrono::milliseconds(250) : std::chrono::seconds(2));
    std::fprintf(stderr, terminal_ ? "\r\033[K%s" : "%s\n", line.c_str());
    std::fflush(stderr);
    shown_ = terminal_;
  }
  /// Takes the line off a terminal.
  void clear() {
    if (shown_) std::fputs("\r\033[K", stderr);
    shown_ = false;
  }

 private:
  using Clock = std::chrono::steady_clock;

  bool terminal_ = isatty(STDERR_FILENO) == 1, shown_ = false;
  Clock::time_point next_ = Clock::now();
};

}  // namespace serve
