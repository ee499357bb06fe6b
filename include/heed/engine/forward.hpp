// SPDX-License-Identifier: MIT
/// @file
/// The fused forward pass.
#pragma once

#include "heed/engine/schedule/forward_pass.hpp"

namespace heed::inline HEED_ABI {
namespace detail {

template <class X>
inline constexpr bool is_of_bfloat16 = false;
template <class X>
requires TensorLike<X, 4>
inline constexpr bool is_of_bfloat16<X> = is_bfloat16<ScalarOf<X>>;

/// True if tensors of these types can be multiplied as bfloat16 without widening.
template <class T, class... X>
consteval bool have_bfloat16_products() {
  return simd::multiplies_bfloat16 && std::is_same_v<T, float> && (is_of_bfloat16<X> && ...);
}

template <class T>
void check_output_dims(const Shape& s, const View<const T, 4>& out, const View<const T, 3>& lse) {
  expect_dims("out", out.dims(), {s.batch, s.heads, s.queries, s.value_dim},
              "the heads and rows of q, the dim of v");
  expect_contiguous_rows("out", out);
  if (lse) expect_dims("lse", lse.dims(), {s.batch, s.heads, s.queries}, "one number per row");
}
template <class T>
void check_outputs(const Shape& s, const View<T, 4>& out, const View<T, 3>& lse,
                   CallTensors& tensors) {
  check_output_dims<T>(s, out, lse);
  tensors.writes("out", out), tensors.writes("lse", lse);
}

}  // namespace detail

/// Attention, fused and tiled, exact, in memory linear in the tokens:
///
///     out[b, h, i] = Σ_j w(i, j) v[b, g, j],   w(i, ·) = softmax over the keys i sees of
///                                              variant(q[b, h, i] · k[b, g, j])
///     lse[b, h, i] = log Σ_j exp variant(…)    (natural logarithm)
///
/// with g = h div (H / G). Tiles that the variant masks completely are not computed. A masked key
/// or value never reaches a result, even if it is NaN. A row that sees no key is zero and its lse
/// is −∞.
///
/// T, float or double, is the number type of out and lse and of the computation. If q, k and v are
/// all bfloat16, this code is compiled for AVX512_BF16 (and possibly AMX_BF16), and the processor
/// is faster with it (see Options::bfloat16), both products multiply bfloat16, with w rounded to
/// nearest, and accumulate in float. This is two to three times as fast. Two more kinds of operands
/// are then rounded: the values after their temperature (unless a few rows read the values unpacked
/// and apply the temperature to w), and the queries and keys of a selective projection. Everything
/// else stays in float. A weight that rounds to zero masks its value, even if that is NaN.
///
/// @param q        [B, H, Nq, D], T or a 16-bit type (Eigen::half, Eigen::bfloat16) that is widened
///                 as it is read; finite where visible.
/// @param k        [B, G, Nk, D], H a multiple of G; types as for q, or Quantized.
/// @param v        [B, G, Nk, Dv]; types as for k.
/// @param variant  a stage, or several joined by `|`, such as `standard | causal | selective`.
/// @param out      [B, H, Nq, Dv], overwritten; must not overlap any other tensor.
/// @param lse      [B, H, Nq], overwritten; must not overlap any other tensor.
/// @return the work done, to compare with the number of visible pairs.
/// @throws ShapeError, ValueError naming both sides; std::bad_alloc if scratch memory is exhausted.
///     Nothing is written then. Empty tensors may have null data. Inputs may overlap one another
///     and may have strides of 0.
/// @note Time 2 (D + Dv) FLOP per visited pair; scratch O(B G Nk (D + Dv)) for packed keys and
///       values and O(Nk) per thread. Rows are independent and run in parallel. If a stage carries
///       state from row to row, heads and batch entries run in parallel instead. If all queries of
///       a key head fit one query tile (96 to 768 rows), each key is read once: nothing is packed
///       in advance, up to 12 rows read keys and values unpacked, and long sequences are split
///       along the keys into ranges that run in parallel. The result is bit for bit the same for
///       any number of threads.
template <class Q, TokensLike K, TokensLike V, Stage Variant, class Out, class Lse>
requires TensorLike<Q, 4> && TensorLike<Out, 4> && TensorLike<Lse, 3> WorkStats
forward(const Q& q, const K& k, const V& v, const Variant& variant, Out&& out, Lse&& lse,
        const Options& options = {}) {
  using T = ScalarOf<Out>;
  static_assert(
      StoredFor<Q, T> && StoredFor<K, T> && StoredFor<V, T> && std::is_same_v<T, ScalarOf<Lse>>,
      "heed: q, k, v, out and lse must have one number type, but q, k and v may also be "
      "stored in 16 bits, k and v be Quantized");
  static_assert(std::is_same_v<T, float> || std::is_same_v<T, double>, "heed: float or double");
  const View<T, 4> to(out);
  const View<T, 3> lse_to(lse);
  detail::CallTensors tensors;
  detail::reads_tokens(tensors, "q", "", q);
  detail::reads_tokens(tensors, "k", "the scale of k", k);
  detail::reads_tokens(tensors, "v", "the scale of v", v);
  detail::check_bfloat16(options.bfloat16);
  const auto run = [&](auto blocking) {
    detail::ForwardPass<T, decltype(blocking), Variant> pass(q, k, v, variant, &tensors);
    detail::check_outputs(pass.problem(), to, lse_to, tensors);
    return pass.run(to, lse_to, options);
  };
  if constexpr (detail::have_bfloat16_products<T, Q, K, V>()) {
    const Bfloat16 by = options.bfloat16 ? detail::available(*options.bfloat16)
                                         : fastest_bfloat16(View<const ScalarOf<Q>, 4>(q).dim(2));
    if constexpr (simd::multiplies_tiles)
      if (by == Bfloat16::tiles) return run(TileBlocking());
    if (by == Bfloat16::pairs) return run(PairBlocking());
  }
  return run(Blocking<T>());
}

/// The same without the log-sum-exp.
template <class Q, TokensLike K, TokensLike V, Stage Variant, class Out>
WorkStats forward(const Q& q, const K& k, const V& v, const Variant& variant, Out&& out,
                  const Options& options = {}) {
  return forward(q, k, v, variant, out, View<ScalarOf<Out>, 3>{}, options);
}

}  // namespace heed::inline HEED_ABI
