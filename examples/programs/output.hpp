// SPDX-License-Identifier: MIT
/// @file
/// What a program prints arrives, or the program fails: a full disk and a closed pipe are
/// noticed only when the text leaves its buffer.
#pragma once

#include <cerrno>
#include <cstdio>
#include <iostream>
#include <stdexcept>
#include <string>
#include <system_error>

namespace programs {

namespace detail {

/// The reason that the system gave, if it gave one.
inline std::string lost_output(int error) {
  return "standard output cannot be written" +
         (error == 0 ? "" : ": " + std::generic_category().message(error));
}

}  // namespace detail

/// Sends off what was written so far, for programs that would otherwise go on for long, or that
/// leave files which may not appear when they fail.
/// @throws std::runtime_error if it, or anything before it, was lost.
inline void flush(std::ostream& out) {
  errno = 0;
  if (!out.flush()) throw std::runtime_error(detail::lost_output(errno));
}

/// What main returns: `code`, but 2 in place of 0, after a line on stderr, if anything printed, by
/// std::cout or by printf, was lost.
inline int ended(const char* name, int code) {
  if (code != 0) return code;
  errno = 0;
  const bool streamed = bool(std::cout.flush()),
             printed = std::fflush(stdout) == 0 && std::ferror(stdout) == 0;
  if (streamed && printed) return 0;
  std::cerr << name << ": " << detail::lost_output(errno) << std::endl;
  return 2;
}

}  // namespace programs
