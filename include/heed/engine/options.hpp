// SPDX-License-Identifier: MIT
/// @file What every call begins with: how it runs, and what the variant makes of the shapes.
#pragma once

#include "heed/core/executor.hpp"
#include "heed/core/shape.hpp"
#include "heed/core/workspace.hpp"
#include "heed/engine/bfloat16.hpp"
#include "heed/engine/quantized.hpp"
#include "heed/score/stage.hpp"
#include "heed/simd/pack.hpp"

#include <limits>
#include <optional>

namespace heed::inline HEED_ABI {

/// How a call runs; what it computes does not depend on it, but for `negligible` and `bfloat16`.
struct Options {
  Executor executor{};             ///< Whose threads; serial() by default.
  Workspace* workspace = nullptr;  ///< Kept between calls, saves taking memory in each.
  /// Softmax weight that may be lost from a row, of 1 in all: keys that selection has masked so
  /// much that no row to come can give all of them together more are dropped from the work. By
  /// default half a unit in the last place of 1, 6e-8 for float; 0 drops nothing. backward() leaves
  /// out whole blocks of such keys, of gradients that carry no more of the weight.
  std::optional<double> negligible{};
  /// How forward() multiplies where q, k and v are all of bfloat16. By default, and where that is
  /// not to be had, as is fastest on the processor at hand, see fastest_bfloat16(). Tiles, unless
  /// pairs or widened is asked for, are asked of the system once, see simd::offers_tiles().
  std::optional<Bfloat16> bfloat16{};
};

namespace detail {

/// What the variant makes of the shapes, once it has been checked, with its tensors beside those
/// that the call has named.
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

/// Names queries, keys or values.
template <TensorLike<4> X>
void reads_tokens(CallTensors& call, const char* what, const char*, const X& x) {
  call.reads(what, View<const ScalarOf<X>, 4>(x));
}
template <class T, class S>
void reads_tokens(CallTensors& call, const char* what, const char* scale,
                  const Quantized<T, S>& x) {
  call.reads(what, x.numbers), call.reads(scale, x.scale);
}

/// @throws ValueError unless it is one of those there are.
inline void check_bfloat16(const std::optional<Bfloat16>& by) {
  if (by && (*by < Bfloat16::widened || *by > Bfloat16::tiles))
    throw ValueError("Options::bfloat16 is ", int(*by), ", must be widened, pairs or tiles");
}

/// [B, N, D] as [B, 1, N, D].
template <class T>
View<const T, 4> as_one_head(const View<const T, 3>& x) {
  return {x.data(), {x.dim(0), 1, x.dim(1), x.dim(2)}, {x.stride(0), 0, x.stride(1), x.stride(2)}};
}

/// `negligible` of Options or KvOptions, or what it is by default.
template <class T>
double negligible_weight(const std::optional<double>& given) {
  const double all = given.value_or(std::numeric_limits<T>::epsilon() / 2);
  if (!simd::all_finite(&all, 0, 1, 1) || all < 0 || all > 1)  // by bits: -ffast-math
    throw ValueError("negligible is ", all, ", a share of a row's weight lies in 0 … 1");
  return all;
}

}  // namespace detail
}  // namespace heed::inline HEED_ABI
