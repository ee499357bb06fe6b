// SPDX-License-Identifier: MIT
// Variants of your own: weights that fall as 1 / (1 + distance), as a stage and as a rule; then a
// stage that is trained, its adjoint beside it and checked against differences.
#include "heed/heed.hpp"
#include "programs/output.hpp"

#include <unsupported/Eigen/CXX11/Tensor>

#include <algorithm>
#include <cmath>
#include <iostream>

/// s(i, j) −= log(1 + i − j). A hook sees a register of scores in flight, in log2 units.
struct FadeWithDistance : heed::StageOf<heed::Rank::bias> {
  // Keys are taken to be read by index unless the stage says otherwise: this one may go through a
  // KvBuffer, where they are in no order.
  static constexpr heed::Reads reads = heed::Reads::distance;
  static constexpr bool adds_to_score = true;  // ∂ result / ∂s = 1: backward needs no hook

  template <class T>
  heed::Batch<T> score(const heed::Batch<T>& s, const heed::Lanes<T>& at) const {
    // distance() is j − i; a key after the query is masked whatever becomes of its score.
    return s - heed::simd::log2(heed::Batch<T>(T(1)) - at.distance());
  }
};

/// s ← s + s² / 8 in natural units. What a stage defines is used: the two hooks are all there is.
struct Sharpen : heed::StageOf<heed::Rank::bias> {
  template <class T>
  heed::Batch<T> score(const heed::Batch<T>& s, const heed::Lanes<T>&) const {
    return s + s * s * heed::Batch<T>(T(0.125) * heed::simd::ln2<T>);
  }
  /// ∂L/∂s from ∂L/∂ the result; s is what score() was given.
  template <class T>
  heed::Batch<T> grad_score(const heed::Batch<T>& grad, const heed::Batch<T>& s,
                            const heed::Lanes<T>&) const {
    return grad + grad * s * heed::Batch<T>(T(0.25) * heed::simd::ln2<T>);
  }
};

namespace {

using Tensor = Eigen::Tensor<double, 4, Eigen::RowMajor>;

/// Σ out² / 2 of attention through Sharpen.
double loss(const Tensor& q, const Tensor& k, const Tensor& v) {
  Tensor out(q.dimensions());
  heed::forward(q, k, v, heed::standard | Sharpen{} | heed::causal, out);
  double sum = 0;
  for (int i = 0; i < out.size(); ++i) sum += out.data()[i] * out.data()[i] / 2;
  return sum;
}

/// How far backward() is from central differences, at the worst number of q.
double gradient_is_off_by() {
  Tensor q(1, 2, 9, 4), k(1, 2, 9, 4), v(1, 2, 9, 4), out(1, 2, 9, 4);
  for (int i = 0; i < q.size(); ++i)
    q.data()[i] = std::sin(3 * i), k.data()[i] = std::cos(5 * i), v.data()[i] = std::sin(7 * i + 1);
  Eigen::Tensor<double, 3, Eigen::RowMajor> lse(1, 2, 9);
  const auto variant = heed::standard | Sharpen{} | heed::causal;
  heed::forward(q, k, v, variant, out, lse);
  Tensor grad_q(1, 2, 9, 4), grad_k(1, 2, 9, 4), grad_v(1, 2, 9, 4);
  heed::backward(q, k, v, variant, out, lse, out, grad_q, grad_k, grad_v);  // ∂L/∂out = out
  double worst = 0;
  for (int i = 0; i < q.size(); ++i) {
    const double x = q.data()[i], h = 1e-5;
    q.data()[i] = x + h;
    const double above = loss(q, k, v);
    q.data()[i] = x - h;
    const double below = loss(q, k, v);
    q.data()[i] = x;
    worst = std::max(worst, std::abs((above - below) / (2 * h) - grad_q.data()[i]));
  }
  return worst;
}

}  // namespace

int main() {
  using namespace heed;
  using Floats = Eigen::Tensor<float, 4, Eigen::RowMajor>;
  Floats q(1, 1, 3, 3), k(1, 1, 3, 3), v(1, 1, 3, 3), out(1, 1, 3, 3), same(1, 1, 3, 3);
  q.setZero();  // all scores are alike,
  k.setZero();
  v.setZero();
  for (int j = 0; j < 3; ++j) v(0, 0, j, j) = 1;  // and values show the weights

  forward(q, k, v, standard | FadeWithDistance{} | causal, out);
  std::cout << "weights of token 2: ";  // 1/3 : 1/2 : 1, that is 2, 3 and 6 elevenths:
  for (int j = 0; j < 3; ++j) std::cout << out(0, 0, 2, j) << ' ';  // 0.181818 0.272727 0.545455

  // The same in natural units, where no type of your own is wanted.
  const auto fade = [](auto s, const auto& at) {
    using Batch = decltype(s);
    return s - simd::log2(Batch(1) - at.distance()) * Batch(simd::ln2<float>);
  };
  forward(q, k, v, standard | score_rule(fade) | causal, same);
  float apart = 0;
  for (int i = 0; i < out.size(); ++i)
    apart = std::max(apart, std::abs(out.data()[i] - same.data()[i]));
  std::cout << "\nas a rule, apart by " << apart << '\n';  // 0, or a rounding

  // It joins like any other: with selection, in a window, in decoding.
  forward(q, k, v, standard | FadeWithDistance{} | causal | window(1, 0) | selective, out);
  std::cout << "within a window of 1: " << out(0, 0, 2, 0) << ' ' << out(0, 0, 2, 1) << ' '
            << out(0, 0, 2, 2) << '\n';  // 0 0.333333 0.666667

  const double off = gradient_is_off_by();
  std::cout << "the gradient through a stage of one's own is off by " << off << '\n';  // 1e-10
  const bool right = apart < 1e-6f && std::abs(out(0, 0, 2, 2) - 2.f / 3) < 1e-6f && off < 1e-8;
  return programs::ended("your_own_stage", right ? 0 : 1);
}
