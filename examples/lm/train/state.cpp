// SPDX-License-Identifier: MIT
#include "lm/train/state.hpp"

#include "lm/json.hpp"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>

namespace lm {
namespace {

constexpr const char *settings_key = "heed.lm.training", *progress_key = "heed.lm.progress";

/// The three values a parameter has, by the prefix of their names.
struct Group {
  const char* prefix;
  AdamW::Tensors& tensors;
};
std::array<Group, 3> groups_of(Network& network, AdamW& adam) {
  return {
      {{"weight.", network.parameters()}, {"mean.", adam.means()}, {"square.", adam.squares()}}};
}

}  // namespace

void save_state(const std::filesystem::path& path, const std::string& settings,
                const Progress& progress, Network& network, AdamW& adam) {
  Safetensors file;
  file.metadata[settings_key] = settings;
  file.metadata[progress_key] = Json{{"step", progress.step}, {"seconds", progress.seconds}}.dump();
  for (const auto& [prefix, tensors] : groups_of(network, adam))
    for (const auto& [name, tensor] : tensors)
      file.tensors[prefix + name] =
          store({tensor.data_ptr<float>(), std::size_t(tensor.numel())}, tensor.sizes().vec());
  write_safetensors(path, file);
}

Progress load_state(const std::filesystem::path& path, const std::string& settings,
                    Network& network, AdamW& adam) {
  const Safetensors file = read_safetensors(path);
  const auto fail = [&](const std::string& reason) {
    throw FileError(path.string() + ": " + reason);
  };
  const auto saved = file.metadata.find(settings_key), told = file.metadata.find(progress_key);
  if (saved == file.metadata.end() || told == file.metadata.end())
    fail("it is no state of training");
  if (saved->second != settings)
    fail("the run began with " + saved->second + ", and is to go on with " + settings);
  Progress progress;
  try {
    const Json json = parse_json(told->second, 1);
    progress = {json.at("step").get<std::int64_t>(), json.at("seconds").get<double>()};
  } catch (const JsonError& error) {
    fail(std::string("its progress ") + error.what());
  } catch (const Json::exception&) {
    fail("its progress cannot be read");
  }
  if (progress.step < 0 || !(progress.seconds >= 0)) fail("its progress is negative");

  const at::NoGradGuard guard;
  std::size_t taken = 0;
  for (const auto& [prefix, tensors] : groups_of(network, adam))
    for (auto& [name, tensor] : tensors) {
      const auto found = file.tensors.find(prefix + name);
      if (found == file.tensors.end()) fail("it lacks tensor " + (prefix + name));
      if (found->second.shape != tensor.sizes().vec() || found->second.storage != Storage::f32)
        fail("tensor " + found->first + " is " + to_string(found->second.shape) + " of " +
             name_of(found->second.storage) + ", should be " + to_string(tensor.sizes().vec()) +
             " of F32");
      std::ranges::copy(floats(found->second), tensor.data_ptr<float>());
      ++taken;
    }
  if (taken != file.tensors.size()) fail("it holds tensors that are not known");
  return progress;
}

}  // namespace lm
