// SPDX-License-Identifier: MIT
// One training step of one layer, by hand: projections, selective attention, a loss, and all the
// way back to the projections' weights. Exits with 1 unless the gradients agree with differences
// and the step makes the loss smaller.
#include "programs/output.hpp"

#include <Eigen/Dense>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <heed/heed.hpp>
#include <utility>

using Matrix = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using heed::Index;

constexpr Index tokens = 24, heads = 2, dim = 8, features = heads * dim;

/// q, k and v stand side by side in a row of x W: part 0, 1 or 2 as [1, H, N, D], without a copy.
template <class Number>
heed::View<Number, 4> part(Number* qkv, Index which) {
  return {qkv + which * features,
          {1, heads, tokens, dim},
          {tokens * 3 * features, dim, 3 * features, 1}};
}

struct Layer {
  Matrix weights = 0.4 * Matrix::Random(features, 3 * features);  ///< Wq, Wk, Wv side by side

  /// ½ Σ (attention(x W) − wanted)² / N, and if asked for, its gradient by the weights.
  double loss(const Matrix& x, const Matrix& wanted, Matrix* gradient = nullptr) const {
    const auto variant = heed::standard | heed::causal | heed::selective;
    const Matrix qkv = x * weights;
    const auto q = part(qkv.data(), 0), k = part(qkv.data(), 1), v = part(qkv.data(), 2);
    Matrix out(tokens, features);
    Eigen::Tensor<double, 3, Eigen::RowMajor> lse(1, heads, tokens);
    heed::forward(q, k, v, variant, heed::bnhd(out.data(), 1, tokens, heads, dim), lse);
    const Matrix error = out - wanted;
    if (gradient == nullptr) return error.squaredNorm() / 2 / tokens;

    const Matrix grad_out = error / tokens;
    Matrix grad_qkv(tokens, 3 * features);
    double* to = grad_qkv.data();
    heed::backward(q, k, v, variant, heed::bnhd(out.data(), 1, tokens, heads, dim), lse,
                   heed::bnhd(grad_out.data(), 1, tokens, heads, dim), part(to, 0), part(to, 1),
                   part(to, 2));
    *gradient = x.transpose() * grad_qkv;
    return error.squaredNorm() / 2 / tokens;
  }
};

int main() {
  std::srand(1);  // Eigen's Random
  const Matrix x = Matrix::Random(tokens, features) * 2, wanted = Matrix::Random(tokens, features);
  Layer layer;
  Matrix gradient;
  const double before = layer.loss(x, wanted, &gradient);

  std::puts("  weight      gradient     difference quotient");
  bool agree = true;
  const std::pair<const char*, Index> places[] = {
      {"Wq", 3}, {"Wk", features + 5}, {"Wv", 2 * features + 1}};
  for (const auto& [name, column] : places)
    for (const Index row : {0, 11}) {
      const double step = 1e-6;
      Layer more = layer, less = layer;
      more.weights(row, column) += step;
      less.weights(row, column) -= step;
      const double quotient = (more.loss(x, wanted) - less.loss(x, wanted)) / (2 * step);
      std::printf("  %s[%2td,%2td]  %+.9f  %+.9f\n", name, row, column % features,
                  gradient(row, column), quotient);
      agree = agree && std::abs(gradient(row, column) - quotient) < 1e-8;
    }

  layer.weights -= 0.5 * gradient;
  const double after = layer.loss(x, wanted);
  std::printf("loss %.6f, after a step %.6f\n", before, after);
  return programs::ended("train_step", agree && after < before ? 0 : 1);
}
