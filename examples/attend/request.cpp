// SPDX-License-Identifier: MIT
#include "attend/request.hpp"

#include <CLI/CLI.hpp>
#include <charconv>
#include <ostream>
#include <sstream>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

namespace attend {
namespace {

/// The largest number taken: sums and products of a few stay within 64 bits.
constexpr Integer most = 1'000'000'000'000'000;

/// What --scale and --softcap may be, as far as float holds them and their reciprocals.
constexpr double least_number = 1e-30, most_number = 1e30;

[[noreturn]] void refuse(std::string_view option, std::string_view text, const std::string& rule) {
  throw UsageError(std::string(option) + " is '" + std::string(text) + "', must be " + rule);
}

/// The whole text as a number within bounds. Plain digits: CLI11 would take 99999999999999999999
/// for the largest it knows, and 'nan' lies within any bounds where -ffast-math compares.
template <class T>
std::optional<T> number_in(std::string_view text, T least, T last) {
  T value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() ||
      text.find_first_not_of("0123456789.eE+-") != text.npos || value < least || value > last)
    return std::nullopt;
  return value;
}

WindowSides window_of(std::string_view text, bool causal) {
  const std::size_t comma = text.find(',');
  const auto left = number_in<Integer>(text.substr(0, comma), 0, most);
  const auto right = comma == text.npos ? (causal ? 0 : left)
                                        : number_in<Integer>(text.substr(comma + 1), 0, most);
  if (!left || !right)
    refuse("--window", text,
           "L or L,R, tokens to the left and to the right: whole numbers from 0 to " +
               std::to_string(most));
  return {*left, *right};
}

/// CLI11 with the kinds of option there are here, each checked as it is read.
class CommandLine {
 public:
  explicit CommandLine(const char* says) : app_(says, "attend") {}

  CLI::App& app() { return app_; }
  /// The heading in the help of the options that follow.
  void group(const char* name) { group_ = name; }

  CLI::Option* flag(const char* name, bool& on, const char* says) {
    return app_.add_flag(name, on, says)->group(group_);
  }
  CLI::Option* file(const char* name, Path& path, const char* says) {
    return option(name, "FILE", says, [&path, name](const std::string& text) {
      if (text.empty()) throw UsageError(std::string(name) + " names no file");
      path = text;
    });
  }
  /// `into` is an Integer, or an optional one.
  template <class Into>
  CLI::Option* integer(const char* name, Into& into, const char* letter, Integer least,
                       Integer last, const char* says) {
    return option(name, letter, says, [=, &into](const std::string& text) {
      const auto value = number_in<Integer>(text, least, last);
      if (!value)
        refuse(name, text,
               "a whole number from " + std::to_string(least) + " to " + std::to_string(last));
      into = *value;
    });
  }
  CLI::Option* number(const char* name, std::optional<double>& into, const char* letter,
                      double least, double last, const char* says) {
    return option(name, letter, says, [=, &into](const std::string& text) {
      into = number_in(text, least, last);
      if (!into) {
        std::ostringstream rule;
        rule << "a number from " << least << " to " << last;
        refuse(name, text, rule.str());
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
      refuse(name, text, std::string("one of ") + words);
    });
  }
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
        ->type_name(type)
        ->group(group_);
  }

