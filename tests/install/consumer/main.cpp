// SPDX-License-Identifier: MIT
// Two units include everything and call the same functions: nothing may be defined twice.
#include <array>
#include <cmath>
#include <heed/heed.hpp>

double second_unit();

/// Causal attention over three keys, all alike: row i is the mean of the values 0 … i.
double first_unit() {
  std::array<float, 6> q{}, k{}, v{0, 0, 1, 1, 2, 2}, out{};
  const std::array<heed::Index, 4> shape{1, 1, 3, 2};
  heed::forward(heed::View<const float, 4>(q.data(), shape),
                heed::View<const float, 4>(k.data(), shape),
                heed::View<const float, 4>(v.data(), shape), heed::standard | heed::causal,
                heed::View<float, 4>(out.data(), shape));
  return double(out[0]) + double(out[2]) + double(out[4]);
}

int main() {
  const double expected = 0 + 0.5 + 1;
  return std::abs(first_unit() - expected) < 1e-5 && std::abs(second_unit() - expected) < 1e-5 ? 0
                                                                                               : 1;
}
