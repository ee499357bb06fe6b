// SPDX-License-Identifier: MIT
/// @file
/// Row-major Eigen tensors, and their way to the oracle's arrays and back.
#pragma once

#include "reference/array.hpp"

#include <unsupported/Eigen/CXX11/Tensor>

#include <algorithm>
#include <array>
#include <cstddef>
#include <stdexcept>
#include <vector>

namespace heed::test {

template <class T, int Rank = 4>
using Tensor = Eigen::Tensor<T, Rank, Eigen::RowMajor>;

template <class T, int Rank>
Tensor<T, Rank> zeros(const std::array<std::ptrdiff_t, std::size_t(Rank)>& dims) {
  Tensor<T, Rank> x(dims);
  x.setZero();
  return x;
}

/// The oracle's numbers, rounded to T.
template <class T, int Rank = 4>
Tensor<T, Rank> tensor(const reference::Array& array) {
  if (array.dims.size() != std::size_t(Rank)) throw std::invalid_argument("tensor: other rank");
  std::array<std::ptrdiff_t, std::size_t(Rank)> dims{};
  std::copy(array.dims.begin(), array.dims.end(), dims.begin());
  Tensor<T, Rank> x(dims);
  std::transform(array.values.begin(), array.values.end(), x.data(),
                 [](double value) { return static_cast<T>(value); });
  return x;
}

/// The same numbers for the oracle.
template <class T, int Rank>
reference::Array array(const Tensor<T, Rank>& x) {
  reference::Array a(std::vector<reference::Index>(x.dimensions().begin(), x.dimensions().end()));
  std::transform(x.data(), x.data() + x.size(), a.values.begin(),
                 [](T value) { return static_cast<double>(value); });
  return a;
}

}  // namespace heed::test
