// SPDX-License-Identifier: MIT
#include "request.hpp"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <iostream>
#include <stdexcept>

namespace compare {
namespace {

/// The words of the command line.
struct Words {
  std::vector<std::string> kinds{kind_names.begin(), kind_names.end()};
  std::vector<Index> tokens{512, 1024, 2048, 4096}, dims{64, 128}, training_dims{64},
      decode_tokens{512, 1024, 2048, 4096, 8192}, key_heads{32, 8};
  Index decode_dim = 128, decode_heads = 32, budget = 512;

  std::vector<Case> cases() const;
};

/// A case as it is asked for of every number of tokens.
void each(const std::vector<Index>& tokens, Case what, std::vector<Case>& all) {
  for (const Index n : tokens) {
    what.tokens = n;
    if (n >= what.budget) all.push_back(what);
  }
}

std::vector<Case> Words::cases() const {
  std::vector<Case> all;
  for (const std::string& word : kinds) {
    const auto at = std::ranges::find(kind_names, word);
    Case what{.kind = Kind(at - kind_names.begin())};
    if (what.kind == Kind::forgetting) {
      what.budget = budget;
      each(decode_tokens, what, all);
    } else if (what.kind == Kind::decode) {
      what.dim = decode_dim, what.heads = decode_heads;
      for (const Index shared : key_heads) {
        if (decode_heads % shared != 0)
          throw std::runtime_error("--key-heads: query heads are no multiple of them");
        what.key_heads = shared;
        each(decode_tokens, what, all);
      }
    } else {
      for (const Index dim : what.trains() ? training_dims : dims) {
        what.dim = dim;
        each(tokens, what, all);
      }
    }
  }
  return all;
}

}  // namespace

std::optional<Request> request(int argc, const char* const* argv) {
  Request asked;
  Words words;
  CLI::App app("heed beside other ways to compute attention, by turns, float, batch 1", "compare");
  const auto option = [&](const char* name, auto& into, const char* type, const char* says) {
    return app.add_option(name, into, says)->delimiter(',')->type_name(type)->capture_default_str();
  };
  const auto counts = [&](const char* name, auto& into, const char* says) {
    constexpr Index most = Index(1) << 40;
    option(name, into, "N", says)->check(CLI::Range(Index(1), most).description(""));
  };
  option("--cases", words.kinds, "NAME", "What to compare, of these")
      ->check(CLI::IsMember(words.kinds).description(""));
  counts("--tokens", words.tokens, "Lengths of the text, but for decoding");
  counts("--dims", words.dims, "Sizes of a head, forward; eight heads");
  counts("--training-dims", words.training_dims, "Sizes of a head, forward and backward");
  counts("--decode-tokens", words.decode_tokens,
         "decode: keys a token is decoded over. forgetting: its position, of 8 heads of 64");
  counts("--decode-dim", words.decode_dim, "decode: size of a head");
  counts("--decode-heads", words.decode_heads, "decode: query heads");
  counts("--key-heads", words.key_heads, "decode: key heads");
  counts("--budget", words.budget, "forgetting: keys that are kept");
  option("--only", asked.only, "TEXT", "Other contenders with this in their name");
  counts("--rounds", asked.patience.rounds, "Times that every contender has a turn");
  counts("--patience", asked.patience.seconds,
         "Seconds after which a case has no more rounds, three at least");
  counts("--threads", asked.threads, "Of every contender");
  option("--json", asked.json, "FILE", "Writes all figures there");
  try {
    app.parse(argc, argv);
  } catch (const CLI::CallForHelp&) {
    std::cout << app.help();
    return std::nullopt;
  }
  asked.cases = words.cases();
  if (asked.cases.empty()) throw std::runtime_error("no text is as long as the budget");
  return asked;
}

}  // namespace compare
