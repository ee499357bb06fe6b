// SPDX-License-Identifier: MIT
/// @file
/// What the command lines of the programs here have in common: the kinds of option there are,
/// each checked as it is read, and how a program ends.
#pragma once

#include "programs/number.hpp"
#include "programs/output.hpp"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <exception>
#include <filesystem>
#include <iostream>
#include <new>
#include <sstream>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace programs {

/// A message on one line: CLI11's own have several.
inline std::string one_line(std::string text) {
  std::ranges::replace(text, '\n', ' ');
  std::ranges::replace(text, '\r', ' ');
  return text;
}

class CommandLine {
 public:
  CommandLine(const char* name, const char* says) : app_(says, name) {}

  CLI::App& app() { return app_; }
  /// The heading in the help of the options that follow.
  void group(const char* name) { app_.option_defaults()->group(name); }

  CLI::Option* flag(const char* name, bool& on, const char* says) {
    return app_.add_flag(name, on, says);
  }
  /// A path, or text of another kind.
  template <class Into>
  CLI::Option* text(const char* name, Into& into, const char* type, const char* says) {
    return app_.add_option(name, into, says)->type_name(type);
  }
  CLI::Option* file(const char* name, std::filesystem::path& path, const char* says) {
    return option(name, "FILE", says, [&path, name](const std::string& text) {
      if (text.empty()) throw UsageError(std::string(name) + " names no file");
      path = text;
    });
  }
  /// Several texts, with commas between them.
  CLI::Option* list(const char* name, std::vector<std::string>& into, const char* type,
                    const char* says) {
    return text(name, into, type, says)->delimiter(',');
  }

  /// A number from `range`; `into` is one, or an optional one.
  template <class Into, class T>
  CLI::Option* number(const char* name, Into& into, const char* letter, const Range<T>& range,
                      const char* says) {
    CLI::Option* const made = option(name, letter, says, [=, &into](const std::string& text) {
      into = programs::number<T>(name, text, range);
    });
    if constexpr (std::is_same_v<Into, T>) made->default_str(shown(into));
    return made;
  }
  /// Several numbers from `range`, with commas between them.
  template <class T>
  CLI::Option* numbers(const char* name, std::vector<T>& into, const char* letter,
                       const Range<T>& range, const char* says) {
    return option(name, letter, says, [=, &into](const std::string& text) {
      into.clear();
      for (std::size_t first = 0; first <= text.size();) {
        const std::size_t end = std::min(text.find(',', first), text.size());
        into.push_back(programs::number<T>(name, text.substr(first, end - first), range));
        first = end + 1;
      }
    });
  }
  /// One of several words.
  template <class Into, class Value>
  CLI::Option* choice(const char* name, Into& into, const char* words,
                      std::vector<std::pair<const char*, Value>> values, const char* says) {
    return option(name, words, says, [=, &into](const std::string& text) {
      for (const auto& [word, value] : values)
        if (text == word) {
          into = value;
          return;
        }
      throw UsageError(std::string(name) + " is '" + text + "', must be one of " + words);
    });
  }
  /// Anything that `take` makes of the text, or refuses by a UsageError.
  template <class Take>
  CLI::Option* option(const char* name, const char* type, const char* says, Take take) {
    return app_
        .add_option(
            name,
            [take](const CLI::results_t& texts) {
              take(texts.back());
              return true;
            },
            says)
        ->type_name(type);
  }

  /// Reads the command line and does what it asks.
  /// @return the program's exit code: 2 if anything is wrong, or what it prints cannot be written,
  ///     which stderr then says in one line.
  template <class Do>
  int run(int argc, const char* const* argv, Do&& what) {
    const std::string name = app_.get_name();
    const auto fail = [&](const std::string& reason) {
      std::cerr << name << ": " << one_line(reason) << std::endl;
      return 2;
    };
    try {
      app_.parse(argc, argv);
      what();
    } catch (const CLI::CallForHelp&) {
      std::cout << app_.help();
    } catch (const std::bad_alloc&) {
      return fail("there is not enough memory");
    } catch (const std::exception& error) {
      return fail(error.what());
    }
    return ended(name.c_str(), 0);
  }

 private:
  template <class T>
  static std::string shown(T value) {
    std::ostringstream text;
    text << value;
    return text.str();
  }

  CLI::App app_;
};

}  // namespace programs
