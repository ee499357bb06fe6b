// SPDX-License-Identifier: MIT
#include "lm/train/adamw.hpp"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <cmath>

namespace lm {

AdamW::AdamW(const Config& config, Tensors& parameters, const AdamWOptions& options)
    : options_(options), parameters_(parameters) {
  for (const auto& [name, tensor] : parameters) {
    means_[name] = at::zeros_like(tensor);
    squares_[name] = at::zeros_like(tensor);
  }
  for (const Parameter& p : lm::parameters(config))
    decay_[p.name] = p.kind == Parameter::Kind::matrix ? options.weight_decay : 0;
}

double AdamW::clip(double most) {
  const at::NoGradGuard guard;
  double square = 0;
  for (const auto& [name, tensor] : parameters_)
    square += tensor.grad().square().sum().item<double>();
  const double norm = std::sqrt(square);
  if (norm > most)
    for (auto& [name, tensor] : parameters_) tensor.mutable_grad().mul_(most / norm);
  return norm;
}

void AdamW::step(std::int64_t step, double rate) {
  const at::NoGradGuard guard;
  const double mean_bias = 1 - std::pow(options_.beta_mean, double(step)),
               square_bias = 1 - std::pow(options_.beta_square, double(step));
  for (auto& [name, tensor] : parameters_) {
    const at::Tensor grad = tensor.grad();
    at::Tensor &mean = means_[name], &square = squares_[name];
    mean.mul_(options_.beta_mean).add_(grad, 1 - options_.beta_mean);
    square.mul_(options_.beta_square).addcmul_(grad, grad, 1 - options_.beta_square);
    tensor.mul_(1 - rate * decay_[name]);
    tensor.addcdiv_(mean, (square / square_bias).sqrt_().add_(options_.epsilon), -rate / mean_bias);
    tensor.mutable_grad() = at::Tensor();
  }
}

}  // namespace lm
