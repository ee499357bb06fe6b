// SPDX-License-Identifier: MIT
#include "heed/simd/product.hpp"

#include "support/calls.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

namespace heed::test {
namespace {

template <class T>
class Products : public testing::Test {
 protected:
  static constexpr Index width = simd::width<T>;

  static std::vector<T> numbers(std::uint64_t seed, Index count) {
    Random random(seed);
    std::vector<T> x;
    for (Index i = 0; i < count; ++i) x.push_back(T(random.normal()));
    return x;
  }

  /// q[dim][rows], keys in panels: acc against three loops.
  template <int Rows, int Vectors, int PanelVectors>
  static void expect_scores(Index dim) {
    SCOPED_TRACE(testing::Message() << Rows << " rows, " << Vectors << " registers in panels of "
                                    << PanelVectors << ", " << dim << " dimensions");
    const Index q_stride = Rows + 2, panel = PanelVectors * width, panel_stride = dim * panel + 5;
    const std::vector<T> q = numbers(1, dim * q_stride),
                         k = numbers(2, Vectors / PanelVectors * panel_stride);
    simd::Batch<T> acc[Rows][Vectors];
    simd::multiply<Rows, Vectors, PanelVectors>(q.data(), q_stride, k.data(), panel_stride, dim,
                                                acc);
    for (Index r = 0; r < Rows; ++r)
      for (Index v = 0; v < Vectors; ++v) {
        std::vector<T> lanes(std::size_t(width), T(0));
        acc[r][v].store_unaligned(lanes.data());
        for (Index i = 0; i < width; ++i) {
          const Index key = v * width + i;
          double want = 0;
          for (Index d = 0; d < dim; ++d)
            want += double(q[std::size_t(d * q_stride + r)]) *
                    double(k[std::size_t(key / panel * panel_stride + d * panel + key % panel)]);
          ASSERT_NEAR(lanes[std::size_t(i)], want, tolerance<T> * std::sqrt(double(dim + 1)));
        }
      }
  }

  static constexpr Index row_stride = 16, key_stride = 12;

  /// out += p v for p with rows of 16 keys and its transpose with rows of 12, and nothing beside it
  /// is touched.
  template <int Rows, int Vectors, Index RowStride, Index KeyStride>
  static void expect_sums(Index keys, Index dim) {
    SCOPED_TRACE(testing::Message()
                 << Rows << " rows, " << Vectors << " registers, " << keys << " keys, " << dim
                 << " columns, strides " << RowStride << ", " << KeyStride);
    const Index v_stride = dim + 3, out_stride = dim + 7;
    const std::vector<T> p = numbers(3, row_stride * key_stride), v = numbers(4, keys * v_stride);
    const std::vector<T> before = numbers(5, Rows * out_stride);
    std::vector<T> out = before;
    simd::accumulate<Rows, Vectors, RowStride, KeyStride>(p.data(), v.data(), v_stride, keys, dim,
                                                          out.data(), out_stride);
    for (Index r = 0; r < Rows; ++r)
      for (Index d = 0; d < out_stride; ++d) {
        const std::size_t at = std::size_t(r * out_stride + d);
        double want = double(before[at]);
        for (Index j = 0; j < keys && d < dim; ++j)
          want += double(p[std::size_t(r * RowStride + j * KeyStride)]) *
                  double(v[std::size_t(j * v_stride + d)]);
        if (d < dim) {
          ASSERT_NEAR(out[at], want, tolerance<T> * std::sqrt(double(keys + 1))) << r << ' ' << d;
        } else {
          ASSERT_EQ(out[at], before[at]) << r << ' ' << d;
        }
      }
  }

