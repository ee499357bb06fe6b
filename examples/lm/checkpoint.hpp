// SPDX-License-Identifier: MIT
/// @file
/// A trained model in a file: safetensors whose metadata holds the configuration.
#pragma once

#include "lm/config.hpp"

namespace lm {

/// A model's configuration and the values of its parameters.
struct Checkpoint {
  Config config;
  std::map<std::string, std::vector<float>> values;  ///< by the names of parameters()
  /// What else is to be known: how it was trained, its loss. Free text by free keys.
  std::map<std::string, std::string> notes;
};

/// @throws FileError if it is no safetensors file, its configuration is missing or unfit, or its
///     tensors are not just the parameters that follow from it, each of the right shape and finite.
Checkpoint read_checkpoint(const std::filesystem::path& path);

/// @throws FileError if it cannot be written, std::logic_error if a parameter is missing.
void write_checkpoint(const std::filesystem::path& path, const Checkpoint& checkpoint,
                      Storage storage = Storage::f32);

}  // namespace lm
