// SPDX-License-Identifier: MIT
// Cosines and sines that are ready: the library's tables, and the caller's own.

#include "heed/score/rotary_table.hpp"

#include "heed/attention/rotary.hpp"
#include "heed/core/eigen_tensor.hpp"
#include "support/compare.hpp"
#include "support/random.hpp"
#include "support/tensors.hpp"

#include <Eigen/Core>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

namespace heed::test {
namespace {

template <class T>
class RotaryTables : public testing::Test {};
using TableScalars = testing::Types<float, double>;
TYPED_TEST_SUITE(RotaryTables, TableScalars);

/// By plain loops: pair i of token n of sequence b is multiplied by the matrix of cosine(b, n, i)
/// and sine(b, n, i).
template <class Cosine, class Sine>
reference::Array turned(reference::Array x, Index dims, bool interleaved, Cosine&& cosine,
                        Sine&& sine) {
  for (Index b = 0; b < x.dim(0); ++b)
    for (Index h = 0; h < x.dim(1); ++h)
      for (Index n = 0; n < x.dim(2); ++n)
        for (Index i = 0; i < dims / 2; ++i) {
          double& first = x(b, h, n, interleaved ? 2 * i : i);
          double& second = x(b, h, n, interleaved ? 2 * i + 1 : i + dims / 2);
          const double a = first, c = second;
          first = a * cosine(b, n, i) - c * sine(b, n, i);
          second = a * sine(b, n, i) + c * cosine(b, n, i);
        }
  return x;
}

TYPED_TEST(RotaryTables, HoldTheCosinesAndSinesOfARunOfPositions) {
  using T = TypeParam;
  for (const std::int64_t first : {0, 5, -300, 100000}) {
    const std::vector<double> own = {1, 0.37, 0.001, -2, 1e-7};
    const RotaryTable<T> table(10, first, 700, {.scaling = GivenRotary{{own.data(), {5}}, 1.25}});
    EXPECT_EQ(table.first(), first);
    ASSERT_EQ(table.cosines().dims(), (Dims<2>{700, 5}));
    ASSERT_EQ(table.sines().dims(), (Dims<2>{700, 5}));
    for (Index p = 0; p < 700; ++p)
      for (Index i = 0; i < 5; ++i) {
        const double angle = double(first + p) * own[std::size_t(i)],
                     allowed = sizeof(T) == 4 ? 1e-7 : 4e-15 + std::abs(angle) * 1e-15;
        ASSERT_NEAR(double(table.cosines()(p, i)), 1.25 * std::cos(angle), allowed) << p;
        ASSERT_NEAR(double(table.sines()(p, i)), 1.25 * std::sin(angle), allowed) << p;
      }
  }
}

TYPED_TEST(RotaryTables, TurnAsTheCallWithoutThemDoes) {
  using T = TypeParam;
  const Tensor<T> x = normal<T>(1, 2, 3, 50, 20);
  const RotaryFrequencies frequencies{.base = 5000, .scale = 0.5, .scaling = LinearRotary{2}};
  Tensor<std::int64_t, 2> positions(2, 50);
  for (Index i = 0; i < 100; ++i) positions.data()[i] = (i * 37) % 120 - 20;
  Tensor<std::int64_t, 1> offsets(2);
  offsets.setValues({-20, 50});
  const RotaryTable<T> table(16, -20, 120, frequencies);
  for (const bool inverse : {false, true})
    for (const auto pairs : {RotaryOptions::interleaved, RotaryOptions::half_split})
      for (const int how : {0, 1, 2}) {
        RotaryOptions options;
        options.pairs = pairs, options.inverse = inverse, options.dims = 16;
        options.base = 5000, options.scale = 0.5, options.scaling = LinearRotary{2};
        RotaryTurn turn{.pairs = pairs, .inverse = inverse};
        if (how == 0) options.offset = turn.offset = 50;
        if (how == 1) options.positions = positions, turn.positions = positions;
        if (how == 2) options.offsets = offsets, turn.offsets = offsets;
        Tensor<T> by_options = x, by_table = x;
        rotary(by_options, options);
        rotary(by_table, table, turn);
        EXPECT_TRUE(same_bits(by_table, by_options)) << how << inverse << int(pairs);
        EXPECT_FALSE(close(by_table, x, 1e-2));
      }
}

/// ONNX's RotaryEmbedding with position_ids, of any type of numbers.
TYPED_TEST(RotaryTables, MayBeTheCallersByPosition) {
  using T = TypeParam;
  const auto with = [](auto number) {
    using U = decltype(number);
    const Tensor<T> x = normal<T>(3, 2, 2, 40, 40);
    const Tensor<U, 2> cosines = normal<float>(4, 90, 18).template cast<U>(),
                       sines = normal<float>(5, 90, 18).template cast<U>();
    Tensor<std::int64_t, 2> positions(2, 40);
    for (Index i = 0; i < 80; ++i) positions.data()[i] = (i * 53) % 90;
    for (const bool interleaved : {false, true}) {
      Tensor<T> y = x;
      rotary(y, cosines, sines,
             {.pairs = interleaved ? RotaryOptions::interleaved : RotaryOptions::half_split,
              .positions = positions});
      EXPECT_TRUE(close(
          y, turned(
                 array(x), 36, interleaved,
                 [&](Index b, Index n, Index i) { return double(cosines(positions(b, n), i)); },
                 [&](Index b, Index n, Index i) { return double(sines(positions(b, n), i)); })));
    }
  };
  with(float());
  with(double());
  with(Eigen::bfloat16());
  with(Eigen::half());
}

/// ONNX's without position_ids; a leading dimension of 1 is for all sequences.
TYPED_TEST(RotaryTables, MayBeTheCallersByToken) {
  using T = TypeParam;
  const Tensor<T> x = normal<T>(6, 2, 3, 33, 12);
  for (const Index sequences : {1, 2}) {
    const Tensor<T, 3> cosines = normal<T>(7, sequences, 33, 6),
                       sines = normal<T>(8, sequences, 33, 6);
    Tensor<T> y = x;
    rotary(y, cosines, sines);
    const auto at = [&](const Tensor<T, 3>& table) {
      return [&](Index b, Index n, Index i) { return double(table(sequences == 1 ? 0 : b, n, i)); };
    };
    EXPECT_TRUE(close(y, turned(array(x), 12, false, at(cosines), at(sines)))) << sequences;
  }
}

/// ⟨turned x, y⟩ = ⟨x, y turned back⟩, also with a factor, where turning back is not the inverse.
TYPED_TEST(RotaryTables, TurnGradientsByTheAdjoint) {
  using T = TypeParam;
  const Tensor<T> x = normal<T>(9, 2, 2, 30, 40), y = normal<T>(10, 2, 2, 30, 40);
  const auto product = [](const Tensor<T>& a, const Tensor<T>& b) {
    double sum = 0;
    for (Index i = 0; i < a.size(); ++i) sum += double(a.data()[i]) * double(b.data()[i]);
    return sum;
  };
  const auto adjoint = [&](auto&& turn) {
    Tensor<T> forth = x, back = y;
    turn(forth, false), turn(back, true);
    EXPECT_NEAR(product(forth, y), product(x, back), 2000 * tolerance<T>);
    EXPECT_GT(std::abs(product(forth, y) - product(x, y)), 0.1);  // or nothing turned
  };
  const RotaryScaling yarn = YarnRotary{.factor = 4, .original_context = 1000};
  const RotaryTable<T> table(40, 0, 30, {.scaling = yarn});
  const Tensor<T, 3> cosines = normal<T>(11, 2, 30, 20), sines = normal<T>(12, 2, 30, 20);
  for (const auto pairs : {RotaryOptions::interleaved, RotaryOptions::half_split}) {
    adjoint([&](Tensor<T>& z, bool inverse) {
      rotary(z, {.pairs = pairs, .dims = 36, .inverse = inverse, .scaling = yarn});
    });
    adjoint([&](Tensor<T>& z, bool inverse) {
      rotary(z, table, {.pairs = pairs, .inverse = inverse});
    });
    adjoint([&](Tensor<T>& z, bool inverse) {
      rotary(z, cosines, sines, {.pairs = pairs, .inverse = inverse});
    });
  }
}

/// d/dx of a weighted sum of what is turned, by central differences.
TEST(RotaryGradient, IsTheWeightsTurnedBack) {
  const Tensor<double> x = normal<double>(13, 1, 2, 5, 6), weights = normal<double>(14, 1, 2, 5, 6);
  RotaryOptions options;
  options.offset = 3;
  options.scaling = YarnRotary{.factor = 8, .original_context = 100};
  const auto loss = [&](Tensor<double> y) {
    rotary(y, options);
    double sum = 0;
    for (Index i = 0; i < y.size(); ++i) sum += y.data()[i] * weights.data()[i];
    return sum;
  };
  Tensor<double> gradient = weights;
  RotaryOptions back = options;
  back.inverse = true;
  rotary(gradient, back);
  for (Index i = 0; i < x.size(); ++i) {
    Tensor<double> more = x, less = x;
    more.data()[i] += 1e-5, less.data()[i] -= 1e-5;
    EXPECT_NEAR(gradient.data()[i], (loss(more) - loss(less)) / 2e-5, 1e-8) << i;
  }
}

template <class S>
class RotaryOfSixteenBits : public testing::Test {};
using RotaryFormats = testing::Types<Eigen::bfloat16, Eigen::half>;
TYPED_TEST_SUITE(RotaryOfSixteenBits, RotaryFormats);

/// Rounded once: no further from the exact number than half a step, and what float loses.
TYPED_TEST(RotaryOfSixteenBits, IsRoundedOnce) {
  using S = TypeParam;
  const double step = std::ldexp(1., 1 - std::numeric_limits<S>::digits);
  for (const Index dims : {6, 32, 64, 76}) {
    const Tensor<S> x = normal<float>(15, 2, 2, 70, 80).template cast<S>();
    const RotaryTable<float> table(dims, 5000, 70);
    const RotaryTable<double> double_table(dims, 5000, 70);
    for (const bool interleaved : {false, true}) {
      const auto pairs = interleaved ? RotaryOptions::interleaved : RotaryOptions::half_split;
      const auto angle = [&](Index n, Index i) {
        return double(5000 + n) * std::pow(10000., -2 * double(i) / double(dims));
      };
      const reference::Array want = turned(
          array(x), dims, interleaved,
          [&](Index, Index n, Index i) { return std::cos(angle(n, i)); },
          [&](Index, Index n, Index i) { return std::sin(angle(n, i)); });
      Tensor<S> y = x, by_table = x, by_doubles = x;
      rotary(y, {.pairs = pairs, .dims = dims, .offset = 5000});
      rotary(by_table, table, {.pairs = pairs, .offset = 5000});
      rotary(by_doubles, double_table, {.pairs = pairs, .offset = 5000});
      EXPECT_TRUE(same_bits(by_table, y));
      EXPECT_TRUE(same_bits(by_doubles, y));
      for (Index i = 0; i < y.size(); ++i) {
        const double exact = want.values[std::size_t(i)], got = double(float(y.data()[i]));
        ASSERT_LE(std::abs(got - exact), 0.5 * step * std::abs(exact) * (1 + 1e-3) + 1e-6)
            << dims << interleaved << " at " << i;
      }
    }
  }
}

TYPED_TEST(RotaryTables, RefuseWhatTheyDoNotHold) {
  using T = TypeParam;
  Tensor<T> x = normal<T>(16, 2, 1, 4, 6);
  const Tensor<T> before = x;
  const RotaryTable<T> table(6, 10, 5);
  EXPECT_NO_THROW(rotary(Tensor<T>(x).setZero(), table, {.offset = 10}));
  EXPECT_NO_THROW(rotary(Tensor<T>(x).setZero(), table, {.offset = 11}));
  constexpr Index most = std::numeric_limits<Index>::max();
  for (const Index offset : {Index(0), Index(9), Index(12), most - 3, most, -most - 1, -most + 8})
    EXPECT_THROW(rotary(x, table, {.offset = offset}), ValueError) << offset;
  Tensor<std::int64_t, 2> positions(2, 4);
  for (const Index wrong : {Index(9), Index(15), most, -most - 1}) {
    positions.setConstant(12);
    positions(1, 2) = wrong;
    EXPECT_THROW(rotary(x, table, {.positions = positions}), ValueError) << wrong;
  }
  Tensor<std::int64_t, 1> offsets(2);
  offsets.setValues({11, 12});
  EXPECT_THROW(rotary(x, table, {.offsets = offsets}), ValueError);
  EXPECT_THROW(rotary(x, RotaryTable<T>(8, 0, 5)), ShapeError);
  EXPECT_THROW(rotary(x, RotaryTable<T>(6, 0, 0)), ValueError);
  EXPECT_TRUE(same_bits(x, before));

  EXPECT_THROW(RotaryTable<T>(5, 0, 5), ValueError);
  EXPECT_THROW(RotaryTable<T>(-2, 0, 5), ValueError);
  EXPECT_THROW(RotaryTable<T>(6, 0, -1), ValueError);
  EXPECT_THROW(RotaryTable<T>(6, most, 2), ValueError);
  EXPECT_THROW(RotaryTable<T>(6, -most - 1, 2), ValueError);
  EXPECT_THROW(RotaryTable<T>(1 << 20, 0, Index(1) << 50), ValueError);
  EXPECT_THROW(RotaryTable<T>(6, 0, 5, {.base = 0}), ValueError);
}

TYPED_TEST(RotaryTables, RefuseCallersOfOtherShapes) {
  using T = TypeParam;
  Tensor<T> x = normal<T>(17, 2, 1, 4, 6);
  const Tensor<T> before = x;
  const Tensor<T, 2> by_position = normal<T>(18, 4, 3), shorter = normal<T>(18, 3, 3),
                     wide = normal<T>(18, 4, 4);
  EXPECT_THROW(rotary(x, by_position, shorter), ShapeError);
  EXPECT_THROW(rotary(x, wide, wide), ShapeError);
  EXPECT_THROW(rotary(x, shorter, shorter), ValueError);
  EXPECT_THROW(rotary(x, by_position, by_position, {.offset = -1}), ValueError);
  const View<const T, 2> strided(by_position.data(), {4, 3}, {1, 4}), null(nullptr, {4, 3});
  EXPECT_THROW(rotary(x, strided, by_position), ShapeError);
  EXPECT_THROW(rotary(x, by_position, strided), ShapeError);
  EXPECT_THROW(rotary(x, null, by_position), ValueError);
  EXPECT_THROW(rotary(x, by_position, null), ValueError);

  const Tensor<T, 3> by_token = normal<T>(19, 2, 4, 3), fewer = normal<T>(19, 2, 3, 3),
                     sequences = normal<T>(19, 3, 4, 3);
  EXPECT_THROW(rotary(x, by_token, fewer), ShapeError);
  EXPECT_THROW(rotary(x, fewer, fewer), ShapeError);
  EXPECT_THROW(rotary(x, sequences, sequences), ShapeError);
  EXPECT_THROW(rotary(x, by_token, by_token, {.offset = 1}), ValueError);
  Tensor<std::int64_t, 1> offsets(2);
  offsets.setZero();
  EXPECT_THROW(rotary(x, by_token, by_token, {.offsets = offsets}), ValueError);
  EXPECT_TRUE(same_bits(x, before));

  // Cosines in x itself.
  const View<const T, 2> inside(x.data() + x.size() - 12, {4, 3});
  EXPECT_THROW(rotary(x, inside, by_position), ShapeError);
  EXPECT_THROW(rotary(x, by_position, inside), ShapeError);
  EXPECT_TRUE(same_bits(x, before));
}

}  // namespace
}  // namespace heed::test
