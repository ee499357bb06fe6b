// SPDX-License-Identifier: MIT
/// @file
/// Random inputs, the same in every run.
#pragma once

#include "heed/core/eigen_tensor.hpp"

#include <cmath>
#include <random>

namespace bench {

using heed::Index;

template <class T, int Rank>
using Tensor = Eigen::Tensor<T, Rank, Eigen::RowMajor>;

/// Random numbers of mean 0 and variance 1.
template <class X>
void fill(X& x, unsigned seed) {
  using T = typename X::Scalar;
  std::mt19937 generator(seed);
  std::uniform_real_distribution<T> draw(-std::sqrt(T(3)), std::sqrt(T(3)));
  for (Index i = 0; i < Index(x.size()); ++i) x.data()[i] = draw(generator);
}
template <class T, int Rank, class... D>
Tensor<T, Rank> random(unsigned seed, D... dims) {
  Tensor<T, Rank> x(dims...);
  fill(x, seed);
  return x;
}

}  // namespace bench
