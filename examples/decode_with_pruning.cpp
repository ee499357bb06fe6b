// SPDX-License-Identifier: MIT
// Decoding with a budget of four tokens: evicts the most masked token, of equals the oldest, never
// token 0.
#include "heed/heed.hpp"
#include "programs/output.hpp"

#include <unsupported/Eigen/CXX11/Tensor>

#include <cmath>
#include <iostream>

int main() {
  constexpr int dim = 8, prompt = 4, tokens = 8;
  heed::KvBuffer<float> buffer({.batch = 1, .heads = 1, .key_heads = 1, .dim = dim, .value_dim = 1},
                               {.budget = 4});
  double last = 0;
  std::size_t bytes = 0;  // after the prompt
  for (int from = 0; from < tokens; from = from == 0 ? prompt : from + 1) {
    const int count = from == 0 ? prompt : 1;  // the prompt at once, then token by token
    using Tensor = Eigen::Tensor<float, 4, Eigen::RowMajor>;
    Tensor q(1, 1, count, dim), k(1, 1, count, dim), v(1, 1, count, 1), out(1, 1, count, 1);
    q.setZero();
    k.setZero();
    for (int n = 0; n < count; ++n) {
      k(0, 0, n, from + n) = 1;               // each key answers to a coordinate of its own,
      v(0, 0, n, 0) = float(from + n);        // and brings its number
      if (from + n == 4) q(0, 0, n, 3) = 20;  // token 4 attends to token 3, and so votes against it
    }
    buffer.step(q, k, v, heed::standard, out);
    last = out(0, 0, count - 1, 0);
    if (from == 0) bytes = buffer.bytes();

    std::cout << "token " << from + count - 1 << " reads " << last << ", held are tokens";
    for (const auto& token : buffer.sequence(0).held()) std::cout << ' ' << token.position;
    std::cout << '\n';
  }
  // Where scores and F are zero, the output is the mean of the values held. This prints:
  //   token 3 reads 1.5, held are tokens 0 1 2 3
  //   token 4 reads 2.99746, held are tokens 0 2 3 4    no votes yet: the oldest was evicted
  //   token 5 reads 2.75, held are tokens 0 2 4 5       token 3 was voted out, though 2 is older
  //   token 6 reads 3.75, held are tokens 0 4 5 6
  //   token 7 reads 4.5, held are tokens 0 5 6 7
  std::cout << "memory grew by " << buffer.bytes() - bytes << " bytes since the prompt\n";  // 0
  return programs::ended("decode_with_pruning", std::abs(last - 4.5) < 1e-5 ? 0 : 1);
}
