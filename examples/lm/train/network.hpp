// SPDX-License-Identifier: MIT
/// @file
/// The language model as LibTorch differentiates it, its attention heed's.
#pragma once

#include "lm/checkpoint.hpp"

#include <ATen/core/Tensor.h>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace lm {

/// What a forward pass yields.
struct Predictions {
  at::Tensor logits;               ///< [B, N, 256]
  std::vector<at::Tensor> memory;  ///< [B, N] of each layer: M, where asked for.
};

class Network {
 public:
  /// Weights drawn from N(0, 0.02²), those that write into the residual stream with 1/√(2 layers)
  /// of that; norms are 1, the temperatures' features 0 and gains −4, so that τ begins near 1.
  Network(const Config& config, std::uint64_t seed);
  explicit Network(const Checkpoint& checkpoint);

  const Config& config() const { return config_; }
  Checkpoint checkpoint() const;

  /// By the names of lm::parameters().
  std::map<std::string, at::Tensor>& parameters() { return parameters_; }

  /// @param tokens  int64 [B, N].
  /// @param with_memory  M of each layer too, which only selective attention has.
  Predictions forward(const at::Tensor& tokens, bool with_memory = false) const;

 private:
  const at::Tensor& parameter(std::int64_t layer, const char* name) const;
  at::Tensor attention(std::int64_t layer, const at::Tensor& x, bool with_memory,
                       Predictions& predictions) const;
  at::Tensor temperature(std::int64_t layer, const std::string& of, const at::Tensor& x,
                         const at::Tensor& heads) const;

  Config config_;
  std::map<std::string, at::Tensor> parameters_;
};

}  // namespace lm
