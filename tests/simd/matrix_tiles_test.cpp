// SPDX-License-Identifier: MIT
#include "heed/simd/matrix_tiles.hpp"

#include "support/cpuinfo.hpp"
#include "support/random.hpp"

#include <gtest/gtest.h>

#include <vector>

namespace heed::test {
namespace {

TEST(MatrixTiles, AreOfferedWhereTheProcessorHasThem) {
  const bool has = cpuinfo_says("flags", "amx_bf16") && cpuinfo_says("flags", "amx_tile");
  EXPECT_EQ(simd::offers_tiles(), has && simd::multiplies_tiles)
      << "or does the system not let this process use them?";
}

#ifdef HEED_MATRIX_TILES

using Pair = simd::Bfloat16Pair;

std::vector<Pair> pairs(Index count, std::uint64_t seed) {
  Random random(seed);
  std::vector<float> numbers(std::size_t(2 * count));
  for (float& x : numbers) x = float(random.normal());
  std::vector<Pair> result(static_cast<std::size_t>(count));
  simd::pair_up(numbers.data(), 2 * count, result.data());
  return result;
}
double product(Pair a, Pair b) {
  using Of = simd::Operand<Pair>;
  return double(Of::number(a, 0)) * double(Of::number(b, 0)) +
         double(Of::number(a, 1)) * double(Of::number(b, 1));
}

/// Less than a tile along the sum, one, and both sides of more.
TEST(MatrixTiles, MultiplyARowGroupByAPanel) {
  if (!simd::offers_tiles()) GTEST_SKIP() << "this processor has none";
  for (const Index operands : {1, 15, 16, 17, 32, 40}) {
    const Index stride = 40, q_stride = operands + 7;
    const auto q = pairs(16 * q_stride, 1), panel = pairs(operands * 32, 2);
    std::vector<float> out(16 * std::size_t(stride), -1.f);
    {
      const simd::MatrixTiles tiles(operands);
      simd::multiply_tiles(q.data(), q_stride, panel.data(), operands, out.data(), stride);
    }
    for (Index r = 0; r < 16; ++r)
      for (Index c = 0; c < stride; ++c) {
        double want = c < 32 ? 0 : -1;
        for (Index d = 0; d < operands && c < 32; ++d)
          want += product(q[std::size_t(r * q_stride + d)], panel[std::size_t(d * 32 + c)]);
        ASSERT_NEAR(out[std::size_t(r * stride + c)], want, 1e-4) << operands << " operands";
      }
  }
}

TEST(MatrixTiles, AddWeightedRows) {
  if (!simd::offers_tiles()) GTEST_SKIP() << "this processor has none";
  for (const Index columns : {16, 32, 48, 80})
    for (const Index operands : {16, 64}) {
      const Index p_stride = operands + 3, v_stride = columns + 5;
      const auto p = pairs(16 * p_stride, 3), v = pairs(operands * v_stride, 4);
      std::vector<float> out(std::size_t(16 * columns), 0.5f);
      {
        const simd::MatrixTiles tiles(7);  // a rest that is not of this product
        simd::accumulate_tiles(p.data(), p_stride, v.data(), v_stride, operands, columns,
                               out.data());
      }
      for (Index r = 0; r < 16; ++r)
        for (Index d = 0; d < columns; ++d) {
          double want = 0.5;
          for (Index j = 0; j < operands; ++j)
            want += product(p[std::size_t(r * p_stride + j)], v[std::size_t(j * v_stride + d)]);
          ASSERT_NEAR(out[std::size_t(r * columns + d)], want, 1e-3) << columns << " columns";
        }
    }
}

#endif

}  // namespace
}  // namespace heed::test
