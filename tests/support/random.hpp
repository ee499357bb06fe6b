// SPDX-License-Identifier: MIT
/// @file
/// Reproducible inputs, the same under every standard library: its distributions may differ,
/// its engines may not.
#pragma once

#include "support/tensors.hpp"

#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <random>

namespace heed::test {

/// Standard normal and uniform numbers from one seed.
class Random {
 public:
  explicit Random(std::uint64_t seed) : engine_(seed) {}

  /// In [0, 1).
  double uniform() { return double(engine_() >> 11) * 0x1p-53; }

  /// In [low, high).
  std::ptrdiff_t integer(std::ptrdiff_t low, std::ptrdiff_t high) {
    return low + std::ptrdiff_t(uniform() * double(high - low));
  }

  /// Box and Muller, one of the two.
  double normal() {
    const double radius = std::sqrt(-2 * std::log(1 - uniform()));
    return radius * std::cos(6.283185307179586 * uniform());
  }

 private:
  std::mt19937_64 engine_;
};

/// Standard normal entries; float and double tensors of one seed differ by rounding only.
template <class T, class... I>
Tensor<T, int(sizeof...(I))> normal(std::uint64_t seed, I... dims) {
  Random random(seed);
  Tensor<T, int(sizeof...(I))> x(static_cast<Eigen::Index>(dims)...);
  for (Eigen::Index i = 0; i < x.size(); ++i) x.data()[i] = static_cast<T>(random.normal());
  return x;
}

/// Entries in [0, 1).
template <class T, class... I>
Tensor<T, int(sizeof...(I))> uniform(std::uint64_t seed, I... dims) {
  Random random(seed);
  Tensor<T, int(sizeof...(I))> x(static_cast<Eigen::Index>(dims)...);
  for (Eigen::Index i = 0; i < x.size(); ++i) x.data()[i] = static_cast<T>(random.uniform());
  return x;
}

}  // namespace heed::test
