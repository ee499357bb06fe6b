// SPDX-License-Identifier: MIT
// expect: heed takes row-major tensors
#include <unsupported/Eigen/CXX11/Tensor>

#include <heed/core/views.hpp>

#ifdef HEED_EXPECT_FAILURE
constexpr int layout = Eigen::ColMajor;
#else
constexpr int layout = Eigen::RowMajor;
#endif

heed::View<float, 4> view(Eigen::Tensor<float, 4, layout>& tensor) {
  return tensor;
}
