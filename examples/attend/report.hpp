// SPDX-License-Identifier: MIT
/// @file
/// What --stats prints.
#pragma once

#include "attend/run.hpp"

#include <iosfwd>

namespace attend {

/// Times, pairs, speed against the machine's own peak, which is measured here, and bytes.
template <class T>
void report(std::ostream& stream, const Request& request, const Result& result);

}  // namespace attend
