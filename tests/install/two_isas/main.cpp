// SPDX-License-Identifier: MIT
// Runs the narrow unit everywhere and the wide one where there is AVX2, and compares them.
// Includes no heed header, so that no third compilation of them is in the program.
#include <cmath>
#include <cstdio>
#include <vector>

extern "C" bool narrow(const float* q, const float* k, const float* v, float* out, long tokens,
                       long dim);
extern "C" bool wide(const float* q, const float* k, const float* v, float* out, long tokens,
                     long dim);

int main() {
  const long tokens = 77, dim = 24;
  const std::size_t size = std::size_t(tokens * dim);
  std::vector<float> q(size), k(size), v(size), by_narrow(size), by_wide(size);
  for (std::size_t i = 0; i < size; ++i) {
    q[i] = std::sin(0.7f * float(i));
    k[i] = std::cos(1.3f * float(i));
    v[i] = std::sin(2.1f * float(i));
  }
  if (!narrow(q.data(), k.data(), v.data(), by_narrow.data(), tokens, dim))
    return std::puts("narrow: took a wrong shape"), 1;
  for (const float x : by_narrow)
    if (!std::isfinite(x)) return std::puts("narrow: not a number"), 1;
  if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) {
    std::puts("no AVX2 here: the narrow unit ran alone");
    return 0;
  }
  if (!wide(q.data(), k.data(), v.data(), by_wide.data(), tokens, dim))
    return std::puts("wide: took a wrong shape"), 1;
  float worst = 0;
  for (std::size_t i = 0; i < size; ++i)
    worst = std::fmax(worst, std::fabs(by_narrow[i] - by_wide[i]));
  std::printf("largest difference %g\n", double(worst));
  return worst < 1e-5f ? 0 : 1;
}
