// SPDX-License-Identifier: MIT
/// @file
/// What is asked of the server, and when.
#pragma once

#include "lm/text.hpp"

#include <cstdint>
#include <optional>
#include <vector>

namespace serve {

struct Request {
  std::int64_t arrives = 0;            ///< before this step of the model
  std::vector<std::uint8_t> prompt;    ///< what follows the prefix that all have in common
  std::int64_t tokens = 0;             ///< to generate
  std::optional<std::int64_t> leaves;  ///< cancelled once it has so many of them
};

/// Numbers of least and most, both included.
struct Between {
  std::int64_t least, most;
};

struct Traffic {
  std::int64_t requests = 300;
  double rate = 0.3;  ///< requests that arrive in a step, on average
  Between prompt{16, 96}, tokens{64, 288};
  double cancelled = 0.1;  ///< share of the requests
  std::uint64_t seed = 1;
};

/// Requests in order of arrival, a Poisson process in units of steps; prompts are passages of the
/// text. The same on every machine for a seed.
/// @throws lm::ConfigError if the text is shorter than a prompt may be.
std::vector<Request> requests_of(lm::Bytes text, const Traffic& traffic);

}  // namespace serve
