// SPDX-License-Identifier: MIT
/// @file
/// The maps as a page that needs nothing but a browser.
#pragma once

#include "demo/runs.hpp"

#include <filesystem>

namespace demo {

/// Writes one HTML file: the frame (page.html) with what was computed put into it.
/// @throws std::runtime_error naming the file that cannot be read or written.
void write_page(const std::filesystem::path& path, const std::filesystem::path& frame,
                const Text& text, const Runs& runs);

}  // namespace demo
