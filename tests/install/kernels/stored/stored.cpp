// SPDX-License-Identifier: MIT
#include "stored.hpp"

#include <algorithm>
#include <heed/heed.hpp>

namespace {

using heed::Dims, heed::View;

template <class Stored>
void attend(const float* q, const Stored& k, const Stored& v, float* out, const Dims<4>& shape) {
  heed::forward(View<const float, 4>(q, shape), k, v,
                heed::standard | heed::causal | heed::selective, View<float, 4>(out, shape));
}

template <class S>
void rounded(const float* q, const float* k, const float* v, float* out, void* room, long tokens,
             long dim) {
  const Dims<4> shape{1, 1, tokens, dim};
  S *const keys = static_cast<S*>(room), *const values = keys + tokens * dim;
  std::transform(k, k + tokens * dim, keys, [](float x) { return S(x); });
  std::transform(v, v + tokens * dim, values, [](float x) { return S(x); });
  attend(q, View<const S, 4>(keys, shape), View<const S, 4>(values, shape), out, shape);
}

void quantized(const float* q, const float* k, const float* v, float* out, void* room, long tokens,
               long dim) {
  const Dims<4> shape{1, 1, tokens, dim};
  float* scales = static_cast<float*>(room);
  std::int8_t* numbers = static_cast<std::int8_t*>(static_cast<void*>(scales + 2 * tokens));
  const auto quantize = [&](const float* x) {
    const View<std::int8_t, 4> to(numbers, shape);
    const View<float, 3> scale(scales, {1, 1, tokens});
    heed::quantize(View<const float, 4>(x, shape), to, scale);
    numbers += tokens * dim, scales += tokens;
    return heed::Quantized<float>{to, scale};
  };
  const heed::Quantized<float> keys = quantize(k), values = quantize(v);
  attend(q, keys, values, out, shape);
}

template <class S>
void buffer(const float* q, const float* k, const float* v, float* out, void*, long tokens,
            long dim) {
  const Dims<4> shape{1, 1, tokens, dim};
  using In = View<const float, 4>;
  heed::KvBuffer<float, S> all(
      {.batch = 1, .heads = 1, .key_heads = 1, .dim = dim, .value_dim = dim}, {.budget = tokens});
  all.step(In(q, shape), In(k, shape), In(v, shape), heed::standard, View<float, 4>(out, shape));
}

}  // namespace

HEED_KERNELS(Stored, rounded<Eigen::half>, rounded<Eigen::bfloat16>, quantized, buffer<Eigen::half>,
             buffer<std::int8_t>);
