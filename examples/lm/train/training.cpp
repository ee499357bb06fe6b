// SPDX-License-Identifier: MIT
#include "lm/train/training.hpp"

#include "lm/tasks.hpp"
#include "lm/train/batches.hpp"
#include "lm/train/log.hpp"
#include "lm/train/state.hpp"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <numbers>
#include <optional>
#include <ostream>
#include <span>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

namespace lm {
namespace {

constexpr std::int64_t no_target = -1;

/// FNV-1a: enough to notice that it is another text.
std::uint64_t fingerprint(Bytes bytes) {
  std::uint64_t hash = 0xcbf29ce484222325u;
  for (const std::uint8_t byte : bytes) hash = (hash ^ byte) * 0x100000001b3u;
  return hash;
}

/// What training begins with, and what load_state() is to know of it.
struct Beginning {
  Network network;
  std::string told;
};
Beginning beginning_of(const TrainRequest& request) {
  const TrainingSettings& settings = request.settings;
  if (request.from.empty()) return {Network(settings.config, settings.seed), ""};
  Checkpoint checkpoint = read_checkpoint(request.from);
  checkpoint.config.context = settings.config.context;
  const std::string has = to_json(checkpoint.config), wanted = to_json(settings.config);
  if (has != wanted)
    throw ConfigError(request.from.string() + ": its model is " + has + ", to be trained is " +
                      wanted);
  const Text file = Text::read(request.from);
  return {Network(checkpoint),
          " from a checkpoint of fingerprint " + std::to_string(fingerprint(file.bytes()))};
}

/// What each of [B, N + 1] tokens but the last is to predict, [B · N]: its successor, or nothing.
at::Tensor targets_of(const at::Tensor& tokens, const TrainingSettings& settings) {
  if (!settings.answers_only) return tokens.slice(1, 1).flatten();
  at::Tensor targets = at::full_like(tokens, no_target);
  const std::int64_t length = tokens.size(1);
  std::vector<std::uint8_t> window(static_cast<std::size_t>(length));
  for (std::int64_t b = 0; b < tokens.size(0); ++b) {
    const std::int64_t* from = tokens.data_ptr<std::int64_t>() + b * length;
    std::int64_t* to = targets.data_ptr<std::int64_t>() + b * length;
    std::copy_n(from, length, window.begin());
    for (const Answer& answer : answers_in(window))
      std::copy(from + answer.first, from + answer.last, to + answer.first);
  }
  return targets.slice(1, 1).flatten();
}

/// Their mean loss in nats.
at::Tensor loss_of(const at::Tensor& logits, const at::Tensor& targets) {
  const at::Tensor sum =
      at::cross_entropy_loss(logits.flatten(0, 1), targets, {}, at::Reduction::Sum, no_target);
  return sum / targets.ne(no_target).sum().clamp_min(1);
}

/// max_i M[b, i], mean over layers and batch: what L_mem asks to be small, in tokens.
at::Tensor memory_of(const Predictions& predictions) {
  at::Tensor sum = at::zeros({});
  for (const at::Tensor& memory : predictions.memory) sum = sum + std::get<0>(memory.max(1)).mean();
  return sum / double(predictions.memory.size());
}

struct Validation {
  double loss = 0;  ///< bits a byte
  std::optional<double> memory;
};

/// On windows spread evenly over the validation part.
class Validator {
 public:
  Validator(const Text& text, const TrainingSettings& settings) : settings_(settings) {
    const auto windows = text.windows(Part::validation, std::size_t(settings.config.context) + 1);
    const std::size_t wanted = std::min<std::size_t>(windows.size(), 32);
    for (std::size_t i = 0; i < wanted; ++i)
      windows_.push_back(windows[i * windows.size() / wanted]);
    if (windows_.empty()) throw FileError("the text's validation part holds no whole window");
  }

  Validation run(const Network& network) const {
    const at::NoGradGuard guard;
    Validation result;
    double nats = 0, memory = 0;
    const std::span<const Bytes> all = windows_;
    const auto batch = std::size_t(settings_.batch);
    for (std::size_t at = 0; at < all.size(); at += batch) {
      const auto some = all.subspan(at, std::min(batch, all.size() - at));
      const at::Tensor tokens = as_tensor(some);
      const Predictions predictions =
          network.forward(tokens.slice(1, 0, -1), network.config().selective);
      nats += loss_of(predictions.logits, targets_of(tokens, settings_)).item<double>() *
              double(some.size());
      if (network.config().selective)
        memory += memory_of(predictions).item<double>() * double(some.size());
    }
    result.loss = nats / double(all.size()) / std::numbers::ln2;
    if (network.config().selective) result.memory = memory / double(all.size());
    return result;
  }

