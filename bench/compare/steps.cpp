// SPDX-License-Identifier: MIT
#include "steps.hpp"

#include <algorithm>

namespace compare {

void Steps::softmax(Block s, Index visible) {
#pragma omp parallel for
  for (Index r = 0; r < s.rows(); ++r) {
    const Index seen = std::min(visible + r, s.cols());
    auto row = s.row(r).head(seen).array();
    row = (row - row.maxCoeff()).exp();
    row *= 1 / row.sum();
    s.row(r).tail(s.cols() - seen).setZero();
  }
}

}  // namespace compare
