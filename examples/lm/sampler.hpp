// SPDX-License-Identifier: MIT
/// @file
/// The next byte, drawn from logits.
#pragma once

#include "lm/model.hpp"

#include <cstdint>

namespace lm {

class Sampler {
 public:
  /// @param temperature  0 takes the likeliest, 1 draws as the model says.
  Sampler(double temperature, std::uint64_t seed) : temperature_(temperature), state_(seed) {}

  std::uint8_t draw(const Eigen::Ref<const Eigen::Matrix<float, 1, Eigen::Dynamic>>& logits);

 private:
  double temperature_;
  std::uint64_t state_;
};

}  // namespace lm
