// SPDX-License-Identifier: MIT
/// @file
/// JSON from untrusted files.
#pragma once

#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>
#include <string_view>

namespace lm {

using Json = nlohmann::json;

/// What is wrong with a text that should be JSON: "is no JSON", for a sentence that says what is.
struct JsonError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// Reads the whole text, in time that grows like n log n. Stricter than the parser beneath: no
/// object has a name twice, of which that would keep one, and no NUL ends the text, behind which
/// that would not look.
/// @param deepest  how many objects and arrays may lie within one another.
/// @throws JsonError
Json parse_json(std::string_view text, std::size_t deepest);

/// A string from a file, fit for a line of text: no control characters, not longer than a line.
std::string shown(std::string_view text);

}  // namespace lm
