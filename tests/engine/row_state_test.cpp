// SPDX-License-Identifier: MIT
#include "heed/engine/tile/row_state.hpp"

#include "heed/engine/blocking.hpp"
#include "support/calls.hpp"
#include "support/random.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cfenv>
#include <cmath>
#include <limits>
#include <vector>

namespace heed::test {
namespace {

constexpr Index numbers = 5;

/// One row's state, in memory of its own.
template <class T>
struct State : heed::detail::RowStates<T> {
  using Base = heed::detail::RowStates<T>;

  State() : Base(Base(1, heed::detail::round_up(numbers, simd::width<T>), memory())) {
    this->reset(0);
  }
  /// A key of this score, as a forward pass would: the maximum is at least its score.
  void meet(double score, double value) {
    if (T(score) > this->max[0]) this->rescale(0, T(score));
    const T weight = std::exp2(T(score) - this->max[0]);
    this->sum[0] += weight;
    for (Index d = 0; d < numbers; ++d) this->out[d] += weight * T(value + double(d));
  }
  std::vector<T> finished() const {
    std::vector<T> row(numbers, T(7));
    this->finish(0, row.data(), numbers);
    return row;
  }

 private:
  static Arena& memory() {
    static Workspace workspaces[8];
    static int next = 0;
    static Arena arena;
    return arena = Arena(workspaces[next++ % 8].reserve(4096));
  }
};

template <class T>
class RowStates : public testing::Test {
 protected:
  static constexpr T infinity = std::numeric_limits<T>::infinity();
};
TYPED_TEST_SUITE(RowStates, Scalars, ScalarName);

TYPED_TEST(RowStates, OfRowsThatMetNoKeyAreZero) {
  using T = TypeParam;
  const State<T> state;
  for (const T x : state.finished()) EXPECT_EQ(x, T(0));
  EXPECT_EQ(state.natural_lse(0), -TestFixture::infinity);
  EXPECT_EQ(state.log2_lse(0), heed::detail::no_lse<T>);
}

TYPED_TEST(RowStates, MayBeginWithAScoreWithoutValue) {
  using T = TypeParam;
  State<T> state;
  state.reset(0, T(3));
  EXPECT_NEAR(state.natural_lse(0), 3 * std::log(2.), tolerance<T>);
  state.meet(3, 8);
  EXPECT_NEAR(state.natural_lse(0), 4 * std::log(2.), tolerance<T>);
  EXPECT_NEAR(state.finished()[1], 4.5, tolerance<T>);
}

/// With no key in either half, and with the greater maximum in either.
TYPED_TEST(RowStates, MergedAreTheStateOfAllKeys) {
  using T = TypeParam;
  for (const int in_first : {0, 1, 6, 11, 12}) {
    SCOPED_TRACE(in_first);
    Random random(5);
    State<T> first, second;
    double sum = 0, value = 0;
    for (int key = 0; key < 12; ++key) {
      const double score = 20 * random.normal(), v = random.normal();
      (key < in_first ? first : second).meet(score, v);
      sum += std::exp2(score), value += std::exp2(score) * v;
    }
    first.merge(0, second);
    EXPECT_NEAR(first.natural_lse(0), std::log(sum), 20 * tolerance<T>);
    EXPECT_NEAR(first.log2_lse(0), std::log2(sum), 20 * tolerance<T>);
    for (Index d = 0; d < numbers; ++d)
      EXPECT_NEAR(first.finished()[std::size_t(d)], value / sum + double(d), 10 * tolerance<T>);
  }
}

TYPED_TEST(RowStates, KeepALogSumExpApartFromWhatTheyGather) {
  using T = TypeParam;
  State<T> state;
  state.meet(1, 2);
  state.set_natural_lse(0, T(std::log(8.)));
  EXPECT_NEAR(state.lse[0], 3, tolerance<T>);
  EXPECT_NEAR(state.log2_lse(0), 1, tolerance<T>);
  state.set_natural_lse(0, -TestFixture::infinity);
  EXPECT_EQ(state.lse[0], heed::detail::no_lse<T>);
}

/// Many small steps come to what a large one does; on the way nothing is subnormal.
TYPED_TEST(RowStates, LoseWhatHasFaded) {
  using T = TypeParam;
  constexpr T least = std::numeric_limits<T>::min();
  State<T> state;
  state.meet(0, -3);
  std::feclearexcept(FE_ALL_EXCEPT);
  for (int step = 1; step <= 40; ++step) {
    state.rescale(0, T(30 * step));
    for (Index d = 0; d < numbers; ++d)
      EXPECT_TRUE(state.out[d] == T(0) || std::abs(state.out[d]) >= least) << state.out[d];
    if (step == 2) {
      EXPECT_EQ(state.out[0], T(-3) * T(0x1p-60));
    }
  }
  EXPECT_EQ(std::fetestexcept(FE_UNDERFLOW), 0);
  EXPECT_EQ(state.out[0], T(0));
  EXPECT_EQ(state.sum[0], T(0));

  State<T> other;
  other.meet(0, -3);
  EXPECT_EQ(other.rescale(0, T(5000)), T(0));
  EXPECT_EQ(other.out[0], T(0));
}

TYPED_TEST(RowStates, KeepNaNHoweverFaded) {
  using T = TypeParam;
  State<T> state;
  state.meet(0, std::numeric_limits<double>::quiet_NaN());
  state.rescale(0, T(5000));
  EXPECT_TRUE(std::isnan(state.out[0]));
}

/// Only masked keys weigh zero.
TYPED_TEST(RowStates, LeaveTheFadedAWeight) {
  using T = TypeParam;
  constexpr T least = simd::least_power<T>;
  constexpr Index count = simd::width<T>;
  const T factor = std::sqrt(least);
  for (const T by : {factor, T(0)}) {
    std::vector<T> weights(std::size_t(count), T(0));
    const auto after = [&](T weight) {
      weights[0] = weight;
      simd::Operand<T>::rescale_weights(weights.data(), count, by);
      return weights[0];
    };
    EXPECT_EQ(after(T(0)), T(0));
    EXPECT_EQ(after(T(1)), std::max(by, least));
    EXPECT_EQ(after(factor / 2), least);
    if (by != T(0)) {
      EXPECT_EQ(after(T(-4)), -4 * by);
    }
    EXPECT_TRUE(std::isnan(after(std::numeric_limits<T>::quiet_NaN())));
  }
}

}  // namespace
}  // namespace heed::test
