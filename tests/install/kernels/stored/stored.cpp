// SPDX-License-Identifier: MIT
#include "stored.hpp"

#include <algorithm>
#include <heed/heed.hpp>

namespace {

using heed::Dims, heed::View;

template <class Q, class Stored>
void attend(const Q* q, const Stored& k, const Stored& v, float* out, const Dims<4>& shape) {
  heed::forward(View<const Q, 4>(q, shape), k, v, heed::standard | heed::causal | heed::selective,
                View<float, 4>(out, shape));
}

/// @tparam Q  what q is stored in.
template <class S, class Q = float>
void rounded(const float* q, const float* k, const float* v, float* out, void* room, long tokens,
             long dim) {
  const Dims<4> shape{1, 1, tokens, dim};
  const long count = tokens * dim;
  S *const keys = static_cast<S*>(room), *const values = keys + count;
  const auto round = [=](const float* x, S* to) {
    std::transform(x, x + count, to, [](float number) { return S(number); });
    return to;
  };
  const View<const S, 4> k_view(round(k, keys), shape), v_view(round(v, values), shape);
  if constexpr (std::is_same_v<Q, S>)
    attend(round(q, values + count), k_view, v_view, out, shape);
  else
    attend(q, k_view, v_view, out, shape);
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
             buffer<std::int8_t>, rounded<Eigen::bfloat16, Eigen::bfloat16>);
