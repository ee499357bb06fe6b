// SPDX-License-Identifier: MIT
/// @file What the library throws, always before a byte is written.
#pragma once

#include "heed/core/abi.hpp"

#include <stdexcept>

namespace heed::inline HEED_ABI {

/// Arguments whose shapes do not fit one another. The message names both and gives both shapes.
struct ShapeError : std::invalid_argument {
  using std::invalid_argument::invalid_argument;
};

/// A number outside its domain: a budget, a window, a head that does not exist.
struct ValueError : std::invalid_argument {
  using std::invalid_argument::invalid_argument;
};

}  // namespace heed::inline HEED_ABI
