// SPDX-License-Identifier: MIT
/// @file
/// The words of a text, and of its tensors.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace demo {

/// A word in lower case, and where it stands: chapter:verse.
struct Word {
  std::string text;
  std::string verse;
};

/// What stands at position 0, before the first word.
inline const std::string beginning = "^";

/// The words of a text of lines "1:1 In the beginning …": letters, with ' and - inside a word.
/// @throws std::runtime_error naming the file.
std::vector<Word> read_text(const std::filesystem::path& path);

/// Tokens as make_text_tensors writes them: a line each, the word, a tab, its verse.
/// @throws std::runtime_error naming the file.
std::vector<Word> read_tokens(const std::filesystem::path& path);

}  // namespace demo
