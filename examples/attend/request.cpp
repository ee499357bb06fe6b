// SPDX-License-Identifier: MIT
#include "attend/request.hpp"

#include "programs/command_line.hpp"

#include <ostream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace attend {
namespace {

using programs::CommandLine, programs::Range, programs::count;

/// What --scale and --softcap may be, as far as float holds them and their reciprocals.
constexpr double least_number = 1e-30, most_number = 1e30;

WindowSides window_of(std::string_view text, bool causal) {
  const Range<Integer> side = count(0);
  const auto side_of = [&](std::string_view digits) {
    const auto value = programs::number_of<Integer>(digits);
    return value && side.holds(*value) ? value : std::nullopt;
  };
  const std::size_t comma = text.find(',');
  const auto left = side_of(text.substr(0, comma));
  const auto right = comma == text.npos ? (causal ? 0 : left) : side_of(text.substr(comma + 1));
  if (!left || !right)
    throw UsageError("--window is '" + std::string(text) +
                     "', must be L or L,R, tokens to the left and to the right: whole numbers from "
                     "0 to " +
                     std::to_string(side.last));
  return {*left, *right};
}

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
  if (const Integer blocks = count(0).last / r.block.value_or(1); r.previous_blocks > blocks)
    throw UsageError("--previous-blocks is '" + std::to_string(r.previous_blocks) +
                     "', must be at most " + std::to_string(blocks) + " where --block is " +
                     std::to_string(r.block.value_or(1)));
  for (const auto& [name, by_token] : {std::pair("heavy_hitters", Evict::heavy_hitters),
                                       std::pair("least_attended_last", Evict::least_attended_last),
                                       std::pair("key_difference", Evict::key_difference)})
    if (r.chunk && r.evict == by_token)
      throw UsageError(std::string("--chunk does not go with --evict ") + name +
                       ", which is decided token by token");
}

}  // namespace

std::optional<Request> parse(int argc, const char* const* argv, std::ostream& out) {
  Request r;
  std::string window;
  CommandLine line(
      "attend",
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
  line.number("--query-offset", r.query_offset, "N", count(0),
              "row i sits at position N + i, not i");
  CLI::Option* window_option =
      line.option("--window", "L[,R]",
                  "keys from L before the position to R after it; R is 0 with --causal, else L",
                  [&](const std::string& text) { window = text; });
  line.number("--block", r.block, "B", count(1), "keys of the position's own block of B tokens");
  CLI::Option* previous_blocks = line.number("--previous-blocks", r.previous_blocks, "P", count(0),
                                             "and of the P blocks before it");
  line.number("--prefix", r.prefix, "N", count(0),
              "the first N keys, and those up to the position");
  line.file("--lengths", r.lengths,
            "tokens of each sequence, the rest is padding: whole numbers [B]");
  line.file("--mask", r.mask,
            "visible where not 0: bool or whole numbers, broadcast to [B, H, Nq, Nk]");

  line.group("Scores");
  line.number("--scale", r.scale, "s", Range<double>{-most_number, most_number},
              "scores are s q·k, not q·k / √D");
  line.number("--softcap", r.softcap, "c", Range<double>{least_number, most_number},
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
      line.number("--select-head", r.select_head, "h", count(0), "that head; 0 if left out");
  line.file("--carry-in", r.carry_in, "F of the first row, from earlier ones: float [B, Nk]");
  line.file("--carry-out", r.carry_out, "writes F of the row after the last [B, Nk]");
  line.file("--mask-f", r.mask_f, "writes F itself [B, Nq, Nk]: for short texts");

  line.group("Pruning, with --causal --selective");
  line.number("--budget", r.budget, "K", count(2), "the buffer holds K tokens; more are evicted");
  line.number("--chunk", r.chunk, "C", count(1),
              "prefill C tokens at a time, with the same result");
  CLI::Option* evict = line.choice(
      "--evict", r.evict,
      "most_masked|heavy_hitters|least_attended_last|oldest|key_difference|snap",
      std::vector<std::pair<const char*, Evict>>{
          {"most_masked", Evict::most_masked},
          {"heavy_hitters", Evict::heavy_hitters},
          {"least_attended_last", Evict::least_attended_last},
          {"oldest", Evict::oldest},
          {"key_difference", Evict::key_difference},
          {"snap", Evict::snap},
          {"f", Evict::most_masked},
          {"mass", Evict::heavy_hitters},
          {"window", Evict::oldest}},
      "evicts the largest F, the least weight received in all (H2O) or from the newest row (TOVA), "
      "the oldest, the key most like the others (KeyDiff) or what the last rows look at least "
      "(SnapKV), which happens after the last row; aliases of the first, second and fourth: "
      "f|mass|window");
  line.file("--evict-row", r.evict_row,
            "writes the row at which each key was evicted, N if never: int64 [B, N]");

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
  line.number("--threads", r.threads, "n", count(1, 1024), "threads");
  line.number("--repeat", r.repeat, "n", count(1, 1'000'000), "runs that are timed");
  line.flag("--stats", r.stats,
            "prints times of the forward pass, pairs visited, share of the machine's peak, bytes "
            "of buffer");

  try {
    line.app().parse(argc, argv);
  } catch (const CLI::CallForHelp&) {
    out << line.app().help();
    return std::nullopt;
  } catch (const CLI::ParseError& error) {
    throw UsageError(programs::one_line(error.what()));
  }
  if (window_option->count() > 0) r.window = window_of(window, r.causal);
  check(r, select_head->count() > 0, previous_blocks->count() > 0, evict->count() > 0);
  return r;
}

}  // namespace attend
