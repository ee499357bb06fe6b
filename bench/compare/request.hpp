// SPDX-License-Identifier: MIT
/// @file
/// What the command line asks for.
#pragma once

#include "case.hpp"
#include "timing.hpp"

#include <optional>
#include <vector>

namespace compare {

struct Request {
  std::vector<Case> cases;
  Patience patience;
  int threads = 1;
  std::string only;  ///< contenders whose name has this in it, and heed
  std::string json;  ///< the file to write; empty: none
};

/// @return nothing after --help.
/// @throws std::exception whose text says what is wrong.
std::optional<Request> request(int argc, const char* const* argv);

}  // namespace compare
