// SPDX-License-Identifier: MIT
// Compiled twice, as `narrow` and as `wide`.
#include <heed/heed.hpp>

#include <array>
#include <stdexcept>

extern "C" bool UNIT(const float* q, const float* k, const float* v, float* out, long tokens,
                     long dim) {
  const std::array<heed::Index, 4> shape{1, 1, tokens, dim}, shorter{1, 1, tokens - 1, dim};
  const heed::View<const float, 4> queries(q, shape), keys(k, shape), values(v, shape);
  heed::forward(queries, keys, values, heed::standard | heed::causal,
                heed::View<float, 4>(out, shape));
  // The way out by a refusal is compiled twice as well.
  try {
    heed::forward(queries, keys, values, heed::standard | heed::causal,
                  heed::View<float, 4>(out, shorter));
  } catch (const std::invalid_argument&) {
    return true;
  }
  return false;
}
