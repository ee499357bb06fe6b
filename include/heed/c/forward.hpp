// SPDX-License-Identifier: MIT
/// @file
/// The kernels of heed_forward().
#pragma once

#include "heed/c/variant.hpp"
#include "heed/engine/forward.hpp"
#include "heed/engine/quantize.hpp"

namespace heed::inline HEED_ABI::c_interface {

inline void* new_workspace() {
  return new Workspace();
}
inline void delete_workspace(void* workspace) {
  delete static_cast<Workspace*>(workspace);
}

/// Two types of variants serve all calls: instantiations take long to compile. The one without
/// stages that work pair by pair is not slowed down by them.
template <class T, class F>
heed_work with_variant(const heed_variant& variant, bool writes, const F& f) {
  const VariantStages<T> stages(variant, writes);
  if constexpr (std::is_same_v<T, float>)
    if (!stages.has_pair_stages())
      return f(stages.scaling() | stages.ranges() | stages.selection());
  return f(stages.scaling() | stages.shaping() | stages.ranges() | stages.masks() |
           stages.selection());
}

template <class T>
heed_work forward(const c::ForwardArguments& x) {
  const View<T, 4> out = required<T, 4>("out", x.out);
  const View<T, 3> lse = view<T, 3>("lse", x.lse);
  const Options options = options_of(*x.run);
  return with_queries<T, 4>(x.q, [&](const auto& q) {
    return with_keys<T, 4>(x.k, x.v, [&](const auto& k, const auto& v) {
      return with_variant<T>(*x.variant, true, [&](const auto& variant) {
        return work_of(heed::forward(q, k, v, variant, out, lse, options));
      });
    });
  });
}

inline void quantize(const heed_tensor& x, const heed_tensor& numbers) {
  const View<std::int8_t, 4> to = view<std::int8_t, 4>("numbers", &numbers);
  const auto from = [&]<class T>(const T&) {
    heed::quantize(view<const T, 4>("x", &x), to,
                   required<T, 3>("the scale of numbers", numbers.scale));
  };
  if (x.type == HEED_FLOAT64) return from(double());
  if (x.type != HEED_FLOAT32) refuse_type("x", x, "float32 or float64");
  from(float());
}

}  // namespace heed::inline HEED_ABI::c_interface
