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
  std::vector<float> q(size), k(size), v(size), out(6 * size), room(3 * size);
  for (std::size_t i = 0; i < size; ++i) {
    q[i] = std::sin(0.7f * float(i));
    k[i] = std::cos(1.3f * float(i));
    v[i] = std::sin(2.1f * float(i));
  }
  float* to = out.data();
  for (Attend* attend : {&kernels.half, &kernels.bfloat16, &kernels.quantized, &kernels.half_buffer,
                         &kernels.quantized_buffer, &kernels.all_bfloat16}) {
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
  for (const char* arch : {"x86-64", "x86-64-v3", "x86-64-v4", "x86-64-v4-bf16"}) {
    const auto kernels = kernels_for(arch);
    if (!kernels) continue;
    const std::vector<float> results = results_of(**kernels);
    if (first.empty()) first = results;
    const auto worst = [&](std::size_t from, std::size_t to) {
      float most = 0;
      for (std::size_t i = from; i < to; ++i)
        most = std::isfinite(results[i]) ? std::fmax(most, std::fabs(results[i] - first[i])) : 1;
      return most;
    };
    // The weights that multiply bfloat16 are rounded to it: by 2^-8.
    const float widened = worst(0, 5 * size), rounded = worst(5 * size, 6 * size);
    std::printf("%s: largest differences %g and %g\n", arch, double(widened), double(rounded));
    if (widened > 1e-5f || rounded > 0x1p-8f) return 1;
  }
  return first.empty();
}
