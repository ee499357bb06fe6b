// SPDX-License-Identifier: MIT
// expect: heed: q, k, v, out and lse must have one number type, but q, k and v may also
#include <heed/heed.hpp>

#ifdef HEED_EXPECT_FAILURE
using Value = double;
#else
using Value = float;
#endif

void attend(const heed::View<float, 4>& x, const heed::View<Value, 4>& v) {
  heed::forward(x, x, v, heed::standard | heed::causal, x);
}
