// SPDX-License-Identifier: MIT
/// @file
/// The loss that asks selective attention to forget (arXiv:2410.02703):
///
///     ε · mean_b Σ_l max_i M_l[b,i] / (layers · length[b])
#pragma once

#include "reference/array.hpp"

#include <vector>

namespace reference {

struct MemoryLoss {
  double loss = 0;
  Array argmax_row;  // [layers, B], the first row that attains the maximum
};

/// @param m  one [B, N] a layer: memory_use(F).
inline MemoryLoss memory_loss(const std::vector<Array>& m, double eps,
                              const std::vector<Index>& lengths) {
  const Index layers = Index(m.size()), B = m[0].dim(0);
  MemoryLoss result;
  result.argmax_row = Array({layers, B});
  for (Index l = 0; l < layers; ++l)
    for (Index b = 0; b < B; ++b) {
      const Array& use = m[static_cast<std::size_t>(l)];
      const Index length = lengths[static_cast<std::size_t>(b)];
      Index best = 0;
      for (Index i = 1; i < length; ++i)
        if (use(b, i) > use(b, best)) best = i;
      result.argmax_row(l, b) = double(best);
      result.loss += eps * use(b, best) / double(layers * length * B);
    }
  return result;
}

/// ∂ of it by each M: one row of each sequence and layer.
inline std::vector<Array> memory_loss_backward(const std::vector<Array>& m, double eps,
                                               const std::vector<Index>& lengths) {
  const MemoryLoss loss = memory_loss(m, eps, lengths);
  std::vector<Array> grad;
  for (std::size_t l = 0; l < m.size(); ++l) {
    grad.emplace_back(m[l].dims);
    for (Index b = 0; b < m[l].dim(0); ++b)
      grad[l](b, Index(loss.argmax_row(l, b))) =
          eps / double(Index(m.size()) * lengths[static_cast<std::size_t>(b)] * m[l].dim(0));
  }
  return grad;
}

}  // namespace reference
