// SPDX-License-Identifier: MIT
#include "lm/checkpoint.hpp"

#include <algorithm>
#include <cmath>

namespace lm {
namespace {

/// The key of the configuration among the metadata.
constexpr const char* config_key = "heed.lm.config";

Checkpoint checkpoint_of(Safetensors file) {
  const auto config = file.metadata.find(config_key);
  if (config == file.metadata.end())
    throw FileError(std::string("its metadata lacks ") + config_key + ": it is no model of heed's");
  Checkpoint checkpoint;
  try {
    checkpoint.config = config_from_json(config->second);
  } catch (const ConfigError& error) {
    throw FileError(error.what());
  }
  file.metadata.erase(config);
  checkpoint.notes = std::move(file.metadata);

  for (const Parameter& parameter : parameters(checkpoint.config)) {
    const auto found = file.tensors.find(parameter.name);
    if (found == file.tensors.end()) throw FileError("it lacks tensor " + parameter.name);
    if (found->second.shape != parameter.shape)
      throw FileError("tensor " + parameter.name + " is " + to_string(found->second.shape) +
                      ", its configuration wants " + to_string(parameter.shape));
    std::vector<float> values = floats(found->second);
    if (!std::ranges::all_of(values, [](float x) { return std::isfinite(x); }))
      throw FileError("tensor " + parameter.name + " holds a number that is not finite");
    checkpoint.values.emplace(parameter.name, std::move(values));
    file.tensors.erase(found);
  }
  if (!file.tensors.empty())
    throw FileError(std::to_string(file.tensors.size()) +
                    " of its tensors are not among its configuration's parameters");
  return checkpoint;
}

}  // namespace

Checkpoint read_checkpoint(const std::filesystem::path& path) {
  Safetensors file = read_safetensors(path);
  try {
    return checkpoint_of(std::move(file));
  } catch (const FileError& error) {
    throw FileError(path.string() + ": " + error.what());
  }
}

void write_checkpoint(const std::filesystem::path& path, const Checkpoint& checkpoint,
                      Storage storage) {
  Safetensors file;
  file.metadata = checkpoint.notes;
  file.metadata[config_key] = to_json(checkpoint.config);
  for (const Parameter& parameter : parameters(checkpoint.config)) {
    const auto found = checkpoint.values.find(parameter.name);
    if (found == checkpoint.values.end())
      throw std::logic_error("there are no values of " + parameter.name);
    file.tensors[parameter.name] = store(found->second, parameter.shape, storage);
  }
  write_safetensors(path, file);
}

}  // namespace lm
