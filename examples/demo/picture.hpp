// SPDX-License-Identifier: MIT
/// @file
/// The maps as a PNG.
#pragma once

#include "demo/runs.hpp"

#include <filesystem>

namespace demo {

/// Writes the recalling head's attention, standard and selective, and F, beside each other.
/// @throws std::runtime_error if the file cannot be written.
void write_picture(const std::filesystem::path& path, const Text& text, const Runs& runs);

}  // namespace demo
