// SPDX-License-Identifier: MIT
// expect: heed: this tensor would be gone before it is read; give it a name
#include <heed/heed.hpp>

Eigen::Tensor<float, 1, Eigen::RowMajor> slopes();

auto variant() {
#ifdef HEED_EXPECT_FAILURE
  return heed::standard | heed::alibi(slopes());
#else
  static const Eigen::Tensor<float, 1, Eigen::RowMajor> kept = slopes();
  return heed::standard | heed::alibi(kept);
#endif
}
