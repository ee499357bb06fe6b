// SPDX-License-Identifier: MIT
/// @file
/// Attention composed of matrix products and softmax, head by head, as a user of a matrix library
/// would write it.
#pragma once

#include "contender.hpp"
#include "steps.hpp"

namespace compare {

/// For `rows_at_once`: all.
inline constexpr Index whole = 0;

/// @param steps         the library's products and softmax.
/// @param rows_at_once  Rows whose scores are in memory at once. Fewer than all see no keys behind
///                      their last, which are then not computed.
std::unique_ptr<Contender> composition(std::unique_ptr<Steps> (&steps)(), Index rows_at_once);

}  // namespace compare
