// SPDX-License-Identifier: MIT
// Whatever this processor offers gives what plain x86-64 gives.
#include "stored.hpp"

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <optional>
#include <vector>

namespace {

constexpr long tokens = 77, dim = 24;
constexpr std::size_t size = std::size_t(tokens * dim);

/// All results, one after the other.
std::vector<float> results_of(const Stored& kernels) {
  std::vector<float> q(size), k(size), v(size), out(5 * size), room(2 * size);
  for (std::size_t i = 0; i < size; ++i) {
    q[i] = std::sin(0.7f * float(i));
    k[i] = std::cos(1.3f * float(i));
    v[i] = std::sin(2.1f * float(i));
  }
  float* to = out.data();
  for (Attend* attend : {&kernels.half, &kernels.bfloat16, &kernels.quantized, &kernels.half_buffer,
                         &kernels.quantized_buffer}) {
    attend(q.data(), k.data(), v.data(), to, room.data(), tokens, dim);
    to += size;
  }
  return out;
}

/// None if this processor does not offer it.
std::optional<heed::Kernels<Stored>> kernels_for(const char* arch) try {
  setenv("HEED_ARCH", arch, 1);
  return heed::dispatch<Stored>();
} catch (const std::exception& e) {
  std::puts(e.what());
  return {};
}

}  // namespace

int main() {
  std::vector<float> first;
  for (const char* arch : {"x86-64", "x86-64-v3", "x86-64-v4"}) {
    const auto kernels = kernels_for(arch);
    if (!kernels) continue;
    const std::vector<float> results = results_of(**kernels);
    if (first.empty()) first = results;
    float worst = 0;
    for (std::size_t i = 0; i < results.size(); ++i)
      worst = std::isfinite(results[i]) ? std::fmax(worst, std::fabs(results[i] - first[i])) : 1;
    std::printf("%s: largest difference %g\n", arch, double(worst));
    if (worst > 1e-5f) return 1;
  }
  return first.empty();
}
