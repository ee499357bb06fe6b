// SPDX-License-Identifier: MIT
/// @file
/// The kernels of heed_backward().
#pragma once

#include "heed/c/variant.hpp"
#include "heed/engine/backward.hpp"

namespace heed::inline HEED_ABI::c_interface {

template <class T>
heed_work backward(const c::BackwardArguments& x) {
  const auto in = [](const char* what, const heed_tensor* t) {
    return required<const T, 4>(what, t);
  };
  const auto to = [](const char* what, const heed_tensor* t) { return required<T, 4>(what, t); };
  const View<const T, 4> q = in("q", x.q), k = in("k", x.k), v = in("v", x.v),
                         out = in("out", x.out), grad_out = in("grad_out", x.grad_out);
  const View<const T, 3> lse = required<const T, 3>("lse", x.lse),
                         grad_lse = view<const T, 3>("grad_lse", x.grad_lse);
  const View<T, 4> grad_q = to("grad_q", x.grad_q), grad_k = to("grad_k", x.grad_k),
                   grad_v = to("grad_v", x.grad_v);
  // One type of variants: here the stages that are off cost little beside the products.
  const VariantStages<T> stages(*x.variant, false);
  return work_of(heed::backward(
      q, k, v,
      stages.scaling() | stages.shaping() | stages.ranges() | stages.masks() | stages.selection(),
      out, lse, grad_out, grad_lse, grad_q, grad_k, grad_v, options_of(*x.run)));
}

}  // namespace heed::inline HEED_ABI::c_interface
