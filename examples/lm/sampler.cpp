// SPDX-License-Identifier: MIT
#include "lm/sampler.hpp"

#include <cmath>

namespace lm {

std::uint8_t Sampler::draw(
    const Eigen::Ref<const Eigen::Matrix<float, 1, Eigen::Dynamic>>& logits) {
  Eigen::Index likeliest = 0;
  const float most = logits.maxCoeff(&likeliest);
  if (temperature_ == 0) return std::uint8_t(likeliest);

  // SplitMix64, which is the same everywhere, as the standard's distributions are not.
  std::uint64_t x = state_ += 0x9e3779b97f4a7c15u;
  x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
  x = (x ^ x >> 27) * 0x94d049bb133111ebu;
  const double uniform = double((x ^ x >> 31) >> 11) * 0x1p-53;

  const Eigen::ArrayXd weights =
      ((logits.cast<double>().array() - double(most)) / temperature_).exp().transpose();
  double left = uniform * weights.sum();
  for (Eigen::Index i = 0; i < weights.size(); ++i)
    if ((left -= weights[i]) < 0) return std::uint8_t(i);
  return std::uint8_t(likeliest);
}

}  // namespace lm