 private:
  CLI::App app_;
  const char* group_ = "";
};

/// `option` was given, and says something only beside `needed`, which was not.
void expect_beside(const char* option, bool given, const char* needed, bool has_needed) {
  if (given && !has_needed) throw UsageError(std::string(option) + " needs " + needed);
}

/// What a pruned run does not take: the buffer decides what a row sees.
void expect_no_pruning_beside(const Request& r) {
  const std::pair<const char*, bool> others[] = {
      {"--query-offset", r.query_offset.has_value()},
      {"--window", r.window.has_value()},
      {"--block", r.block.has_value()},
      {"--prefix", r.prefix.has_value()},
      {"--mask", !r.mask.empty()},
      {"--bias", !r.bias.empty()},
      {"--carry-in", !r.carry_in.empty()},
      {"--grad-out", !r.grad_out.empty()},
  };
  for (const auto& [option, given] : others)
    if (given) throw UsageError(std::string("--budget does not go with ") + option);
}

/// A gradient needs that of the output, and the input it is of.
void check_gradients(const Request& r) {
  struct Gradient {
    const char* option;
    const Path& path;
    const char* of;
    bool given;
  };
  const Gradient gradients[] = {
      {"--grad-q", r.grad_q, "--q", true},
      {"--grad-k", r.grad_k, "--k", true},
      {"--grad-v", r.grad_v, "--v", true},
      {"--grad-tau-q", r.grad_tau_q, "--tau-q", !r.tau_q.empty()},
      {"--grad-tau-k", r.grad_tau_k, "--tau-k", !r.tau_k.empty()},
      {"--grad-tau-v", r.grad_tau_v, "--tau-v", !r.tau_v.empty()},
      {"--grad-bias", r.grad_bias, "--bias", !r.bias.empty()},
      {"--grad-carry", r.grad_carry, "--carry-in", !r.carry_in.empty()},
  };
  bool any = false;
  for (const Gradient& g : gradients) {
    any |= !g.path.empty();
    expect_beside(g.option, !g.path.empty(), "--grad-out", !r.grad_out.empty());
    expect_beside(g.option, !g.path.empty(), g.of, g.given);
  }
  expect_beside("--grad-out", !r.grad_out.empty(), "a gradient to write, such as --grad-q", any);
}

void check(const Request& r, bool select_head_given, bool previous_blocks_given, bool evict_given) {
  expect_beside("--previous-blocks", previous_blocks_given, "--block", r.block.has_value());
  expect_beside("--select-head", select_head_given, "--selective", r.selective);
  expect_beside("--carry-in", !r.carry_in.empty(), "--selective", r.selective);
  expect_beside("--carry-out", !r.carry_out.empty(), "--selective", r.selective);
  expect_beside("--mask-f", !r.mask_f.empty(), "--selective", r.selective);
  expect_beside("--budget", r.budget.has_value(), "--causal and --selective",
                r.causal && r.selective);
  expect_beside("--chunk", r.chunk.has_value(), "--budget", r.budget.has_value());
  expect_beside("--evict", evict_given, "--budget", r.budget.has_value());
  expect_beside("--evict-row", !r.evict_row.empty(), "--budget", r.budget.has_value());
  if (r.budget) expect_no_pruning_beside(r);
  check_gradients(r);
  if (r.block && r.previous_blocks > most / *r.block)
    refuse("--previous-blocks", std::to_string(r.previous_blocks),
           "at most " + std::to_string(most / *r.block) + " where --block is " +
               std::to_string(*r.block));
  if (r.chunk && r.evict == Evict::mass)
    throw UsageError("--chunk does not go with --evict mass, which is decided token by token");
}

/// CLI11's own messages, on one line.
std::string one_line(std::string text) {
  for (char& c : text)
    if (c == '\n' || c == '\r') c = ' ';
  return text;
}

}  // namespace

