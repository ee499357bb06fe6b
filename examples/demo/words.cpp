// SPDX-License-Identifier: MIT
#include "demo/words.hpp"

#include <fstream>
#include <stdexcept>
#include <utility>

namespace demo {
namespace {

// The text is ASCII; <cctype> would ask the locale.
bool is_letter(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}
char lower(char c) {
  return c >= 'A' && c <= 'Z' ? char(c - 'A' + 'a') : c;
}

std::ifstream open(const std::filesystem::path& path) {
  std::ifstream stream(path);
  if (!stream) throw std::runtime_error(path.string() + ": cannot be opened");
  return stream;
}

}  // namespace

std::vector<Word> read_text(const std::filesystem::path& path) {
  std::ifstream stream = open(path);
  std::vector<Word> words;
  for (std::string line; std::getline(stream, line);) {
    const std::size_t end_of_verse = line.find(' ');
    if (end_of_verse == std::string::npos) continue;
    const std::string verse = line.substr(0, end_of_verse);
    std::string word;
    for (std::size_t i = end_of_verse; i <= line.size(); ++i) {
      const char c = i < line.size() ? line[i] : ' ';
      if (is_letter(c) || (!word.empty() && (c == '\'' || c == '-')))
        word += lower(c);
      else if (!word.empty())
        words.push_back({std::exchange(word, {}), verse});
    }
  }
  if (words.empty()) throw std::runtime_error(path.string() + ": holds no words");
  return words;
}

std::vector<Word> read_tokens(const std::filesystem::path& path) {
  std::ifstream stream = open(path);
  std::vector<Word> tokens;
  for (std::string line; std::getline(stream, line);) {
    const std::size_t tab = line.find('\t');
    if (tab == std::string::npos)
      throw std::runtime_error(path.string() + ": line " + std::to_string(tokens.size() + 1) +
                               " is not a word, a tab and a verse");
    tokens.push_back({line.substr(0, tab), line.substr(tab + 1)});
  }
  return tokens;
}

}  // namespace demo
