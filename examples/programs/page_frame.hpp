// SPDX-License-Identifier: MIT
/// @file
/// A page of HTML and the data that take their place in it.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace programs {

std::string base64(const std::vector<unsigned char>& bytes);

/// Writes the head that all pages share (page_head.html: looks, and the script's $ and make), and
/// `frame`, with these data, JSON, in place of its /*data*/ null.
/// @throws std::runtime_error
void write_framed(const std::filesystem::path& path, const std::filesystem::path& frame,
                  const std::string& data);

}  // namespace programs
