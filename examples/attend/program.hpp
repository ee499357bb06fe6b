// SPDX-License-Identifier: MIT
/// @file
/// The program as a function, so that tests can call it.
#pragma once

#include <iosfwd>

namespace attend {

/// Serves a command line.
/// @return 0, or 2 after one line on `err` about what is wrong, and then no output file exists.
int program(int argc, const char* const* argv, std::ostream& out, std::ostream& err);

}  // namespace attend
