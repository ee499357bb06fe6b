// SPDX-License-Identifier: MIT
/// @file
/// heed itself.
#pragma once

#include "contender.hpp"

namespace compare {

/// Keys that selection has masked for good.
enum class Forgotten { left_out, computed };

/// @param forgotten  `computed` is a contender of its own, of the cases in which it matters.
std::unique_ptr<Contender> heed_contender(Forgotten forgotten, int threads);

/// The tokens that a KvBuffer holds after the first N tokens.
Held held_after(const Inputs& inputs);

}  // namespace compare
