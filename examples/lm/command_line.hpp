// SPDX-License-Identifier: MIT
/// @file What the command lines of the programs here have in common.
#pragma once

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdint>
#include <iostream>
#include <string>

namespace lm {

class CommandLine {
 public:
  CommandLine(const char* name, const char* says) : app_(says, name) {}

  CLI::App& app() { return app_; }

  CLI::Option* integer(const char* name, std::int64_t& into, std::int64_t least, const char* says) {
    constexpr std::int64_t most = std::int64_t(1) << 40;
    return app_.add_option(name, into, says)
        ->check(CLI::Range(least, most).description(""))
        ->type_name("N")
        ->capture_default_str();
  }
  /// From 0.
  CLI::Option* number(const char* name, double& into, const char* says) {
    return app_.add_option(name, into, says)
        ->check(CLI::Range(0., 1e9).description(""))
        ->type_name("X")
        ->capture_default_str();
  }
  /// A path, or text of another kind.
  template <class Into>
  CLI::Option* text(const char* name, Into& into, const char* type, const char* says) {
    return app_.add_option(name, into, says)->type_name(type);
  }

  /// Several, with commas between them.
  template <class Into>
  CLI::Option* list(const char* name, Into& into, const char* type, const char* says) {
    return text(name, into, type, says)->delimiter(',');
  }

  /// Reads the command line and does what it asks.
  /// @return the program's exit code: 2 if anything is wrong, which stderr then says in one line.
  template <class Do>
  int run(int argc, const char* const* argv, Do&& what) {
    try {
      app_.parse(argc, argv);
      what();
      return 0;
    } catch (const CLI::CallForHelp&) {
      std::cout << app_.help();
      return 0;
    } catch (const std::exception& error) {
      std::string line = error.what();
      std::ranges::replace(line, '\n', ' ');
      std::cerr << app_.get_name() << ": " << line << std::endl;
      return 2;
    }
  }

 private:
  CLI::App app_;
};

}  // namespace lm
