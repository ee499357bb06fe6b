// SPDX-License-Identifier: MIT
#include "lm/train/request.hpp"

#include "programs/command_line.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <numbers>
#include <set>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

namespace lm {

using programs::CommandLine, programs::Range, programs::count, programs::from_zero;

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
  nlohmann::json json{{"config", nlohmann::json::parse(lm::to_json(config))},
                      {"tokens", tokens},
                      {"batch", batch},
                      {"rate", rate},
                      {"last_rate", last_rate},
                      {"warm_up", warm_up},
                      {"clip", clip},
                      {"memory_loss", memory_loss},
                      {"seed", seed},
                      {"weight_decay", adam.weight_decay}};
  if (answers_only) json["answers_only"] = true;
  return json.dump();
}

namespace {

/// "selective+ssa" → the mechanisms it names.
std::set<std::string> mechanisms_of(const std::string& text) {
  std::set<std::string> on;
  if (text == "standard") return on;
  std::istringstream words(text);
  for (std::string word; std::getline(words, word, '+');)
    if ((word != "selective" && word != "ssa" && word != "spans") || !on.insert(word).second)
      on.clear(), words.setstate(std::ios::failbit);
  if (on.empty())
    throw ConfigError("--attention is '" + text +
                      "', must be standard, or selective, ssa and spans joined by +");
  return on;
}

/// What the command line says of attention, before it is known which of it counts.
struct AttentionWords {
  std::string attention = "standard";
  Temperatures temperatures;
  Spans spans;
  std::vector<std::pair<CLI::Option*, const char*>> beside;  ///< each with the word it needs
};

void declare(CommandLine& line, TrainRequest& r, AttentionWords& words) {
  TrainingSettings& s = r.settings;
  Config& c = s.config;
  CLI::App& app = line.app();
  line.text("--text", r.text, "FILE", "What to learn, any bytes")->required();
  line.text("--out", r.out, "FOLDER", "Where results go")->required();
  app.add_flag("--resume", r.resume, "Go on from what the folder holds, if it does");
  line.text("--from", r.from, "FILE",
            "A checkpoint to begin with, of the same model but for its context");

  line.group("Model");
  line.number("--layers", c.layers, "N", count(1), "layers");
  line.number("--heads", c.heads, "N", count(1), "heads of a layer");
  line.number("--dim", c.dim, "N", count(1), "width of the residual stream");
  line.number("--head-dim", c.head_dim, "N", count(1), "width of a head");
  line.number("--hidden", c.hidden, "N", count(1), "width within the feed-forward layer");
  line.number("--context", c.context, "N", count(2), "tokens of a window");
  app.add_flag("--qk-norm", c.qk_norm, "RMSNorm on queries and keys");

  line.group("Attention");
  line.text("--attention", words.attention, "NAMES",
            "standard, or selective, ssa and spans joined by +")
      ->capture_default_str();
  const auto beside = [&](CLI::Option* option, const char* mechanism) {
    words.beside.emplace_back(option, mechanism);
  };
  beside(line.number("--memory-loss", s.memory_loss, "X", from_zero, "weight of L_mem"),
         "selective");
  Temperatures& t = words.temperatures;
  beside(
      app.add_flag("--ssa-token", t.token, "temperatures see the token too, not its place alone"),
      "ssa");
  beside(app.add_flag("--ssa-value", t.value, "on values too"), "ssa");
  beside(app.add_flag("--ssa-shared", t.shared, "from the head's own query or value"), "ssa");
  beside(line.numbers("--full-layers", words.spans.full_layers, "L,…", count(0),
                      "layers that see all"),
         "spans");
  beside(line.number("--window", words.spans.window, "N", count(1), "tokens the other layers see"),
         "spans");
  beside(line.number("--block", words.spans.block, "N", count(1), "or the block they see"),
         "spans");

  line.group("Training");
  app.add_flag("--answers-only", s.answers_only, "of a text of riddles, learn the answers alone");
  line.number("--tokens", s.tokens, "N", count(1), "tokens to learn from");
  line.number("--batch", s.batch, "N", count(1, 65536), "windows a step");
  line.number("--rate", s.rate, "X", from_zero, "learning rate");
  line.number("--last-rate", s.last_rate, "X", from_zero,
              "share of it left at the end of the cosine");
  line.number("--warm-up", s.warm_up, "N", count(0), "steps until the full rate");
  line.number("--clip", s.clip, "X", from_zero, "largest norm of the gradient");
  line.number("--weight-decay", s.adam.weight_decay, "X", from_zero, "of matrices");
  line.number("--seed", s.seed, "N", Range<std::uint64_t>{}, "of weights and batches");

  line.group("Running");
  line.number("--minutes", r.minutes, "X", from_zero, "stops then, to be resumed; 0: never");
  line.number("--threads", r.threads, "N", count(1, 1024), "threads");
  line.number("--log-every", r.log_every, "N", count(1), "steps");
  line.number("--validate-every", r.validate_every, "N", count(1), "steps");
  line.number("--save-every", r.save_every, "N", count(1), "steps");
  app.add_flag("--quiet", r.quiet, "no progress line");
}

/// Puts the words together.
void understand(const AttentionWords& words, Config& config) {
  const std::set<std::string> on = mechanisms_of(words.attention);
  for (const auto& [option, mechanism] : words.beside)
    if (option->count() > 0 && !on.contains(mechanism))
      throw ConfigError(option->get_name() + " needs --attention with " + mechanism);
  config.selective = on.contains("selective");
  if (on.contains("ssa")) config.temperatures = words.temperatures;
  if (on.contains("spans")) config.spans = words.spans;
  check(config);
}

}  // namespace

int with_train_request(int argc, const char* const* argv,
                       const std::function<void(const TrainRequest&)>& run) {
  TrainRequest request;
  AttentionWords words;
  CommandLine line("train",
                   "Trains a byte-level language model. --out FOLDER gets model.safetensors, "
                   "state.safetensors (to go on from) and log.csv.");
  declare(line, request, words);
  return line.run(argc, argv, [&] {
    understand(words, request.settings.config);
    run(request);
  });
}

}  // namespace lm
