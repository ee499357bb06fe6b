// SPDX-License-Identifier: MIT
/// @file
/// Adam with decoupled weight decay (arXiv:1711.05101), its state in the open so that it can
/// be saved beside the weights.
#pragma once

#include "lm/config.hpp"

#include <ATen/core/Tensor.h>
#include <cstdint>
#include <map>
#include <string>

namespace lm {

struct AdamWOptions {
  double beta_mean = 0.9, beta_square = 0.95, epsilon = 1e-8;
  double weight_decay = 0.1;  ///< Of matrices; norms, gains and features keep their size.
};

class AdamW {
 public:
  using Tensors = std::map<std::string, at::Tensor>;

  AdamW(const Config& config, Tensors& parameters, const AdamWOptions& options);

  /// Scales all gradients so that their norm is at most `most`.
  /// @return the norm before.
  double clip(double most);

  /// One update; gradients are gone afterwards.
  /// @param step  from 1.
  void step(std::int64_t step, double rate);

  Tensors& means() { return means_; }      ///< of gradients
  Tensors& squares() { return squares_; }  ///< of their squares

 private:
  AdamWOptions options_;
  Tensors& parameters_;
  Tensors means_, squares_;
  std::map<std::string, double> decay_;
};

}  // namespace lm
