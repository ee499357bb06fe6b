// SPDX-License-Identifier: MIT
// Pairs of bfloat16: which numbers form a pair, how they are rounded, and that nothing is written
// behind the last.

#include "heed/simd/operand.hpp"

#include "heed/simd/pack.hpp"
#include "support/random.hpp"

#include <Eigen/Core>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <utility>
#include <vector>

namespace heed::test {
namespace {

using simd::Bfloat16Pair;

/// Either half may be the one that is not.
TEST(Pairs, AreFiniteIfBothAre) {
  for (const std::uint32_t bits : {0x7f800000u, 0x00007f80u, 0xffc10000u, 0x1234ff81u}) {
    std::vector<Bfloat16Pair> x(40, Bfloat16Pair{0x7f7f7f7f});
    EXPECT_TRUE(simd::all_finite(x.data(), 20, 2, 20));
    x[37].bits = bits;
    EXPECT_FALSE(simd::all_finite(x.data(), 20, 2, 20));
    EXPECT_TRUE(simd::all_finite(x.data(), 20, 2, 17));
  }
}

#ifdef __AVX512BF16__

/// What a pair holds; 0 and 1 are its halves.
float half(Bfloat16Pair pair, int which) {
  return std::bit_cast<float>(which == 0 ? pair.bits << 16 : pair.bits & 0xffff0000);
}
/// To the nearest, by Eigen.
float rounded(float x) {
  return float(Eigen::bfloat16(x));
}

constexpr std::uint32_t untouched = 0xdeadbeef;

TEST(Pairs, AreOfNeighbours) {
  for (const Index count : {0, 1, 2, 15, 16, 17, 31, 32, 33, 63, 64, 65, 100}) {
    const auto x = normal<float>(1, count);
    std::vector<Bfloat16Pair> out(std::size_t(count / 2 + 2), Bfloat16Pair{untouched});
    simd::pair_up(x.data(), count, out.data());
    for (Index i = 0; i < (count + 1) / 2; ++i) {
      EXPECT_EQ(half(out[std::size_t(i)], 0), rounded(x(2 * i))) << i << " of " << count;
      EXPECT_EQ(half(out[std::size_t(i)], 1), 2 * i + 1 < count ? rounded(x(2 * i + 1)) : 0);
    }
    EXPECT_EQ(out[std::size_t((count + 1) / 2)].bits, untouched);
  }
}

TEST(Pairs, AreOfTwoRows) {
  for (const Index count : {1, 15, 16, 17, 40})
    for (const bool alone : {false, true}) {
      const Index columns = (count + 15) / 16 * 16;
      const auto x0 = normal<float>(2, count), x1 = normal<float>(3, count);
      std::vector<Bfloat16Pair> out(std::size_t(columns + 1), Bfloat16Pair{untouched});
      simd::pair_rows(x0.data(), 3, alone ? nullptr : x1.data(), -.7f, count, columns, out.data());
      for (Index d = 0; d < columns; ++d) {
        EXPECT_EQ(half(out[std::size_t(d)], 0), d < count ? rounded(3 * x0(d)) : 0);
        EXPECT_EQ(half(out[std::size_t(d)], 1), d < count && !alone ? rounded(-.7f * x1(d)) : 0);
      }
      EXPECT_EQ(out[std::size_t(columns)].bits, untouched);
    }
}

/// Registers one behind the other, so that neighbours share a pair.
TEST(Pairs, AreStoredInOrder) {
  using Of = simd::Operand<Bfloat16Pair>;
  const auto x = normal<float>(4, 64);
  simd::Batch<float> registers[4];
  for (int v = 0; v < 4; ++v) registers[v] = simd::load(x.data() + 16 * v);
  Bfloat16Pair out[33];
  out[32].bits = untouched;
  Of::store(registers, out);
  for (Index i = 0; i < 64; ++i) EXPECT_EQ(half(out[i / 2], int(i % 2)), rounded(x(i))) << i;
  EXPECT_EQ(out[32].bits, untouched);
}

TEST(Pairs, FadeByHalves) {
  using Of = simd::Operand<Bfloat16Pair>;
  for (const Index count : {0, 32, 64}) {
    const auto x = normal<float>(5, 96);
    Bfloat16Pair out[48];
    simd::pair_up(x.data(), 96, out);
    Of::rescale_weights(out, count, .7f);
    for (Index i = 0; i < 96; ++i)
      EXPECT_EQ(half(out[i / 2], int(i % 2)),
                i < count ? rounded(.7f * rounded(x(i))) : rounded(x(i)))
          << i << " of " << count;
  }
}

/// A half that is zero stays so beside one that is not.
TEST(Pairs, FadeToTheLeastPowerUnlessTheyAreZero) {
  using Of = simd::Operand<Bfloat16Pair>;
  const auto after = [](std::uint32_t bits, float factor) {
    Bfloat16Pair pairs[16] = {{bits}};
    Of::rescale_weights(pairs, 32, factor);
    return pairs[0];
  };
  constexpr float least = simd::least_power<float>;
  for (const float factor : {0x1p-60f, 0.f}) {
    // 1 and 2^-60, then 0 and 1.
    const Bfloat16Pair both = after(0x21803f80, factor), one = after(0x3f800000, factor);
    EXPECT_EQ(half(both, 0), std::max(factor, least));
    EXPECT_EQ(half(both, 1), least);
    EXPECT_EQ(half(one, 0), 0.f);
    EXPECT_EQ(half(one, 1), std::max(factor, least));
  }
}

/// A half with weight ±0 is not read, for any weight of the other half.
TEST(Pairs, AreSeenByHalves) {
  using Of = simd::Operand<Bfloat16Pair>;
  constexpr std::uint32_t values = 0x7fc17fc2;
  for (const auto& [weight, seen] : {std::pair{0x00003f80u, 0x00007fc2u},
                                     {0x3f800000u, 0x7fc10000u},
                                     {0x80003f80u, 0x00007fc2u},
                                     {0xbf808000u, 0x7fc10000u},
                                     {0x80008000u, 0u},
                                     {0x3f803f80u, values}}) {
    Bfloat16Pair out[16];
    const auto kept = Of::clear_unweighted(Of::broadcast({values}), {weight});
    std::memcpy(out, &kept, sizeof out);
    for (const Bfloat16Pair& pair : out) EXPECT_EQ(pair.bits, seen) << std::hex << weight;
    EXPECT_EQ(Of::is_zero({weight}), seen == 0);
  }
}

#endif

}  // namespace
}  // namespace heed::test
