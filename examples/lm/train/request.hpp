// SPDX-License-Identifier: MIT
/// @file
/// What a call of `train` asks for.
#pragma once

#include "lm/config.hpp"
#include "lm/train/adamw.hpp"

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>

namespace lm {

/// What decides which weights come out. A run goes on only with the settings it began with.
struct TrainingSettings {
  Config config;
  std::int64_t tokens = 10'000'000;  ///< to learn from, all steps together
  std::int64_t batch = 8;            ///< windows of a context a step
  double rate = 3e-3;                ///< of learning, after the warm-up
  double last_rate = 0.1;            ///< share of it that is left at the end
  std::int64_t warm_up = 100;        ///< steps
  double clip = 1;                   ///< most of the gradient's norm
  double memory_loss = 0;            ///< ε, weight of L_mem
  bool answers_only = false;         ///< Of riddles (lm/tasks.hpp), the loss is that of answers.
  std::uint64_t seed = 1;
  AdamWOptions adam;

  std::int64_t steps() const;
  /// Warm-up by a line, then half a cosine. @param step  from 1.
  double rate_at(std::int64_t step) const;
  std::string to_json() const;
};

struct TrainRequest {
  TrainingSettings settings;
  std::filesystem::path text, out;
  std::filesystem::path from;  ///< a checkpoint to begin with; empty: weights drawn by the seed
  bool resume = false;
  double minutes = 0;  ///< 0: no limit
  std::int64_t threads = 1, log_every = 20, validate_every = 200, save_every = 200;
  bool quiet = false;
};

/// Reads the command line and runs what it asks.
/// @return the program's exit code: 2 if anything is wrong, which stderr then says in one line.
int with_train_request(int argc, const char* const* argv,
                       const std::function<void(const TrainRequest&)>& run);

}  // namespace lm
