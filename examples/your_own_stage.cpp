// SPDX-License-Identifier: MIT
// A variant of your own: weights fall as 1 / (1 + distance), first as a stage, then as a rule.
#include "heed/heed.hpp"

#include <unsupported/Eigen/CXX11/Tensor>

#include <algorithm>
#include <cmath>
#include <iostream>

/// s(i, j) −= log(1 + i − j). A hook sees a register of scores in flight, in log2 units.
struct FadeWithDistance : heed::StageOf<heed::Rank::bias> {
  template <class T>
  heed::Batch<T> score(const heed::Batch<T>& s, const heed::Lanes<T>& at) const {
    // distance() is j − i; a key after the query is hidden whatever becomes of its score.
    return s - heed::simd::log2(heed::Batch<T>(T(1)) - at.distance());
  }
};

int main() {
  using namespace heed;
  using Tensor = Eigen::Tensor<float, 4, Eigen::RowMajor>;
  Tensor q(1, 1, 3, 3), k(1, 1, 3, 3), v(1, 1, 3, 3), out(1, 1, 3, 3), same(1, 1, 3, 3);
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
  return apart < 1e-6f && std::abs(out(0, 0, 2, 2) - 2.f / 3) < 1e-6f ? 0 : 1;
}
