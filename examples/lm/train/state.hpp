// SPDX-License-Identifier: MIT
/// @file
/// Where a run of training is, in a file.
#pragma once

#include "lm/train/adamw.hpp"
#include "lm/train/network.hpp"

#include <cstdint>
#include <filesystem>
#include <string>

namespace lm {

struct Progress {
  std::int64_t step = 0;  ///< steps done
  double seconds = 0;     ///< taken by them
};

/// Weights, moments and progress. Batches and learning rates follow from the step, so nothing else
/// is to be remembered.
/// @param settings  text of what the run was told, for load_state() to compare.
void save_state(const std::filesystem::path& path, const std::string& settings,
                const Progress& progress, Network& network, AdamW& adam);

/// @throws FileError if the file is damaged or was written under other settings, naming both.
Progress load_state(const std::filesystem::path& path, const std::string& settings,
                    Network& network, AdamW& adam);

}  // namespace lm
