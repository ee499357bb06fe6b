// SPDX-License-Identifier: MIT
// expect: no viable conversion|could not convert
#include <heed/core/views.hpp>

#ifdef HEED_EXPECT_FAILURE
using Given = heed::View<const float, 4>;
#else
using Given = heed::View<float, 4>;
#endif

heed::View<float, 4> writable(const Given& view) {
  return view;
}
