// SPDX-License-Identifier: MIT
/// @file
/// New tokens as a model's layer brings them, and where their outputs go.
#pragma once

#include <unsupported/Eigen/CXX11/Tensor>

namespace guide {

/// Fills them with numbers from −1 to 1.
template <class... Tensors>
void fill(Tensors&... tensors) {
  ((tensors.setRandom(), tensors = (tensors * 2.F - 1.F).eval()), ...);
}

/// So many tokens of each of some sequences: 8 query heads and 2 key heads of 64.
struct Tokens {
  using Tensor = Eigen::Tensor<float, 4, Eigen::RowMajor>;
  Tensor q, k, v, out;

  Tokens(int sequences, int count)
      : q(sequences, 8, count, 64),
        k(sequences, 2, count, 64),
        v(sequences, 2, count, 64),
        out(sequences, 8, count, 64) {
    fill(q, k, v);
  }
};

/// The same of several sequences, one after the other, whatever each brings.
struct PackedTokens {
  using Tensor = Eigen::Tensor<float, 3, Eigen::RowMajor>;
  Tensor q, k, v, out;

  explicit PackedTokens(int rows)
      : q(rows, 8, 64), k(rows, 2, 64), v(rows, 2, 64), out(rows, 8, 64) {
    fill(q, k, v);
  }
};

}  // namespace guide
