// SPDX-License-Identifier: MIT
/// @file
/// A dense row-major array of doubles, all the oracle needs of a tensor.
#pragma once

#include <cassert>
#include <cstddef>
#include <utility>
#include <vector>

namespace reference {

using Index = std::ptrdiff_t;

struct Array {
  std::vector<Index> dims;
  std::vector<double> values;

  Array() = default;
  explicit Array(std::vector<Index> sizes, double fill = 0) : dims(std::move(sizes)) {
    Index count = 1;
    for (const Index size : dims) count *= size;
    values.assign(static_cast<std::size_t>(count), fill);
  }

  bool empty() const { return dims.empty(); }
  Index dim(std::size_t axis) const { return dims[axis]; }
  Index size() const { return static_cast<Index>(values.size()); }

  template <class... I>
  double& operator()(I... index) {
    return values[offset(false, index...)];
  }
  template <class... I>
  double operator()(I... index) const {
    return values[offset(false, index...)];
  }

  /// Where the last dimension begins, the others given.
  template <class... I>
  const double* row(I... index) const {
    return values.data() + offset(false, index..., 0);
  }

  /// The entry of an array in which sizes of one repeat.
  template <class... I>
  double broadcast(I... index) const {
    return values[offset(true, index...)];
  }

 private:
  template <class... I>
  std::size_t offset(bool repeat, I... index) const {
    assert(dims.size() == sizeof...(I));
    Index at = 0;
    std::size_t axis = 0;
    const auto step = [&](Index i) {
      const Index size = dims[axis++];
      if (repeat && size == 1) i = 0;
      assert(0 <= i && i < size);
      at = at * size + i;
    };
    (step(static_cast<Index>(index)), ...);
    return static_cast<std::size_t>(at);
  }
};

inline double dot(const double* a, const double* b, Index size) {
  double sum = 0;
  for (Index d = 0; d < size; ++d) sum += a[d] * b[d];
  return sum;
}

}  // namespace reference
