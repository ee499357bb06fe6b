// SPDX-License-Identifier: MIT
// expect: heed: this stage reads keys by index, which a buffer's slots do not have
#include <heed/heed.hpp>

void decode(heed::KvBuffer<float>& buffer, heed::View<const float, 4> x, heed::View<float, 4> out) {
#ifdef HEED_EXPECT_FAILURE
  buffer.step(x, x, x, heed::standard | heed::window(8, 0), out);
#else
  buffer.step(x, x, x, heed::standard | heed::softcap(8), out);
#endif
}
