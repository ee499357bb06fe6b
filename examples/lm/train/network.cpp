// SPDX-License-Identifier: MIT
#include "lm/train/network.hpp"

#include "attention.hpp"

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <algorithm>
#include <cmath>

namespace lm {
namespace {

at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight) {
  return x * at::rsqrt(x.square().mean(-1, true) + Config::norm_epsilon) * weight;
}

/// Rotary positions, pairs interleaved: each pair is a complex number, turned by a factor of its
/// own. x is [B, N, heads, D].
at::Tensor rotary(const at::Tensor& x, double base) {
  const std::int64_t tokens = x.size(1), half = x.size(3) / 2;
  const auto in_double = at::TensorOptions().dtype(at::kDouble);
  const at::Tensor pair = at::arange(half, in_double),
                   angle = at::outer(at::arange(tokens, in_double),
                                     at::pow(base, pair * (-1. / double(half))));
  const at::Tensor turn =
      at::complex(angle.cos().to(at::kFloat), angle.sin().to(at::kFloat)).unsqueeze(1);
  const at::Tensor pairs = at::view_as_complex(x.view({x.size(0), tokens, x.size(2), half, 2}));
  return at::view_as_real(pairs * turn).flatten(-2);
}

}  // namespace

Network::Network(const Config& config, std::uint64_t seed) : config_(config) {
  check(config);
  at::Generator generator = at::detail::createCPUGenerator(seed);
  for (const Parameter& p : lm::parameters(config)) {
    at::Tensor values;
    switch (p.kind) {
      case Parameter::Kind::matrix: {
        const bool residual = p.name.ends_with("attention_out") || p.name.ends_with("down");
        const double deviation = residual ? 0.02 / std::sqrt(2. * double(config.layers)) : 0.02;
        values = at::randn(p.shape, generator) * deviation;
        break;
      }
      case Parameter::Kind::norm:
        values = at::ones(p.shape);
        break;
      case Parameter::Kind::gain:
        values = at::full(p.shape, -4.);
        break;
      case Parameter::Kind::feature:
        values = at::zeros(p.shape);
        break;
    }
    parameters_[p.name] = values.requires_grad_();
  }
}

Network::Network(const Checkpoint& checkpoint) : config_(checkpoint.config) {
  for (const Parameter& p : lm::parameters(config_)) {
    const at::Tensor values = at::empty(p.shape);
    std::ranges::copy(checkpoint.values.at(p.name), values.data_ptr<float>());
    parameters_[p.name] = at::Tensor(values).requires_grad_();
  }
}

Checkpoint Network::checkpoint() const {
  Checkpoint checkpoint{config_, {}, {}};
  for (const auto& [name, tensor] : parameters_) {
    const float* first = tensor.data_ptr<float>();
    checkpoint.values[name].assign(first, first + tensor.numel());
  }
  return checkpoint;
}

const at::Tensor& Network::parameter(std::int64_t layer, const char* name) const {
  return parameters_.at("layers." + std::to_string(layer) + "." + name);
}

/// @param of  "query_temperature" or "value_temperature".
/// @param x  [B, N, dim], what entered the layer.   @param heads  [B, N, H, D], its queries or
///     values.
/// @return [B, H or 1, N].
at::Tensor Network::temperature(std::int64_t layer, const std::string& of, const at::Tensor& x,
                                const at::Tensor& heads) const {
  const at::Tensor place = at::arange(1, x.size(1) + 1, x.options()).log();
  const at::Tensor position = 1 + parameter(layer, (of + ".gain").c_str()).sigmoid() * place;
  if (!config_.temperatures->token) return position.expand({x.size(0), 1, x.size(1)});
  const at::Tensor& weight = parameter(layer, (of + ".feature").c_str());
  const at::Tensor feature =
      config_.temperatures->shared ? (heads * weight).sum(-1) : at::linear(x, weight);
  return feature.tanh().transpose(1, 2) + position;
}

at::Tensor Network::attention(std::int64_t layer, const at::Tensor& x, bool with_memory,
                              Predictions& predictions) const {
  const Config& c = config_;
  const at::Tensor qkv =
      at::linear(x, parameter(layer, "qkv")).view({x.size(0), x.size(1), 3, c.heads, c.head_dim});
  heed_torch::Tensors in;
  if (c.temperatures) {
    in.tau_q = temperature(layer, "query_temperature", x, qkv.select(2, 0));
    if (c.temperatures->value)
      in.tau_v = temperature(layer, "value_temperature", x, qkv.select(2, 2));
  }
  at::Tensor q = qkv.select(2, 0), k = qkv.select(2, 1);
  if (c.qk_norm) {
    q = rotary(rms_norm(q, parameter(layer, "query_norm")), c.rotary_base);
    k = rotary(rms_norm(k, parameter(layer, "key_norm")), c.rotary_base);
  } else {
    // Queries and keys lie side by side: they are turned as one.
    const at::Tensor turned = rotary(qkv.narrow(2, 0, 2).flatten(2, 3), c.rotary_base);
    q = turned.narrow(2, 0, c.heads), k = turned.narrow(2, c.heads, c.heads);
  }
  in.q = q.transpose(1, 2), in.k = k.transpose(1, 2), in.v = qkv.select(2, 2).transpose(1, 2);

  heed_torch::Settings settings;
  settings.causal = true;
  settings.selective = c.selective;
  settings.returns_memory = c.selective && with_memory;
  if (!c.is_full(layer)) {
    if (c.spans->window) settings.window_left = *c.spans->window - 1, settings.window_right = 0;
    if (c.spans->block) settings.block_size = *c.spans->block;
  }
  const heed_torch::Outputs outputs = heed_torch::attention(in, settings);
  if (settings.returns_memory) predictions.memory.push_back(outputs.memory);
  return at::linear(outputs.out.transpose(1, 2).flatten(2), parameter(layer, "attention_out"));
}

Predictions Network::forward(const at::Tensor& tokens, bool with_memory) const {
  Predictions predictions;
  const at::Tensor& embedding = parameters_.at("embedding");
  at::Tensor x = at::embedding(embedding, tokens);
  for (std::int64_t l = 0; l < config_.layers; ++l) {
    x = x + attention(l, rms_norm(x, parameter(l, "attention_norm")), with_memory, predictions);
    const auto halves =
        at::linear(rms_norm(x, parameter(l, "feed_norm")), parameter(l, "gate_up")).chunk(2, -1);
    x = x + at::linear(at::silu(halves[0]) * halves[1], parameter(l, "down"));
  }
  predictions.logits = at::linear(rms_norm(x, parameters_.at("final_norm")), embedding);
  return predictions;
}

}  // namespace lm
