// SPDX-License-Identifier: MIT
/// @file
/// The language model on heed and Eigen alone: it reads tokens through its memory.
#pragma once

#include "lm/checkpoint.hpp"
#include "lm/memory.hpp"
#include "lm/shared_memory.hpp"
#include "lm/text.hpp"

#include <Eigen/Core>

#include <functional>

namespace lm {

using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

/// Is shown them before, and says what else the buffer is to write.
using Observer = std::function<heed::KvBuffer<float>::Step(std::int64_t layer, const Heads& heads)>;

class Model {
 public:
  explicit Model(const Checkpoint& checkpoint);

  const Config& config() const { return config_; }

  /// Reads tokens: one, a prompt, or a piece of one.
  /// @return [tokens, 256], the logits of each one's successor.
  Matrix forward(Bytes tokens, Memory& memory, const Observer& observer = {}) const;

  /// Reads tokens of several texts at once. Where the pool runs out of pages the last texts are put
  /// back: their memories are closed, and the step goes on without them.
  /// @param pieces  different texts, each with one token or more.
  /// @return [rows of the texts that are left, 256], one text after the other.
  /// @throws OutOfPages if the pool has no room for the first text alone; its memory is closed
  /// then.
  Matrix forward(std::span<const Piece> pieces, SharedMemory& memory) const;

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

  /// Attends for a layer's rows, with the temperatures of their queries if there are any.
  using Attend =
      std::function<void(std::int64_t layer, const Heads& heads,
                         const heed::View<const float, 3>& tau, const heed::View<float, 4>& out)>;

  void read_rows(Bytes tokens, const std::vector<std::int64_t>& positions, const Attend& attend,
                 Eigen::Ref<Matrix> logits) const;
  Matrix attention(std::int64_t l, const Matrix& x, const std::vector<std::int64_t>& positions,
                   const Attend& attend) const;
  Matrix temperature(const Temperature& of, const Matrix& x, Eigen::Ref<const Matrix> heads,
                     const std::vector<std::int64_t>& positions) const;

  Config config_;
  Matrix embedding_;
  Vector final_norm_;
  std::vector<Layer> layers_;
};

}  // namespace lm
