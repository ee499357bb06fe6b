// SPDX-License-Identifier: MIT
// One program for any processor: it chooses its kernels when it runs, and here compares what they
// return with the paper's formula in a loop. HEED_ARCH=x86-64 makes it choose lesser ones.
#include "attend.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <stdexcept>
#include <vector>

namespace {

constexpr long heads = 2, tokens = 77, dim = 24;

/// Selective attention (arXiv:2410.02703): a positive score that head 0 gives a key is
/// subtracted from that key's scores in all later rows. Neither key 0 nor a row's own key is voted
/// on.
std::vector<double> formula(const float* q, const float* k, const float* v) {
  std::vector<double> out(heads * tokens * dim), weights(tokens);
  const auto score = [&](long h, long i, long j) {
    double dot = 0;
    for (long d = 0; d < dim; ++d)
      dot += double(q[(h * tokens + i) * dim + d]) * double(k[(h * tokens + j) * dim + d]);
    return dot / std::sqrt(double(dim));
  };
  for (long h = 0; h < heads; ++h) {
    std::vector<double> f(tokens);
    for (long i = 0; i < tokens; ++i) {
      double total = 0;
      for (long j = 0; j <= i; ++j) total += weights[j] = std::exp(score(h, i, j) - f[j]);
      for (long j = 0; j <= i; ++j)
        for (long d = 0; d < dim; ++d)
          out[(h * tokens + i) * dim + d] +=
              weights[j] / total * double(v[(h * tokens + j) * dim + d]);
      for (long j = 1; j < i; ++j) f[j] += std::max(0., score(0, i, j));
    }
  }
  return out;
}

}  // namespace

int main() try {
  std::vector<float> q(heads * tokens * dim), k(q), v(q), out(q);
  for (std::size_t i = 0; i < q.size(); ++i) {
    q[i] = std::sin(0.7f * float(i));
    k[i] = std::cos(1.3f * float(i));
    v[i] = std::sin(2.1f * float(i));
  }
  const auto kernels = heed::dispatch<Attend>();
  kernels->selective(q.data(), k.data(), v.data(), out.data(), heads, tokens, dim);

  const std::vector<double> want = formula(q.data(), k.data(), v.data());
  double error = 0;
  for (std::size_t i = 0; i < out.size(); ++i)
    error = std::max(error, std::abs(double(out[i]) - want[i]));
  std::printf("kernels for %s, largest error %g\n", kernels.arch(), error);
  if (std::fflush(stdout) != 0) throw std::runtime_error("standard output cannot be written");
  return error < 1e-5 ? 0 : 1;
} catch (const std::exception& e) {
  std::fprintf(stderr, "several_processors: %s\n", e.what());
  return 1;
}
