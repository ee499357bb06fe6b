// SPDX-License-Identifier: MIT
/// @file
/// The options of a call, and the checks that every call starts with.
#pragma once

#include "heed/core/executor.hpp"
#include "heed/core/shape.hpp"
#include "heed/core/workspace.hpp"
#include "heed/engine/bfloat16.hpp"
#include "heed/engine/quantized.hpp"
#include "heed/score/stage.hpp"

#include <optional>

namespace heed::inline HEED_ABI {

/// How a call runs. Only `negligible` and `bfloat16` change its result.
struct Options {
  Executor executor{};             ///< The threads that run the call; serial() by default.
  Workspace* workspace = nullptr;  ///< If kept between calls, saves an allocation in each.
  /// Pruning tolerance in [0, 1]. Keys that selection has masked so strongly that, all together,
  /// they can receive at most this much of the softmax weight of any later row are pruned. The
  /// default is ulp(1) / 2 (6e-8 in float); 0 disables pruning. backward() skips whole key blocks
  /// by the same test, so that its gradients lose no more of the weight.
  std::optional<double> negligible{};
  /// How forward() multiplies if q, k and v are all bfloat16. The default is the fastest way on
  /// this processor, see fastest_bfloat16(); so is the fallback if the requested way is
  /// unavailable. Tiles need a permission that the library requests from the system once, unless
  /// `pairs` or `widened` is set here, see simd::offers_tiles().
  std::optional<Bfloat16> bfloat16{};
};

namespace detail {

/// Checks the variant against the shapes, and its tensors against those that the call has named.
/// Returns the problem that results.
template <Stage V>
Problem problem_of(const Shape& shape, const V& variant, CallTensors* tensors,
                   bool backward = false) {
  Problem p(shape);
  p.backward = backward;
  hook::place(variant, p);
  p.tensors = tensors;
  hook::check(variant, p);
  p.tensors = nullptr;
  for (Index b = 0; b < p.batch; ++b)
    expect_positions("the position of row 0", p.first_position(b), p.queries);
  return p;
}

/// Adds queries, keys or values to the tensors that the call reads.
template <TensorLike<4> X>
void reads_tokens(CallTensors& call, const char* what, const char*, const X& x) {
  call.reads(what, View<const ScalarOf<X>, 4>(x));
}
template <class T, class S>
void reads_tokens(CallTensors& call, const char* what, const char* scale,
                  const Quantized<T, S>& x) {
  call.reads(what, x.numbers), call.reads(scale, x.scale);
}

/// @throws ValueError unless it is a named value of the enumeration.
inline void check_bfloat16(const std::optional<Bfloat16>& by) {
  if (by && (*by < Bfloat16::widened || *by > Bfloat16::tiles))
    throw ValueError("Options::bfloat16 is ", int(*by), ", must be widened, pairs or tiles");
}

/// Views [B, N, D] as [B, 1, N, D].
template <class T>
View<const T, 4> as_one_head(const View<const T, 3>& x) {
  return {x.data(), {x.dim(0), 1, x.dim(1), x.dim(2)}, {x.stride(0), 0, x.stride(1), x.stride(2)}};
}

}  // namespace detail
}  // namespace heed::inline HEED_ABI