 private:
  std::vector<Bytes> windows_;
  const TrainingSettings& settings_;
};

std::string time_of(double seconds) {
  const auto whole = std::int64_t(seconds + 0.5);
  char text[32];
  std::snprintf(text, sizeof text, "%d:%02d:%02d", int(whole / 3600), int(whole / 60 % 60),
                int(whole % 60));
  return text;
}

using Clock = std::chrono::steady_clock;
double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

}  // namespace

void train(const TrainRequest& request, const std::atomic<bool>& stop, std::ostream& out) {
  const TrainingSettings& settings = request.settings;
  const std::int64_t steps = settings.steps(), a_step = settings.batch * settings.config.context;
  at::set_num_threads(int(request.threads));
  const Text text = Text::read(request.text);
  const Batches batches(text, settings.batch, settings.config.context, settings.seed);
  const Validator validator(text, settings);
  std::error_code error;
  std::filesystem::create_directories(request.out, error);
  if (error) throw FileError(request.out.string() + ": " + error.message());

  Beginning beginning = beginning_of(request);
  Network& network = beginning.network;
  AdamW adam(settings.config, network.parameters(), settings.adam);
  const std::string told = settings.to_json() + " on " + std::to_string(text.bytes().size()) +
                           " bytes of fingerprint " + std::to_string(fingerprint(text.bytes())) +
                           beginning.told;
  const std::filesystem::path state = request.out / "state.safetensors";
  Progress progress;
  if (std::filesystem::exists(state)) {
    if (!request.resume) throw FileError(state.string() + ": it exists; --resume goes on from it");
    progress = load_state(state, told, network, adam);
  }
  const TrainingLog log(request.out / "log.csv", progress.step);

  std::int64_t parameters = 0;
  for (const auto& [name, tensor] : network.parameters()) parameters += tensor.numel();
  out << settings.config.attention_name() << ", " << parameters << " parameters, ";
  if (progress.step < steps)
    out << "steps " << progress.step + 1 << " to " << steps << " of " << a_step << " tokens\n";
  else
    out << "all of its " << steps << " steps done\n";
  out.flush();

  const auto start = Clock::now();
  const double seconds_before = progress.seconds;
  const auto save = [&](double validation_loss) {
    save_state(state, told, progress, network, adam);
    Checkpoint checkpoint = network.checkpoint();
    checkpoint.notes = {{"training", settings.to_json()},
                        {"step", std::to_string(progress.step)},
                        {"tokens", std::to_string(progress.step * a_step)}};
    if (!request.from.empty()) checkpoint.notes["from"] = request.from.string();
    if (validation_loss > 0)
      checkpoint.notes["validation_bits_per_byte"] = std::to_string(validation_loss);
    write_checkpoint(request.out / "model.safetensors", checkpoint);
  };

  double sum = 0, seconds_logged = progress.seconds;
  std::int64_t logged = progress.step;
  Validation validation;
  bool ended = progress.step >= steps;
  while (!ended) {
    const std::int64_t step = progress.step + 1;
    const at::Tensor tokens = batches.of(step);
    const Predictions predictions =
        network.forward(tokens.slice(1, 0, -1), settings.memory_loss > 0);
    const at::Tensor loss = loss_of(predictions.logits, targets_of(tokens, settings));
    at::Tensor objective = loss;
    if (settings.memory_loss > 0)
      objective = objective +
                  memory_of(predictions) * (settings.memory_loss / double(settings.config.context));
    objective.backward();
    const double bits = loss.item<double>() / std::numbers::ln2;
    if (!std::isfinite(bits))
      throw FileError("the loss of step " + std::to_string(step) + " is not finite");
    const double gradient = adam.clip(settings.clip), rate = settings.rate_at(step);
    adam.step(step, rate);

    progress = {step, seconds_before + seconds_since(start)};
    sum += bits;
    const bool timed_out = request.minutes > 0 && seconds_since(start) > 60 * request.minutes;
    ended = step == steps || stop || timed_out;
    const bool validated = step % request.validate_every == 0 || step == steps;
    if (validated) validation = validator.run(network);
    if (step % request.log_every == 0 || validated || ended) {
      LogRow row{step,
                 step * a_step,
                 progress.seconds,
                 sum / double(step - logged),
                 {},
                 {},
                 gradient,
                 rate,
                 0};
      row.tokens_per_second =
          double((step - logged) * a_step) / std::max(progress.seconds - seconds_logged, 1e-9);
      if (validated) row.validation_loss = validation.loss, row.memory = validation.memory;
      log.add(row);
      if (!request.quiet) {
        const double left = double((steps - step) * a_step) / std::max(row.tokens_per_second, 1e-9);
        char line[200];
        std::snprintf(line, sizeof line,
                      "step %6lld/%lld  %.4f bits a byte  %7.0f tokens/s  %s left", (long long)step,
                      (long long)steps, row.loss, row.tokens_per_second, time_of(left).c_str());
        out << line;
        if (validated) out << "  validation " << validation.loss;
        if (validated && validation.memory) out << "  memory " << *validation.memory;
        out << std::endl;
      }
      sum = 0, logged = step, seconds_logged = progress.seconds;
    }
    if (step % request.save_every == 0 || ended) save(validation.loss);
  }
  if (progress.step < steps)
    out << "stopped after step " << progress.step << "; --resume goes on" << std::endl;
}

}  // namespace lm
