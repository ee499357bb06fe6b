// SPDX-License-Identifier: MIT
// Frequencies for long texts, each against the formula it was published with, in plain loops.

#include "heed/score/rotary_frequencies.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

namespace heed::test {
namespace {

constexpr double pi = 3.14159265358979323846;

std::vector<double> frequencies(Index dims, const RotaryFrequencies& f) {
  std::vector<double> out(std::size_t(dims / 2), -1.);
  f.write(dims, out.data());
  return out;
}

/// θ_i of the paper.
double plain(double base, Index dims, Index i) {
  return 1 / std::pow(base, double(2 * i) / double(dims));
}

void expect_near(double got, double want, Index i) {
  EXPECT_NEAR(got, want, 1e-14 * want) << i;
}

TEST(RotaryFrequencies, ArePowersOfTheBaseTimesTheScale) {
  for (const Index dims : {2, 4, 64, 128})
    for (const double base : {0.5, 1., 100., 10000., 500000.}) {
      const std::vector<double> got = frequencies(dims, {.base = base, .scale = 0.25});
      for (Index i = 0; i < dims / 2; ++i)
        expect_near(got[std::size_t(i)], plain(base, dims, i) / 4, i);
    }
}

TEST(RotaryFrequencies, OfLinearScalingAreDividedByItsFactor) {
  const std::vector<double> got = frequencies(64, {.scaling = LinearRotary{4}});
  for (Index i = 0; i < 32; ++i) expect_near(got[std::size_t(i)], plain(10000, 64, i) / 4, i);
}

TEST(RotaryFrequencies, OfNtkAwareScalingAreThoseOfALargerBase) {
  const Index dims = 64;
  const double factor = 8, base = 10000;
  const std::vector<double> got = frequencies(dims, {.base = base, .scaling = NtkRotary{factor}});
  for (Index i = 0; i < dims / 2; ++i)
    expect_near(got[std::size_t(i)],
                plain(base * std::pow(factor, double(dims) / double(dims - 2)), dims, i), i);
  // What it is made for: the fastest pair stays, the slowest is interpolated.
  EXPECT_EQ(got[0], 1);
  expect_near(got[31], plain(base, dims, 31) / factor, 31);
}

TEST(RotaryFrequencies, OfDynamicNtkScalingFollowTheText) {
  const Index dims = 32, context = 2048;
  const double factor = 2, base = 10000;
  for (const Index tokens : {0, 100, 2048, 2049, 4096, 10000}) {
    const std::vector<double> got =
        frequencies(dims, {.base = base, .scaling = DynamicNtkRotary{factor, context, tokens}});
    const double length = tokens > context ? double(tokens) : double(context);
    const double larger =
        base * std::pow(factor * length / double(context) - (factor - 1), 32. / 30);
    for (Index i = 0; i < dims / 2; ++i)
      expect_near(got[std::size_t(i)], plain(larger, dims, i), i);
    if (tokens <= context) {
      for (Index i = 0; i < dims / 2; ++i)
        expect_near(got[std::size_t(i)], plain(base, dims, i), i);
    }
  }
}

/// As the authors' code and Transformers have it.
double yarn(Index i, Index dims, double base, double factor, double context, double beta_fast,
            double beta_slow, bool truncate) {
  double low = double(dims) * std::log(context / (beta_fast * 2 * pi)) / (2 * std::log(base)),
         high = double(dims) * std::log(context / (beta_slow * 2 * pi)) / (2 * std::log(base));
  if (truncate) {
    low = std::floor(low);
    high = std::ceil(high);
  }
  if (low < 0) low = 0;
  if (high > double(dims - 1)) high = double(dims - 1);
  if (low == high) high += 0.001;
  double ramp = (double(i) - low) / (high - low);
  if (ramp < 0) ramp = 0;
  if (ramp > 1) ramp = 1;
  return plain(base, dims, i) / factor * ramp + plain(base, dims, i) * (1 - ramp);
}

TEST(RotaryFrequencies, OfYarnInterpolateSlowPairsOnly) {
  for (const Index dims : {64, 128})
    for (const bool truncate : {true, false})
      for (const double beta_fast : {32., 16.}) {
        const double base = 150000, factor = 32;
        const std::vector<double> got =
            frequencies(dims, {.base = base,
                               .scaling = YarnRotary{.factor = factor,
                                                     .original_context = 4096,
                                                     .beta_fast = beta_fast,
                                                     .beta_slow = 2,
                                                     .truncate = truncate}});
        for (Index i = 0; i < dims / 2; ++i)
          expect_near(got[std::size_t(i)],
                      yarn(i, dims, base, factor, 4096, beta_fast, 2, truncate), i);
        EXPECT_EQ(got.front(), 1);
        expect_near(got.back(), plain(base, dims, dims / 2 - 1) / factor, dims / 2 - 1);
      }
}

/// By hand for Llama 2 stretched 16 times (d = 128, C = 4096): 128 ln(4096 / 64π) / 2 ln 10000 is
/// 20.94, and 128 ln(4096 / 2π) / 2 ln 10000 is 45.02.
TEST(RotaryFrequencies, OfYarnBeginAndEndWhereThePaperSays) {
  const std::vector<double> got =
      frequencies(128, {.scaling = YarnRotary{.factor = 16, .original_context = 4096}});
  for (Index i = 0; i <= 20; ++i) expect_near(got[std::size_t(i)], plain(10000, 128, i), i);
  EXPECT_LT(got[21], plain(10000, 128, 21) * 0.99);
  EXPECT_GT(got[45], plain(10000, 128, 45) / 16 * 1.01);
  for (Index i = 46; i < 64; ++i) expect_near(got[std::size_t(i)], plain(10000, 128, i) / 16, i);
}

/// A ramp of no width, or one that would run backwards.
TEST(RotaryFrequencies, OfYarnStayWhereEveryPairTurnsOften) {
  const std::vector<double> got =
      frequencies(16, {.base = 2, .scaling = YarnRotary{.factor = 4, .original_context = 4096}});
  for (Index i = 0; i < 8; ++i) expect_near(got[std::size_t(i)], plain(2, 16, i), i);
  const std::vector<double> short_context =
      frequencies(16, {.scaling = YarnRotary{.factor = 4, .original_context = 2}});
  for (Index i = 1; i < 8; ++i)
    expect_near(short_context[std::size_t(i)], plain(10000, 16, i) / 4, i);
}

TEST(RotaryFrequencies, OfYarnBringAnAttentionFactor) {
  const auto factor = [](const YarnRotary& yarn) {
    return RotaryFrequencies{.scaling = yarn}.attention_factor();
  };
  EXPECT_DOUBLE_EQ(factor({.factor = 16, .original_context = 1}), 0.1 * std::log(16.) + 1);
  EXPECT_EQ(factor({.factor = 0.5, .original_context = 1}), 1);
  EXPECT_EQ(factor({.factor = 16, .original_context = 1, .attention_factor = 1.25}), 1.25);
  // DeepSeek's.
  EXPECT_DOUBLE_EQ(
      factor({.factor = 40, .original_context = 1, .mscale = 0.707, .mscale_all_dim = 0.5}),
      (0.1 * 0.707 * std::log(40.) + 1) / (0.1 * 0.5 * std::log(40.) + 1));
  EXPECT_EQ(factor({.factor = 40, .original_context = 1, .mscale = 1, .mscale_all_dim = 1}), 1);
  EXPECT_EQ(RotaryFrequencies{}.attention_factor(), 1);
}

TEST(RotaryFrequencies, OfLlama3FollowTheWavelength) {
  for (const double factor : {8., 32.}) {
    const double base = 500000, low = 1, high = 4, context = 8192;
    const std::vector<double> got =
        frequencies(128, {.base = base, .scaling = Llama3Rotary{.factor = factor}});
    int kept = 0, between = 0, divided = 0;
    for (Index i = 0; i < 64; ++i) {
      const double frequency = plain(base, 128, i), wavelength = 2 * pi / frequency;
      double want = 0;
      if (wavelength < context / high) {
        want = frequency, ++kept;
      } else if (wavelength > context / low) {
        want = frequency / factor, ++divided;
      } else {
        const double smooth = (context / wavelength - low) / (high - low);
        want = (1 - smooth) * frequency / factor + smooth * frequency, ++between;
      }
      expect_near(got[std::size_t(i)], want, i);
    }
    EXPECT_GT(kept, 0);
    EXPECT_GT(between, 0);
    EXPECT_GT(divided, 0);
  }
}

TEST(RotaryFrequencies, MayBeTheCallersOwn) {
  const std::vector<double> own = {0.5, -3, 0, 1e-9};
  const RotaryFrequencies f{.scale = 2, .scaling = GivenRotary{{own.data(), {4}}, 1.5}};
  const std::vector<double> got = frequencies(8, f);
  for (std::size_t i = 0; i < 4; ++i) EXPECT_EQ(got[i], 2 * own[i]);
  EXPECT_EQ(f.attention_factor(), 1.5);
  EXPECT_THROW(frequencies(6, f), ShapeError);
  EXPECT_THROW(frequencies(10, f), ShapeError);
  EXPECT_THROW(frequencies(8, {.scaling = GivenRotary{{nullptr, {4}}}}), ValueError);
}

TEST(RotaryFrequencies, RefuseNumbersOutOfTheirDomain) {
  const double nan = std::numeric_limits<double>::quiet_NaN(),
               infinity = std::numeric_limits<double>::infinity();
  for (const double wrong : {0., -1., nan, -nan, infinity, -infinity}) {
    EXPECT_THROW(frequencies(8, {.base = wrong}), ValueError) << wrong;
    EXPECT_THROW(frequencies(8, {.scaling = LinearRotary{wrong}}), ValueError) << wrong;
    EXPECT_THROW(frequencies(8, {.scaling = NtkRotary{wrong}}), ValueError) << wrong;
    EXPECT_THROW(frequencies(8, {.scaling = DynamicNtkRotary{wrong, 8, 8}}), ValueError) << wrong;
    EXPECT_THROW(frequencies(8, {.scaling = YarnRotary{.factor = wrong, .original_context = 8}}),
                 ValueError)
        << wrong;
    EXPECT_THROW(frequencies(8, {.scaling = YarnRotary{.original_context = 8, .beta_fast = wrong}}),
                 ValueError)
        << wrong;
    EXPECT_THROW(frequencies(8, {.scaling = YarnRotary{.original_context = 8, .beta_slow = wrong}}),
                 ValueError)
        << wrong;
    EXPECT_THROW(frequencies(8, {.scaling = Llama3Rotary{.factor = wrong}}), ValueError) << wrong;
    EXPECT_THROW(frequencies(8, {.scaling = Llama3Rotary{.low_frequency = wrong}}), ValueError)
        << wrong;
    EXPECT_THROW(frequencies(8, {.scaling = Llama3Rotary{.high_frequency = wrong}}), ValueError)
        << wrong;
    EXPECT_THROW((RotaryFrequencies{.scaling = GivenRotary{{}, wrong}}.attention_factor()),
                 ValueError)
        << wrong;
    EXPECT_THROW(
        (RotaryFrequencies{.scaling = YarnRotary{.attention_factor = wrong}}.attention_factor()),
        ValueError)
        << wrong;
  }
  for (const double wrong : {nan, infinity, -infinity}) {
    EXPECT_THROW(frequencies(8, {.scale = wrong}), ValueError) << wrong;
    const std::vector<double> own = {1, 1, 1, wrong};
    EXPECT_THROW(frequencies(8, {.scaling = GivenRotary{{own.data(), {4}}}}), ValueError) << wrong;
  }
  for (const double wrong : {-1., nan, infinity})
    EXPECT_THROW(
        frequencies(
            8,
            {.scaling = YarnRotary{.original_context = 8, .mscale = wrong, .mscale_all_dim = 1}}),
        ValueError)
        << wrong;
  EXPECT_THROW(frequencies(8, {.scaling = YarnRotary{.original_context = 8, .mscale = 1}}),
               ValueError);
  EXPECT_THROW(frequencies(8, {.scaling = YarnRotary{.original_context = 0}}), ValueError);
  EXPECT_THROW(
      frequencies(8,
                  {.scaling = YarnRotary{.original_context = 8, .beta_fast = 2, .beta_slow = 2}}),
      ValueError);
  EXPECT_THROW(frequencies(8, {.base = 1, .scaling = YarnRotary{.original_context = 8}}),
               ValueError);
  EXPECT_THROW(frequencies(8, {.scaling = Llama3Rotary{.low_frequency = 4}}), ValueError);
  EXPECT_THROW(frequencies(8, {.scaling = Llama3Rotary{.original_context = 0}}), ValueError);
  EXPECT_THROW(frequencies(8, {.scaling = DynamicNtkRotary{1, 0, 8}}), ValueError);
  EXPECT_THROW(frequencies(8, {.scaling = DynamicNtkRotary{1, 8, -1}}), ValueError);
  // The exponent d / (d − 2) is infinite.
  EXPECT_THROW(frequencies(2, {.scaling = NtkRotary{2}}), ValueError);
  EXPECT_THROW(frequencies(2, {.scaling = DynamicNtkRotary{2, 8, 8}}), ValueError);
  // Angles would overflow: every number is finite, the product of frequency and position is not.
  EXPECT_THROW(frequencies(8, {.scale = 1e300}), ValueError);
  EXPECT_NO_THROW(frequencies(8, {.scale = 1e290}));
}

}  // namespace
}  // namespace heed::test
