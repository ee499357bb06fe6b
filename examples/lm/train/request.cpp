// SPDX-License-Identifier: MIT
#include "lm/train/request.hpp"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <numbers>
#include <ostream>
#include <sstream>

namespace lm {
namespace {

/// "selective+ssa" → the mechanisms it names.
struct Mechanisms {
  bool selective = false, ssa = false, spans = false;
};
Mechanisms mechanisms_of(const std::string& text) {
  Mechanisms on;
  std::istringstream words(text);
  for (std::string word; std::getline(words, word, '+');) {
    bool* flag = word == "selective" ? &on.selective
                 : word == "ssa"     ? &on.ssa
                 : word == "spans"   ? &on.spans
                                     : nullptr;
    if (word == "standard" && text == word) continue;
    if (!flag || *flag)
      throw ConfigError("--attention is '" + text +
                        "', must be standard, or selective, ssa and spans joined by +");
    *flag = true;
  }
  return on;
}

void expect_beside(bool given, const char* option, bool needed, const char* what) {
  if (given && !needed) throw ConfigError(std::string(option) + " needs --attention with " + what);
}

}  // namespace

std::int64_t TrainingSettings::steps() const {
  const std::int64_t a_step = batch * config.context;
  return (tokens + a_step - 1) / a_step;
}

double TrainingSettings::rate_at(std::int64_t step) const {
  if (step <= warm_up) return rate * double(step) / double(warm_up);
  const double done = double(step - warm_up) / double(std::max<std::int64_t>(steps() - warm_up, 1));
  const double cosine = (1 + std::cos(std::numbers::pi * done)) / 2;
  return rate * (last_rate + (1 - last_rate) * cosine);
}

std::string TrainingSettings::to_json() const {
  return nlohmann::json{{"config", nlohmann::json::parse(lm::to_json(config))},
                        {"tokens", tokens},
                        {"batch", batch},
                        {"rate", rate},
                        {"last_rate", last_rate},
                        {"warm_up", warm_up},
                        {"clip", clip},
                        {"memory_loss", memory_loss},
                        {"seed", seed},
                        {"weight_decay", adam.weight_decay}}
      .dump();
}

std::optional<TrainRequest> parse_train(int argc, const char* const* argv, std::ostream& out) {
  TrainRequest r;
  TrainingSettings& s = r.settings;
  Config& c = s.config;
  std::string attention = "standard";
  Temperatures temperatures;
  Spans spans;
  std::int64_t window = 0, block = 0;

  CLI::App app(
      "Trains a byte-level language model. --out FOLDER gets model.safetensors, "
      "state.safetensors (to go on from) and log.csv.",
      "train");
  const auto integer = [&](const char* name, std::int64_t& into, const char* says,
                           std::int64_t least = 1) {
    return app.add_option(name, into, says)
        ->check(CLI::Range(least, std::int64_t(1) << 40).description(""))
        ->type_name("N")
        ->capture_default_str();
  };
  const auto number = [&](const char* name, double& into, const char* says) {
    return app.add_option(name, into, says)
        ->check(CLI::Range(0., 1e9).description(""))
        ->type_name("X")
        ->capture_default_str();
  };
  app.add_option("--text", r.text, "What to learn, any bytes")->required()->type_name("FILE");
  app.add_option("--out", r.out, "Where results go")->required()->type_name("FOLDER");
  app.add_flag("--resume", r.resume, "Go on from what the folder holds, if it does");

  app.option_defaults()->group("Model");
  integer("--layers", c.layers, "layers");
  integer("--heads", c.heads, "heads of a layer");
  integer("--dim", c.dim, "width of the residual stream");
  integer("--head-dim", c.head_dim, "width of a head");
  integer("--hidden", c.hidden, "width within the feed-forward layer");
  integer("--context", c.context, "tokens of a window");
  app.add_flag("--qk-norm", c.qk_norm, "RMSNorm on queries and keys");

  app.option_defaults()->group("Attention");
  app.add_option("--attention", attention, "standard, or selective, ssa and spans joined by +")
      ->type_name("NAMES")
      ->capture_default_str();
  const auto* memory_loss = number("--memory-loss", s.memory_loss, "weight of L_mem (selective)");
  const auto* token = app.add_flag("--ssa-token", temperatures.token,
                                   "temperatures see the token too, not its position alone");
  const auto* value = app.add_flag("--ssa-value", temperatures.value, "on values too");
  const auto* shared = app.add_flag("--ssa-shared", temperatures.shared,
                                    "from the head's own query or value, with shared weights");
  const auto* full =
      app.add_option("--full-layers", spans.full_layers, "layers that see all (spans)")
          ->delimiter(',')
          ->type_name("L,…");
  const auto* window_option = integer("--window", window, "tokens the other layers see (spans)");
  const auto* block_option = integer("--block", block, "or the block they see (spans)");

  app.option_defaults()->group("Training");
  integer("--tokens", s.tokens, "tokens to learn from");
  integer("--batch", s.batch, "windows a step");
  number("--rate", s.rate, "learning rate");
  number("--last-rate", s.last_rate, "share of it left at the end of the cosine");
  integer("--warm-up", s.warm_up, "steps until the full rate", 0);
  number("--clip", s.clip, "largest norm of the gradient");
  number("--weight-decay", s.adam.weight_decay, "of matrices");
  app.add_option("--seed", s.seed, "of weights and batches")->capture_default_str();

  app.option_defaults()->group("Running");
  number("--minutes", r.minutes, "stops then, to be resumed; 0: never");
  integer("--threads", r.threads, "threads");
  integer("--log-every", r.log_every, "steps");
  integer("--validate-every", r.validate_every, "steps");
  integer("--save-every", r.save_every, "steps");
  app.add_flag("--quiet", r.quiet, "no progress line");

  try {
    app.parse(argc, argv);
  } catch (const CLI::CallForHelp&) {
    out << app.help();
    return std::nullopt;
  } catch (const CLI::ParseError& error) {
    std::string line = error.what();
    std::ranges::replace(line, '\n', ' ');
    throw ConfigError(line);
  }

  const Mechanisms on = mechanisms_of(attention);
  c.selective = on.selective;
  expect_beside(memory_loss->count() > 0, "--memory-loss", on.selective, "selective");
  expect_beside(token->count() > 0, "--ssa-token", on.ssa, "ssa");
  expect_beside(value->count() > 0, "--ssa-value", on.ssa, "ssa");
  expect_beside(shared->count() > 0, "--ssa-shared", on.ssa, "ssa");
  expect_beside(full->count() > 0, "--full-layers", on.spans, "spans");
  expect_beside(window_option->count() > 0, "--window", on.spans, "spans");
  expect_beside(block_option->count() > 0, "--block", on.spans, "spans");
  if (on.ssa) c.temperatures = temperatures;
  if (on.spans) {
    if (window_option->count() > 0) spans.window = window;
    if (block_option->count() > 0) spans.block = block;
    c.spans = spans;
  }
  check(c);
  return r;
}

}  // namespace lm