  template <int Rows, int Vectors>
  static void expect_sums() {
    for (const Index keys : {0, 1, 2, 3, 12})
      for (const Index registers : {0, 1, 2, 3, 5, 8, 11}) {
        expect_sums<Rows, Vectors, row_stride, 1>(keys, registers * width);
        expect_sums<Rows, Vectors, 1, key_stride>(keys, registers * width);
      }
  }
};
TYPED_TEST_SUITE(Products, Scalars, ScalarName);

/// The tiles the engine cuts, for 16 and for 32 registers.
TYPED_TEST(Products, OfQueriesAndKeysAreSumsOverDimensions) {
  for (const Index dim : {1, 2, 3, 4, 5, 16, 33, 128}) {
    this->template expect_scores<1, 8, 2>(dim);
    this->template expect_scores<2, 4, 2>(dim);
    this->template expect_scores<4, 4, 2>(dim);
    this->template expect_scores<6, 2, 2>(dim);
    this->template expect_scores<12, 2, 2>(dim);
    this->template expect_scores<3, 3, 1>(dim);
  }
}

TYPED_TEST(Products, OfNoDimensionsAreNought) {
  this->template expect_scores<4, 4, 2>(0);
}

TYPED_TEST(Products, OfWeightsAndValuesAreAddedToWhatIsThere) {
  this->template expect_sums<1, 8>();
  this->template expect_sums<2, 4>();
  this->template expect_sums<4, 4>();
  this->template expect_sums<6, 2>();
  this->template expect_sums<12, 2>();
}

/// Whether few rows or many: the same numbers, added in the same order.
TYPED_TEST(Products, OfWeightsAndValuesDoNotDependOnTheTile) {
  using T = TypeParam;
  const Index keys = 12, dim = 5 * this->width;
  const std::vector<T> p = this->numbers(6, 16 * 12), v = this->numbers(7, keys * dim);
  std::vector<T> one(std::size_t(12 * dim), T(0)), four = one, twelve = one;
  for (Index r = 0; r < 12; ++r)
    simd::accumulate<1, 8, 16, 1>(p.data() + 16 * r, v.data(), dim, keys, dim, one.data() + r * dim,
                                  dim);
  for (Index r = 0; r < 12; r += 4)
    simd::accumulate<4, 4, 16, 1>(p.data() + 16 * r, v.data(), dim, keys, dim,
                                  four.data() + r * dim, dim);
  simd::accumulate<12, 2, 16, 1>(p.data(), v.data(), dim, keys, dim, twelve.data(), dim);
  EXPECT_EQ(one, four);
  EXPECT_EQ(one, twelve);
}

// ---- and what is not seen

TYPED_TEST(Products, OfWhatIsSeenAreTheSameSums) {
  using T = TypeParam;
  const Index keys = 9, dim = 21, rows = 5;
  std::vector<T> p = this->numbers(8, rows * 16), v = this->numbers(9, keys * dim);
  for (Index r = 0; r < rows; ++r) p[std::size_t(r * 16 + r)] = 0;
  const std::vector<T> before = this->numbers(10, rows * dim);
  for (const bool transposed : {false, true}) {
    std::vector<T> out = before;
    if (transposed)
      simd::accumulate_weighted<1, 5>(rows, p.data(), v.data(), dim, keys, dim, out.data(), dim);
    else
      simd::accumulate_weighted<16, 1>(rows, p.data(), v.data(), dim, keys, dim, out.data(), dim);
    for (Index r = 0; r < rows; ++r)
      for (Index d = 0; d < dim; ++d) {
        double want = double(before[std::size_t(r * dim + d)]);
        for (Index j = 0; j < keys; ++j)
          want += double(p[std::size_t(transposed ? r + 5 * j : 16 * r + j)]) *
                  double(v[std::size_t(j * dim + d)]);
        EXPECT_NEAR(out[std::size_t(r * dim + d)], want, 10 * tolerance<T>);
      }
  }
}

/// And to the bit: that something a row does not see is NaN must not show even in a rounding.
TYPED_TEST(Products, OfWhatIsSeenRoundAsTheOthersDo) {
  using T = TypeParam;
  const Index keys = 12, dim = 3 * this->width, rows = 4;
  const std::vector<T> p = this->numbers(11, rows * 16), v = this->numbers(12, keys * dim);
  std::vector<T> all = this->numbers(13, rows * dim), seen = all;
  simd::accumulate<4, 2, 16, 1>(p.data(), v.data(), dim, keys, dim, all.data(), dim);
  simd::accumulate_weighted<16, 1>(rows, p.data(), v.data(), dim, keys, dim, seen.data(), dim);
  EXPECT_EQ(all, seen);
}

/// 0 · NaN is NaN and 0 · ∞ too: a weight of zero must not multiply.
TYPED_TEST(Products, OfWhatIsNotSeenLeaveNoTrace) {
  using T = TypeParam;
  using Limits = std::numeric_limits<T>;
  for (const T bad : {Limits::quiet_NaN(), Limits::infinity(), -Limits::infinity()})
    for (const T zero : {T(0), T(-0.)}) {
      const std::vector<T> p{T(0.5), zero, T(2)}, v{T(1), T(2), bad, bad, T(3), T(4)};
      std::vector<T> out{T(10), T(20)};
      simd::accumulate_weighted<3, 1>(1, p.data(), v.data(), 2, 3, 2, out.data(), 2);
      EXPECT_EQ(out, (std::vector<T>{T(16.5), T(29)}));
    }
}

/// Values with a weight are not masked.
TYPED_TEST(Products, OfNaNThatIsSeenAreNaN) {
  using T = TypeParam;
  const std::vector<T> p{T(0.5), T(1)}, v{T(1), std::numeric_limits<T>::quiet_NaN()};
  std::vector<T> out{T(0)};
  simd::accumulate_weighted<2, 1>(1, p.data(), v.data(), 1, 2, 1, out.data(), 1);
  EXPECT_TRUE(std::isnan(out[0]));
}

}  // namespace
}  // namespace heed::test
