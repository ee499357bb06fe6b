// SPDX-License-Identifier: MIT
// Compiled twice, as `narrow` and as `wide`.
#include <array>
#include <heed/heed.hpp>
#include <stdexcept>

using heed::View;

/// All that a program may call by day: forward, backward, decode, and the way out by a refusal.
extern "C" bool UNIT(const float* q_, const float* k_, const float* v_, float* out_, float* lse_,
                     float* grad_, long tokens, long dim) {
  const std::array<heed::Index, 4> shape{1, 1, tokens, dim}, shorter{1, 1, tokens - 1, dim};
  const View<const float, 4> q(q_, shape), k(k_, shape), v(v_, shape);
  const View<float, 4> out(out_, shape);
  const View<float, 3> lse(lse_, {1, 1, tokens});
  const auto variant = heed::standard | heed::causal | heed::selective;

  heed::KvBuffer<float> buffer(
      {.batch = 1, .heads = 1, .key_heads = 1, .dim = dim, .value_dim = dim}, {.budget = 20});
  buffer.step(q, k, v, heed::standard, out);
  View<float, 4> grads[3];
  for (View<float, 4>& grad : grads) grad = {grad_, shape}, grad_ += tokens * dim;
  heed::forward(q, k, v, variant, out, lse);
  heed::backward(q, k, v, variant, out, lse, q, grads[0], grads[1], grads[2]);
  try {
    heed::forward(q, k, v, variant, View<float, 4>(out_, shorter));
  } catch (const std::invalid_argument&) {
    return true;
  }
  return false;
}
