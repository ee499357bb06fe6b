// SPDX-License-Identifier: MIT
/// @file
/// Merges the attention over two disjoint sets of keys.
#pragma once

#include "heed/engine/forward.hpp"

namespace heed::inline HEED_ABI {

/// Merges partial results over disjoint sets of keys:
///
///     lse = log(exp lse_a + exp lse_b),   out = exp(lse_a − lse) out_a + exp(lse_b − lse) out_b
///
/// The operation is associative and commutative up to rounding: parts may be merged in any order,
/// along a ring or a tree. A sink counts as a key: give it to one part only.
///
/// @param out_a, out_b  [B, H, N, Dv].
/// @param lse_a, lse_b  [B, H, N]; −∞ in rows that saw no key.
/// @param out, lse      overwritten; may be the very tensors out_a and lse_a, or out_b and lse_b.
/// @throws ShapeError if the dimensions differ, or if out or lse overlaps a tensor in any other
///     way.
///                                                                          arXiv:2501.01005, 2.2
template <class A, class LA, class B, class LB, class Out, class L>
void merge(const A& out_a, const LA& lse_a, const B& out_b, const LB& lse_b, Out&& out, L&& lse) {
  using T = ScalarOf<Out>;
  const View<const T, 4> a(out_a), b(out_b);
  const View<const T, 3> la(lse_a), lb(lse_b);
  const View<T, 4> to(out);
  const View<T, 3> l(lse);
  const Dims<3> rows{a.dim(0), a.dim(1), a.dim(2)};
  expect_dims("out_b", b.dims(), a.dims(), "the dimensions of out_a");
  expect_dims("out", to.dims(), a.dims(), "the dimensions of out_a");
  expect_dims("lse_a", la.dims(), rows, "one number per row of out_a");
  expect_dims("lse_b", lb.dims(), rows, "one number per row of out_b");
  expect_dims("lse", l.dims(), rows, "one number per row of out");
  detail::CallTensors tensors;
  tensors.reads("out_a", a), tensors.reads("out_b", b);
  tensors.reads("lse_a", la), tensors.reads("lse_b", lb);
  tensors.writes("out", to, {"out_a", "out_b"}), tensors.writes("lse", l, {"lse_a", "lse_b"});
  for (Index n = 0; n < rows[0]; ++n)
    for (Index h = 0; h < rows[1]; ++h)
      for (Index i = 0; i < rows[2]; ++i) {
        // Each side is a finished softmax state: its sum is 1 and its maximum is its lse. An lse of
        // −∞ is replaced by a finite number, so that −∞ − −∞ is never computed.
        const T x = la(n, h, i), y = lb(n, h, i);
        const bool has_a = !(x < masked_below<T>), has_b = !(y < masked_below<T>);
        const auto factors = detail::MergeFactors<T>::of(
            has_a ? x : detail::no_maximum<T>, has_b ? y : detail::no_maximum<T>, [](T exponent) {
              constexpr T least = T(simd::least_exponent<T>) * simd::ln2<T>;
              return exponent < least ? T(0) : std::exp(exponent);
            });
        const T wa = has_a ? factors.first : T(0), wb = has_b ? factors.second : T(0),
                sum = wa + wb;
        const bool empty = !has_a && !has_b;
        l(n, h, i) = empty ? -std::numeric_limits<T>::infinity() : factors.max + std::log(sum);
        const T fa = empty ? T(0) : wa / sum, fb = empty ? T(0) : wb / sum;
        for (Index d = 0; d < to.dim(3); ++d)
          to(n, h, i, d) =
              (has_a ? fa * a(n, h, i, d) : T(0)) + (has_b ? fb * b(n, h, i, d) : T(0));
      }
}

}  // namespace heed::inline HEED_ABI
