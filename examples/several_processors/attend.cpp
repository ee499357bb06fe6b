// SPDX-License-Identifier: MIT
// The kernels: compiled once for each instruction set. All stays in the unnamed namespace.
#include "attend.hpp"

#include <heed/heed.hpp>

namespace {

void selective(const float* q, const float* k, const float* v, float* out, long heads, long tokens,
               long dim) {
  const heed::Dims<4> shape{1, heads, tokens, dim};
  using In = heed::View<const float, 4>;
  heed::selective_attention(In(q, shape), In(k, shape), In(v, shape),
                            heed::View<float, 4>(out, shape));
}

}  // namespace

HEED_KERNELS(Attend, selective);
