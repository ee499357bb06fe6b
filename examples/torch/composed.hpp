// SPDX-License-Identifier: MIT
/// @file
/// Selective attention as one composes it of PyTorch's operations.
#pragma once

#include <ATen/ATen.h>
#include <cmath>
#include <cstdint>

namespace heed_torch {

/// The definition, an N × N tensor a step. As thrifty as compositions get: q is scaled, not the
/// scores, and one subtraction does for F and the causal mask.
///
/// @param q, k, v  [B, H, N, D], [B, H, N, D], [B, H, N, Dv].
inline at::Tensor composed_selective_attention(const at::Tensor& q, const at::Tensor& k,
                                               const at::Tensor& v) {
  const std::int64_t rows = q.size(2);
  const at::Tensor scores = at::matmul(q / std::sqrt(double(q.size(3))), k.transpose(2, 3));

  // Votes of head 0, none for the first token or for oneself, and each for the rows below.
  at::Tensor votes = at::relu(scores.select(1, 0)).tril(-1);
  votes = at::constant_pad_nd(votes.narrow(2, 1, rows - 1).narrow(1, 0, rows - 1), {1, 0, 1, 0});
  const at::Tensor hidden = at::ones({rows, rows}, at::TensorOptions().dtype(at::kBool)).triu(1);
  const at::Tensor f = votes.cumsum(1).masked_fill(hidden, INFINITY);

  return at::matmul(at::softmax(scores - f.unsqueeze(1), 3), v);
}

}  // namespace heed_torch
