// SPDX-License-Identifier: MIT
#include "heed/kv/key_difference.hpp"

#include "support/buffers.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

namespace heed::test::key_differences {
namespace {

template <class T>
class KeyDifferences : public testing::Test {};
TYPED_TEST_SUITE(KeyDifferences, Scalars, ScalarName);

constexpr Index rows = 90, dim = 10, key_heads = 2, budget = 40;

/// Σ_g cos(k_j, mean of the directions) of the keys held, in plain loops.
template <class T>
std::vector<double> similarities(const Inputs<T>& in, const std::vector<Index>& held) {
  std::vector<double> sums(held.size(), 0);
  for (Index g = 0; g < key_heads; ++g) {
    std::vector<double> mean(std::size_t(dim), 0), cosines;
    const auto length = [&](Index j) {
      double squares = 0;
      for (Index i = 0; i < dim; ++i) squares += std::pow(double(in.k(0, g, j, i)), 2);
      return std::sqrt(squares);
    };
    for (const Index j : held)
      for (Index i = 0; i < dim && length(j) > 0; ++i)
        mean[std::size_t(i)] += double(in.k(0, g, j, i)) / length(j);
    double of_mean = 0;
    for (const double x : mean) of_mean += x * x;
    for (std::size_t n = 0; n < held.size(); ++n) {
      double dot = 0;
      for (Index i = 0; i < dim; ++i) dot += double(in.k(0, g, held[n], i)) * mean[std::size_t(i)];
      if (length(held[n]) > 0) sums[n] += dot / length(held[n]) / std::sqrt(of_mean);
    }
  }
  return sums;
}

/// The token evicted at each row is one of the most similar to the others.
TYPED_TEST(KeyDifferences, EvictTheMostSimilarKey) {
  using T = TypeParam;
  Inputs<T> in = inputs<T>(tokens(rows, dim, 4, key_heads), 3);
  for (Index i = 0; i < dim; ++i) in.k(0, 0, 20, i) = T(0);  // has no direction
  for (const EvictWhen when : {EvictWhen::before_row, EvictWhen::after_row}) {
    const KvOptions o{.budget = budget, .evict = key_difference, .when = when, .select = {}};
    SCOPED_TRACE(describe(o));
    const Buffered<T> got = through(o, in);
    const bool before = when == EvictWhen::before_row;
    for (Index row = budget + (before ? 0 : 1); row < rows; ++row) {
      std::vector<Index> held;  // before the eviction
      Index evicted = -1;
      for (Index j = 0; j < row; ++j) {
        if (got.evict_row(0, j) >= row) held.push_back(j);
        if (got.evict_row(0, j) == row) evicted = j;
      }
      ASSERT_NE(evicted, -1) << row;
      const std::vector<double> of = similarities(in, held);
      double most = -1e9, of_evicted = 0;
      for (std::size_t n = 0; n < held.size(); ++n) {
        if (held[n] == evicted) of_evicted = of[n];
        if (before || held[n] != row - 1) most = std::max(most, of[n]);  // that one is recent
      }
      EXPECT_GE(of_evicted, most - 1e-5) << row;
    }
  }
}

/// One direction many times, and one once: the odd one stays.
TYPED_TEST(KeyDifferences, KeepTheOddOneByHand) {
  using T = TypeParam;
  Inputs<T> in = inputs<T>(tokens(8, 2), 1);
  for (Index j = 0; j < 8; ++j) in.k(0, 0, j, 0) = T(1 + j), in.k(0, 0, j, 1) = T(0);
  in.k(0, 0, 2, 0) = T(0), in.k(0, 0, 2, 1) = T(5);
  const Buffered<T> got =
      through(KvOptions{.budget = 3, .evict = key_difference, .protect = {}, .select = {}}, in);
  EXPECT_EQ(got.evict_row(0, 2), 8);
  EXPECT_EQ(got.evict_row(0, 0), 3);
  EXPECT_EQ(got.evict_row(0, 1), 4);
}

/// A bad key goes first, and does not change what is said of the others.
TYPED_TEST(KeyDifferences, AreNotSpoiltByABadKey) {
  using T = TypeParam;
  const Inputs<T> good = inputs<T>(tokens(rows, dim, 4, key_heads), 3);
  for (const T bad : {std::numeric_limits<T>::quiet_NaN(), std::numeric_limits<T>::infinity()}) {
    Inputs<T> in = good;
    in.k(0, 1, 30, 4) = bad;
    const KvOptions o{.budget = budget, .evict = key_difference, .select = {}};
    const Buffered<T> got = through(o, in);
    EXPECT_EQ(got.evict_row(0, 30), budget);
    for (Index j = 0; j < rows; ++j) {
      if (j != 30) {
        EXPECT_GT(got.evict_row(0, j), budget) << j;
      }
    }
  }
}

}  // namespace
}  // namespace heed::test::key_differences
