// SPDX-License-Identifier: MIT
/// @file
/// Includes Eigen's tensors, for programs that pass them. Views accept them without this header.
#pragma once

#include "heed/core/views.hpp"

#include <unsupported/Eigen/CXX11/Tensor>

static_assert(heed::EigenTensor<Eigen::Tensor<float, 4, Eigen::RowMajor>, 4>);
static_assert(
    heed::EigenTensor<Eigen::TensorMap<const Eigen::Tensor<double, 4, Eigen::RowMajor>>, 4>);
