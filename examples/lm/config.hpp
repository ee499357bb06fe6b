// SPDX-License-Identifier: MIT
/// @file
/// What a language model is made of: sizes, attention, and the parameters that follow.
#pragma once

#include "lm/safetensors.hpp"

#include <cstdint>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

namespace lm {

/// Sizes or choices that do not fit together.
struct ConfigError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// SSA: τ(n) = 1 + σ(α) log n, with one α a layer (arXiv:2411.12892).
struct Temperatures {
  bool token = false;   ///< + tanh f(token)
  bool value = false;   ///< On values as on queries.
  bool shared = false;  ///< f = w · q (or v) of a head, in place of a layer of its own on x.
};

/// Mixed spans: the layers named see all of their past, the rest a window or a block.
struct Spans {
  std::vector<std::int64_t> full_layers;
  std::optional<std::int64_t> window;  ///< Tokens seen, the row's own among them.
  std::optional<std::int64_t> block;   ///< Tokens of a block.
};

/// A decoder-only transformer over bytes: pre-norm (RMSNorm), rotary positions, SwiGLU, the
/// embedding tied to the output.
struct Config {
  static constexpr std::int64_t vocabulary = 256;
  static constexpr double norm_epsilon = 1e-5;

  std::int64_t layers = 4, heads = 4, dim = 128, head_dim = 32, hidden = 352;
  std::int64_t context = 512;  ///< Tokens it was trained on at once.
  bool qk_norm = false;
  double rotary_base = 10000;

  bool selective = false;
  std::optional<Temperatures> temperatures;
  std::optional<Spans> spans;

  bool is_full(std::int64_t layer) const;

  /// "selective+ssa", the mechanisms that are on; "standard" if none is.
  std::string attention_name() const;
};

/// @throws ConfigError
void check(const Config& config);

std::string to_json(const Config& config);
/// @throws ConfigError if a key is missing, unknown, or of the wrong kind, or the whole unfit.
Config config_from_json(const std::string& text);

/// A parameter by name, and how it is initialised.
struct Parameter {
  std::string name;
  Shape shape;
  enum class Kind { matrix, norm, gain, feature } kind;

  std::int64_t size() const;
};

/// All of a model's parameters, in one fixed order.
std::vector<Parameter> parameters(const Config& config);

}  // namespace lm
