// SPDX-License-Identifier: MIT
// expect: heed: the bias must have the number type of out
#include <heed/heed.hpp>

#ifdef HEED_EXPECT_FAILURE
using Value = double;
#else
using Value = float;
#endif

void attend(const heed::View<float, 4>& x, const heed::View<const Value, 4>& scores) {
  heed::forward(x, x, x, heed::standard | heed::bias(scores), x);
}
