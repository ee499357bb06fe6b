// SPDX-License-Identifier: MIT
// Runs the narrow unit everywhere and the wide one where there is AVX2, and compares them.
// Includes no heed header, so that no third compilation of them is in the program.
#include <cmath>
#include <cstdio>
#include <vector>

using Unit = bool(const float* q, const float* k, const float* v, float* out, float* lse,
                  float* grads, long tokens, long dim);
extern "C" Unit narrow, wide;

namespace {

constexpr long tokens = 77, dim = 24;
constexpr std::size_t size = std::size_t(tokens * dim);

/// Output, log-sum-exp and gradients one after the other; none if the unit took a wrong shape.
std::vector<float> results_of(Unit& unit, const std::vector<float>& q, const std::vector<float>& k,
                              const std::vector<float>& v) {
  std::vector<float> out(4 * size + std::size_t(tokens));
  if (!unit(q.data(), k.data(), v.data(), out.data(), out.data() + 4 * size, out.data() + size,
            tokens, dim))
    out.clear();
  return out;
}

}  // namespace

int main() {
  std::vector<float> q(size), k(size), v(size);
  for (std::size_t i = 0; i < size; ++i) {
    q[i] = std::sin(0.7f * float(i));
    k[i] = std::cos(1.3f * float(i));
    v[i] = std::sin(2.1f * float(i));
  }
  const std::vector<float> by_narrow = results_of(narrow, q, k, v);
  if (by_narrow.empty()) return std::puts("narrow: took a wrong shape"), 1;
  for (const float x : by_narrow)
    if (!std::isfinite(x)) return std::puts("narrow: not a number"), 1;
  if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) {
    std::puts("no AVX2 here: the narrow unit ran alone");
    return 0;
  }
  const std::vector<float> by_wide = results_of(wide, q, k, v);
  if (by_wide.empty()) return std::puts("wide: took a wrong shape"), 1;
  float worst = 0;
  for (std::size_t i = 0; i < by_wide.size(); ++i)
    worst = std::fmax(worst, std::fabs(by_narrow[i] - by_wide[i]));
  std::printf("largest difference %g\n", double(worst));
  return worst < 1e-4f ? 0 : 1;
}
