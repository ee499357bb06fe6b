// SPDX-License-Identifier: MIT
/// @file
/// The steps attention is composed of, as a library of matrices offers them.
#pragma once

#include "heed/core/views.hpp"

#include <Eigen/Core>

#include <memory>
#include <string>

namespace compare {

using heed::Index;

using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using ConstBlock = Eigen::Ref<const Matrix, 0, Eigen::OuterStride<>>;
using Block = Eigen::Ref<Matrix, 0, Eigen::OuterStride<>>;

class Steps {
 public:
  virtual ~Steps() = default;
  virtual std::string name() const = 0;
  virtual std::string version() const = 0;

  /// s = q kᵀ
  virtual void scores(const ConstBlock& q, const ConstBlock& k, Block s) = 0;
  /// Scores to weights. Row r sees its first `visible` + r columns, or all.
  virtual void softmax(Block s, Index visible);
  /// out = weights · v
  virtual void mix(const ConstBlock& weights, const ConstBlock& v, Block out) = 0;
};

std::unique_ptr<Steps> eigen_steps();
std::unique_ptr<Steps> openblas_steps();
std::unique_ptr<Steps> onednn_steps();

}  // namespace compare
