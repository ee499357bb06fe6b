// SPDX-License-Identifier: MIT
/// @file
/// What every contender is given, and what it gives back.
#pragma once

#include "case.hpp"
#include "random.hpp"

#include <vector>

namespace compare {

/// The tokens held after the first N tokens of a text, with eviction by selection.
struct Held {
  std::vector<Index> positions;
  std::vector<float> masked;  ///< F of each
};

/// The tensors of a case, random.
struct Inputs {
  explicit Inputs(const Case& asked);

  /// Tokens that come after the first N, one by one and then again, where the case forgets.
  static constexpr Index coming = 32;

  Case what;
  bench::Tensor<float, 4> q, k, v;   ///< [1, H, rows, D], [1, G, N, D] twice
  bench::Tensor<float, 4> grad_out;  ///< as q, where the case trains
  Held held;                         ///< where the case forgets
};

/// out; then the gradients of q, k and v, where the case trains.
using Results = std::vector<std::vector<float>>;

/// How far results are from others: |a − b| / |b|, the largest of all tensors.
/// @throws std::runtime_error if they are not of one shape.
double difference(const Results& a, const Results& b);

}  // namespace compare
