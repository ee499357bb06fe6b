// SPDX-License-Identifier: MIT
// Selective attention on four tokens: token 2 tells token 3 to forget token 1.
#include "heed/heed.hpp"
#include "programs/output.hpp"

#include <unsupported/Eigen/CXX11/Tensor>

#include <cmath>
#include <iostream>

int main() {
  using Tensor = Eigen::Tensor<float, 4, Eigen::RowMajor>;  // [batch, heads, tokens, dim]
  Tensor q(1, 1, 4, 2), k(1, 1, 4, 2), v(1, 1, 4, 1), out(1, 1, 4, 1);
  q.setZero();
  k.setZero();
  for (int j = 0; j < 4; ++j) v(0, 0, j, 0) = float(j);  // a token's value is its number

  k(0, 0, 1, 0) = 1;   // key 1 answers to the first coordinate,
  q(0, 0, 2, 0) = 20;  // which query 2 asks for, loudly

  heed::causal_attention(q, k, v, out);
  std::cout << "causal:    token 2 reads " << out(0, 0, 2, 0) << ", token 3 reads "
            << out(0, 0, 3, 0) << "\n";  // 1: token 1 and little else; 1.5: all four alike

  heed::selective_attention(q, k, v, out);
  std::cout << "selective: token 2 reads " << out(0, 0, 2, 0) << ", token 3 reads "
            << out(0, 0, 3, 0) << "\n";  // 1 as before; 1.66667: tokens 0, 2 and 3 alike

  // The same said in stages, and how much of each key token 3 has been told to forget.
  Eigen::Tensor<float, 3, Eigen::RowMajor> f(1, 4, 4);
  heed::forward(q, k, v, heed::standard | heed::causal | heed::selective.mask_f(f), out);
  std::cout << "F of token 3:";
  for (int j = 0; j < 4; ++j) std::cout << ' ' << f(0, 3, j);  // 0 14.1421 0 0: 20 / √2
  std::cout << "\n";
  return programs::ended("selective_attention", std::abs(out(0, 0, 3, 0) - 5. / 3) < 1e-4 ? 0 : 1);
}