std::optional<Request> parse(int argc, const char* const* argv, std::ostream& out) {
  Request r;
  std::string window;
  CommandLine line(
      "Attention over .npy tensors: any mixture of masks, biases, temperatures, selection and a "
      "pruned key-value buffer.\n"
      "Wrong input: one line on stderr, exit code 2, no output file.");

  line.group("Tensors");
  line.file("--q", r.q, "queries [B, H, Nq, D], float16, float32 or float64")->required();
  line.file("--k", r.k, "keys [B, G, Nk, D], H a multiple of G")->required();
  line.file("--v", r.v, "values [B, G, Nk, Dv]")->required();
  line.file("--out", r.out, "writes the attention [B, H, Nq, Dv]")->required();
  line.file("--lse", r.lse, "writes the log-sum-exp of each row [B, H, Nq]");

  line.group("What a row sees");
  line.flag("--causal", r.causal, "keys up to the row's own position");
  line.integer("--query-offset", r.query_offset, "N", 0, most,
               "row i sits at position N + i, not i");
  CLI::Option* window_option =
      line.option("--window", "L[,R]",
                  "keys from L before the position to R after it; R is 0 with --causal, else L",
                  [&](const std::string& text) { window = text; });
  line.integer("--block", r.block, "B", 1, most, "keys of the position's own block of B tokens");
  CLI::Option* previous_blocks = line.integer("--previous-blocks", r.previous_blocks, "P", 0, most,
                                              "and of the P blocks before it");
  line.integer("--prefix", r.prefix, "N", 0, most,
               "the first N keys, and those up to the position");
  line.file("--lengths", r.lengths,
            "tokens of each sequence, the rest is padding: whole numbers [B]");
  line.file("--mask", r.mask,
            "visible where not 0: bool or whole numbers, broadcast to [B, H, Nq, Nk]");

  line.group("Scores");
  line.number("--scale", r.scale, "s", -most_number, most_number, "scores are s q·k, not q·k / √D");
  line.number("--softcap", r.softcap, "c", least_number, most_number,
              "scores become c tanh(score / c)");
  line.file("--bias", r.bias, "added to scores: float, broadcast to [B, H, Nq, Nk]");
  line.flag("--alibi", r.alibi, "adds slope · (key − position), slopes 2^(−8 (h + 1) / H)");
  line.file("--sinks", r.sinks, "a logit for each head in the denominator: float [H]");
  line.file("--tau-q", r.tau_q, "temperatures of queries: float [B, H or 1, Nq]");
  line.file("--tau-k", r.tau_k, "temperatures of keys: float [B, G or 1, Nk]");
  line.file("--tau-v", r.tau_v, "temperatures of values: float [B, G or 1, Nk]");

  line.group("Selection");
  line.flag("--selective", r.selective, "one head's scores tell later rows which keys to forget");
  CLI::Option* select_head =
      line.integer("--select-head", r.select_head, "h", 0, most, "that head; 0 if left out");
  line.file("--carry-in", r.carry_in, "F of the first row, from earlier ones: float [B, Nk]");
  line.file("--carry-out", r.carry_out, "writes F of the row after the last [B, Nk]");
  line.file("--mask-f", r.mask_f, "writes F itself [B, Nq, Nk]: for short texts");

  line.group("Pruning, with --causal --selective");
  line.integer("--budget", r.budget, "K", 2, most, "the buffer holds K tokens; more are evicted");
  line.integer("--chunk", r.chunk, "C", 1, most,
               "prefill C tokens at a time, with the same result");
  CLI::Option* evict = line.choice(
      "--evict", r.evict, "f|mass|window",
      std::vector<std::pair<const char*, Evict>>{
          {"f", Evict::f}, {"mass", Evict::mass}, {"window", Evict::window}},
      "who leaves: the most masked (f), the least attended (mass), the oldest (window)");
  line.file("--evict-row", r.evict_row,
            "writes the row at which each key left, N if never: int64 [B, N]");

  line.group("Gradients");
  line.file("--grad-out", r.grad_out,
            "∂L/∂out, of the shape of the output; asks for one or more of:");
  line.file("--grad-q", r.grad_q, "writes ∂L/∂q");
  line.file("--grad-k", r.grad_k, "writes ∂L/∂k");
  line.file("--grad-v", r.grad_v, "writes ∂L/∂v");
  line.file("--grad-tau-q", r.grad_tau_q, "writes ∂L/∂ the temperatures of queries");
  line.file("--grad-tau-k", r.grad_tau_k, "… of keys");
  line.file("--grad-tau-v", r.grad_tau_v, "… of values");
  line.file("--grad-bias", r.grad_bias, "writes ∂L/∂bias, of the dimensions of its file");
  line.file("--grad-carry", r.grad_carry, "writes ∂L/∂carry-in [B, Nk]");

  line.group("Running");
  line.choice("--dtype", r.in_double, "f32|f64",
              std::vector<std::pair<const char*, bool>>{{"f32", false}, {"f64", true}},
              "the type of computation and output; f64 if q is float64, if left out");
  line.integer("--threads", r.threads, "n", 1, 1024, "threads");
  line.integer("--repeat", r.repeat, "n", 1, 1'000'000, "runs that are timed");
  line.flag("--stats", r.stats,
            "prints times of the forward pass, pairs visited, share of the machine's peak, bytes "
            "of buffer");

  try {
    line.app().parse(argc, argv);
  } catch (const CLI::CallForHelp&) {
    out << line.app().help();
    return std::nullopt;
  } catch (const CLI::ParseError& error) {
    throw UsageError(one_line(error.what()));
  }
  if (window_option->count() > 0) r.window = window_of(window, r.causal);
  check(r, select_head->count() > 0, previous_blocks->count() > 0, evict->count() > 0);
  return r;
}

}  // namespace attend
