// SPDX-License-Identifier: MIT
/// @file
/// The language model on heed and Eigen alone: it reads tokens through its memory.
#pragma once

#include "lm/checkpoint.hpp"
#include "lm/memory.hpp"
#include "lm/text.hpp"

#include <Eigen/Core>

#include <functional>

namespace lm {

using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

/// A layer's queries, keys and values as its buffer takes them, [1, H, tokens, D].
struct Heads {
  heed::View<float, 4> q, k, v;
};
/// Is shown them before, and says what else the buffer is to write.
using Observer = std::function<heed::KvBuffer<float>::Step(std::int64_t layer, const Heads& heads)>;

class Model {
 public:
  explicit Model(const Checkpoint& checkpoint);

  const Config& config() const { return config_; }

  /// Reads tokens: one, a prompt, or a piece of one.
  /// @return [tokens, 256], the logits of each one's successor.
  Matrix forward(Bytes tokens, Memory& memory, const Observer& observer = {}) const;

 private:
  using Vector = Eigen::Matrix<float, 1, Eigen::Dynamic>;
  /// τ = 1 + gain · log n, and tanh of a feature where there is one.
  struct Temperature {
    double gain = 0;
    Matrix feature;  ///< [heads, head_dim or dim], or empty
  };
  struct Layer {
    Vector attention_norm, query_norm, key_norm, feed_norm;
    Matrix qkv, attention_out, gate_up, down;
    std::optional<Temperature> query_temperature, value_temperature;
  };

  void read_piece(Bytes tokens, Memory& memory, const Observer& observer,
                  Eigen::Ref<Matrix> logits) const;
  Matrix attention(std::int64_t l, const Matrix& x, Memory& memory, const Observer& observer) const;
  Matrix temperature(const Temperature& of, const Matrix& x, Eigen::Ref<const Matrix> heads,
                     std::int64_t position) const;

  Config config_;
  Matrix embedding_;
  Vector final_norm_;
  std::vector<Layer> layers_;
};

}  // namespace lm
