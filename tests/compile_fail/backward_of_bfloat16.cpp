// SPDX-License-Identifier: MIT
// expect: heed: backward takes all its tensors in float, or all in double
#include <heed/heed.hpp>

#ifdef HEED_EXPECT_FAILURE
using Value = Eigen::bfloat16;
#else
using Value = float;
#endif

void softmax_backward(const heed::View<Value, 4>& x, const heed::View<float, 4>& grad,
                      const heed::View<float, 3>& lse) {
  heed::backward(x, x, x, heed::standard | heed::causal, grad, lse, grad, grad, grad, grad);
}
