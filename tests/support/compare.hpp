// SPDX-License-Identifier: MIT
/// @file
/// Is it close enough, and if not, where not.
#pragma once

#include "reference/array.hpp"
#include "support/tensors.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstring>
#include <limits>
#include <string>
#include <type_traits>

namespace heed::test {

/// What a kernel may lose against the oracle, relative to max(1, max|x|).
template <class T>
constexpr double tolerance = std::is_same_v<T, float> ? 5e-6 : 1e-12;

/// "[0, 1, 5, 3]", the place of entry `at` of a row-major array.
inline std::string place(const reference::Array& a, std::ptrdiff_t at) {
  std::string text = "]";
  for (std::size_t axis = a.dims.size(); axis-- > 0;) {
    text = (axis ? ", " : "[") + std::to_string(at % a.dims[axis]) + text;
    at /= a.dims[axis];
  }
  return text;
}

/// The largest |x| that is finite, but no less than one.
inline double magnitude(const reference::Array& a) {
  double largest = 1;
  for (const double x : a.values)
    if (std::isfinite(x)) largest = std::max(largest, std::abs(x));
  return largest;
}

/// |got − want| ≤ allowed · max(1, max|want|) everywhere. Infinities must be equal; NaN never is.
inline testing::AssertionResult close(const reference::Array& got, const reference::Array& want,
                                      double allowed) {
  if (got.dims != want.dims)
    return testing::AssertionFailure() << "shapes differ: " << testing::PrintToString(got.dims)
                                       << " and " << testing::PrintToString(want.dims);
  const double scale = magnitude(want);
  double worst = -1;
  std::ptrdiff_t where = 0, wrong = 0;
  for (std::ptrdiff_t i = 0; i < got.size(); ++i) {
    const double a = got.values[std::size_t(i)], b = want.values[std::size_t(i)];
    double error = a == b ? 0 : std::abs(a - b) / scale;
    if (std::isnan(error)) error = std::numeric_limits<double>::infinity();
    wrong += error > allowed;
    if (error > worst) {
      worst = error;
      where = i;
    }
  }
  if (wrong == 0) return testing::AssertionSuccess();
  return testing::AssertionFailure()
         << wrong << " of " << got.size() << " entries are off, the worst at " << place(got, where)
         << ": " << got.values[std::size_t(where)] << " where " << want.values[std::size_t(where)]
         << " was expected, " << worst << " relative to " << scale << ", allowed " << allowed;
}

template <class T, int Rank>
testing::AssertionResult close(const Tensor<T, Rank>& got, const reference::Array& want,
                               double allowed = tolerance<T>) {
  return close(array<T, Rank>(got), want, allowed);
}

template <class T, int Rank>
testing::AssertionResult close(const Tensor<T, Rank>& got, const Tensor<T, Rank>& want,
                               double allowed = tolerance<T>) {
  return close(array<T, Rank>(got), array<T, Rank>(want), allowed);
}

/// The same bits, so that −0 is not 0 and a NaN is itself.
template <class T, int Rank>
testing::AssertionResult same_bits(const Tensor<T, Rank>& a, const Tensor<T, Rank>& b) {
  const reference::Array left = array<T, Rank>(a), right = array<T, Rank>(b);
  if (left.dims != right.dims) return testing::AssertionFailure() << "shapes differ";
  for (Eigen::Index i = 0; i < a.size(); ++i)
    if (std::memcmp(a.data() + i, b.data() + i, sizeof(T)) != 0)
      return testing::AssertionFailure()
             << "first difference at " << place(left, i) << ": " << a.data()[i] << " and "
             << b.data()[i] << ", " << double(a.data()[i]) - double(b.data()[i]) << " apart";
  return testing::AssertionSuccess();
}

/// No NaN and no infinity.
template <class T, int Rank>
testing::AssertionResult finite(const Tensor<T, Rank>& x) {
  for (Eigen::Index i = 0; i < x.size(); ++i)
    if (!std::isfinite(x.data()[i]))
      return testing::AssertionFailure() << x.data()[i] << " at " << place(array<T, Rank>(x), i);
  return testing::AssertionSuccess();
}

}  // namespace heed::test
