// SPDX-License-Identifier: MIT
// expect: heed: the buffer selects by itself, see KvOptions::select
#include <heed/heed.hpp>

void decode(heed::KvBuffer<float>& buffer, heed::View<const float, 4> x, heed::View<float, 4> out) {
#ifdef HEED_EXPECT_FAILURE
  buffer.step(x, x, x, heed::standard | heed::selective, out);
#else
  buffer.step(x, x, x, heed::standard, out);
#endif
}
