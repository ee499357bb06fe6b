// SPDX-License-Identifier: MIT
#include <array>
#include <heed/heed.hpp>

double second_unit() {
  std::array<float, 6> q{}, k{}, v{0, 0, 1, 1, 2, 2}, out{};
  const std::array<heed::Index, 4> shape{1, 1, 3, 2};
  heed::forward(heed::View<const float, 4>(q.data(), shape),
                heed::View<const float, 4>(k.data(), shape),
                heed::View<const float, 4>(v.data(), shape), heed::standard | heed::causal,
                heed::View<float, 4>(out.data(), shape));
  return double(out[0]) + double(out[2]) + double(out[4]);
}
