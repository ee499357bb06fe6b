// SPDX-License-Identifier: MIT
/// @file The fused forward pass.
#pragma once

#include "heed/engine/schedule/forward_pass.hpp"

namespace heed::inline HEED_ABI {
namespace detail {

template <class X>
inline constexpr bool is_of_bfloat16 = false;
template <class X>
requires TensorLike<X, 4>
inline constexpr bool is_of_bfloat16<X> = is_bfloat16<ScalarOf<X>>;

/// Can what is stored in these be multiplied as it is?
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
/// with g = h div (H / G). What the variant hides is not computed where a whole tile is hidden, and
/// never reaches a result, be it NaN. A row that sees no key is zero, its lse −∞.
///
/// T, float or double, is the number type of out and lse, and what is computed in. If q, k and v
/// are all of bfloat16, this is compiled for AVX512_BF16, maybe for AMX_BF16, and the processor
/// gains, see Options::bfloat16, both products multiply bfloat16, w rounded to the nearest, and sum
/// in float: two to three times the speed. Rounded are also values after their temperature, unless
/// a few rows read them as they are stored and take it in w, and the queries and keys of a
/// selective projection. All else stays in float. A weight that rounds to nought hides its value,
/// be it NaN.
///
/// @param q        [B, H, Nq, D], T or stored in 16 bits (Eigen::half, Eigen::bfloat16) and
///                 widened where it is read; finite where visible.
/// @param k        [B, G, Nk, D], H a multiple of G; likewise, or Quantized.
/// @param v        [B, G, Nk, Dv], likewise.
/// @param variant  a stage or several joined by `|`, such as `standard | causal | selective`.
/// @param out      [B, H, Nq, Dv], overwritten; overlaps none of the others.
/// @param lse      [B, H, Nq], overwritten.
/// @return what was computed, for comparison with what is visible.
/// @throws ShapeError, ValueError naming both sides; std::bad_alloc where scratch finds no memory.
///     Nothing is written then. Tensors without numbers may be of null data, those that are read
///     may overlap one another, and their strides may be 0.
/// @note Time 2 (D + Dv) FLOP a visited pair; scratch O(B G Nk (D + Dv)) for packed keys and values
///       and O(Nk) a thread. Rows are independent and run in parallel unless a stage carries
///       something down them, when heads and batch entries do. So few queries that those of a key
///       head make one strip, 96 rows, read each key once: nothing is packed beforehand, up to 12
///       rows read keys and values as they are stored, and long ones are cut into spans that run
///       in parallel. Bit for bit the same for any number of threads.
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
    detail::Pass<T, decltype(blocking), Variant> pass(q, k, v, variant, &tensors);
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

/// Without the log-sum-exp.
template <class Q, TokensLike K, TokensLike V, Stage Variant, class Out>
WorkStats forward(const Q& q, const K& k, const V& v, const Variant& variant, Out&& out,
                  const Options& options = {}) {
  return forward(q, k, v, variant, out, View<ScalarOf<Out>, 3>{}, options);
}

}  // namespace heed::inline HEED_ABI
