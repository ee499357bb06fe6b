// SPDX-License-Identifier: MIT
#include "lm/train/request.hpp"

#include "lm/command_line.hpp"

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

  app.option_defaults()->group("Model");
  line.integer("--layers", c.layers, 1, "layers");
  line.integer("--heads", c.heads, 1, "heads of a layer");
  line.integer("--dim", c.dim, 1, "width of the residual stream");
  line.integer("--head-dim", c.head_dim, 1, "width of a head");
  line.integer("--hidden", c.hidden, 1, "width within the feed-forward layer");
  line.integer("--context", c.context, 1, "tokens of a window");
  app.add_flag("--qk-norm", c.qk_norm, "RMSNorm on queries and keys");

  app.option_defaults()->group("Attention");
  line.text("--attention", words.attention, "NAMES",
            "standard, or selective, ssa and spans joined by +")
      ->capture_default_str();
  const auto beside = [&](CLI::Option* option, const char* mechanism) {
    words.beside.emplace_back(option, mechanism);
  };
  beside(line.number("--memory-loss", s.memory_loss, "weight of L_mem"), "selective");
  Temperatures& t = words.temperatures;
  beside(
      app.add_flag("--ssa-token", t.token, "temperatures see the token too, not its place alone"),
      "ssa");
  beside(app.add_flag("--ssa-value", t.value, "on values too"), "ssa");
  beside(app.add_flag("--ssa-shared", t.shared, "from the head's own query or value"), "ssa");
  beside(line.list("--full-layers", words.spans.full_layers, "L,…", "layers that see all"),
         "spans");
  beside(line.text("--window", words.spans.window, "N", "tokens the other layers see"), "spans");
  beside(line.text("--block", words.spans.block, "N", "or the block they see"), "spans");

  app.option_defaults()->group("Training");
  app.add_flag("--answers-only", s.answers_only, "of a text of riddles, learn the answers alone");
  line.integer("--tokens", s.tokens, 1, "tokens to learn from");
  line.integer("--batch", s.batch, 1, "windows a step");
  line.number("--rate", s.rate, "learning rate");
  line.number("--last-rate", s.last_rate, "share of it left at the end of the cosine");
  line.integer("--warm-up", s.warm_up, 0, "steps until the full rate");
  line.number("--clip", s.clip, "largest norm of the gradient");
  line.number("--weight-decay", s.adam.weight_decay, "of matrices");
  app.add_option("--seed", s.seed, "of weights and batches")->capture_default_str();

  app.option_defaults()->group("Running");
  line.number("--minutes", r.minutes, "stops then, to be resumed; 0: never");
  line.integer("--threads", r.threads, 1, "threads");
  line.integer("--log-every", r.log_every, 1, "steps");
  line.integer("--validate-every", r.validate_every, 1, "steps");
  line.integer("--save-every", r.save_every, 1, "steps");
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
