// SPDX-License-Identifier: MIT
// A few queries against keys and values as they are stored. All numbers are small and whole, so
// that sums are exact in any order and results are compared bit for bit; arrays end with the last
// number that may be read, so that a sanitizer sees any more.

#include "heed/simd/stored_rows.hpp"

#include "support/calls.hpp"

#include <Eigen/Core>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <sys/mman.h>
#include <unistd.h>
#include <vector>

namespace heed::test {
namespace {

template <class T, class Numbers>
auto rows_of(const Numbers& x, Index stride) {
  return simd::StoredRows<T, std::remove_cvref_t<decltype(*x.data())>>{x.data(), stride};
}

template <class T>
class StoredRows : public testing::Test {
 protected:
  static constexpr Index panel = 2 * simd::width<T>;
  static constexpr T untouched = T(-12345);

  static T whole(Index i) { return T(i * 37 % 11 - 5); }
  static T scale(Index key) { return T(1 + key % 3); }

  template <class S>
  static std::vector<S> filled(Index count) {
    std::vector<S> x(std::size_t(count), S(0));
    for (Index i = 0; i < count; ++i) x[std::size_t(i)] = S(float(whole(i)));
    return x;
  }
  static std::vector<T> scales(Index keys) {
    std::vector<T> x;
    for (Index j = 0; j < keys; ++j) x.push_back(scale(j));
    return x;
  }

  /// Σ_d q[row][d] · key(d)
  template <class Key>
  static T dot(const std::vector<T>& q, Index row, Index dim, Key&& key) {
    T sum = 0;
    for (Index d = 0; d < dim; ++d) sum += q[std::size_t(row * dim + d)] * T(key(d));
    return sum;
  }

  /// As dot_rows() and dot_panels() want them.
  class Padded {
   public:
    Padded(const std::vector<T>& q, Index rows, Index dim)
        : rows_(rows), dim_(dim), stride_((dim + width - 1) / width * width) {
      numbers_.assign(std::size_t(rows * stride_), T(0));
      for (Index r = 0; r < rows; ++r)
        std::copy_n(q.data() + r * dim, dim, numbers_.data() + r * stride_);
    }
    operator simd::Queries<T>() const { return {numbers_.data(), rows_, dim_, stride_}; }

   private:
    static constexpr Index width = simd::width<T>;
    Index rows_, dim_, stride_;
    std::vector<T> numbers_;
  };

  template <class S>
  static void dot_rows(Index rows, Index keys, Index dim, Index stride) {
    const auto q = filled<T>(rows * dim), s = scales(keys);
    auto k = filled<S>((keys - 1) * stride + dim);
    const Index out_stride = keys + 1;
    std::vector<T> out(std::size_t(rows * out_stride), untouched);
    simd::dot_rows<T>(Padded(q, rows, dim), rows_of<T>(k, stride), keys, s.data(), out.data(),
                      out_stride);
    for (Index r = 0; r < rows; ++r) {
      for (Index j = 0; j < keys; ++j)
        ASSERT_EQ(
            out[std::size_t(r * out_stride + j)],
            scale(j) * dot(q, r, dim, [&](Index d) { return k[std::size_t(j * stride + d)]; }))
            << "row " << r << " of " << rows << ", key " << j << " of " << keys << ", dim " << dim;
      ASSERT_EQ(out[std::size_t(r * out_stride + keys)], untouched) << rows << ' ' << keys;
    }
  }

  template <class S>
  static void dot_panels(Index rows, Index panels, Index dim) {
    const Index keys = panels * panel;
    const auto q = filled<T>(rows * dim), s = scales(keys);
    const auto k = filled<S>(keys * dim);
    constexpr bool scaled = std::is_same_v<S, std::int8_t>;
    std::vector<T> out(std::size_t(rows * keys), untouched);
    simd::dot_panels<2, T>(Padded(q, rows, dim), k.data(), panel * dim, keys,
                           scaled ? s.data() : nullptr, out.data(), keys);
    for (Index r = 0; r < rows; ++r)
      for (Index j = 0; j < keys; ++j)
        ASSERT_EQ(out[std::size_t(r * keys + j)],
                  (scaled ? scale(j) : T(1)) *
                      dot(q, r, dim,
                          [&](Index d) {
                            return k[std::size_t(j / panel * panel * dim + d * panel + j % panel)];
                          }))
            << "row " << r << " of " << rows << ", key " << j << " of " << keys << ", dim " << dim;
  }

  template <class S>
  static void add_rows(Index rows, Index keys, Index dim, Index stride) {
    const auto p = filled<T>(rows * keys);
    const auto v = filled<S>((keys - 1) * stride + dim);
    auto out = filled<T>(rows * (dim + 1));
    simd::add_rows(p.data(), keys, rows, rows_of<T>(v, stride), keys, dim, out.data(), dim + 1);
    for (Index r = 0; r < rows; ++r) {
      for (Index d = 0; d < dim; ++d)
        ASSERT_EQ(out[std::size_t(r * (dim + 1) + d)],
                  whole(r * (dim + 1) + d) +
                      dot(p, r, keys, [&](Index j) { return v[std::size_t(j * stride + d)]; }))
            << "row " << r << " of " << rows << ", column " << d << " of " << dim << ", keys "
            << keys;
      ASSERT_EQ(out[std::size_t(r * (dim + 1) + dim)], whole(r * (dim + 1) + dim));
    }
  }

  /// run(type) for all that may be stored.
  template <class Run>
  static void each_storage(Run&& run) {
    run(T());
    run(std::int8_t());
    if constexpr (std::is_same_v<T, float>) {
      run(Eigen::bfloat16());
      run(Eigen::half());
    }
  }
};
TYPED_TEST_SUITE(StoredRows, Scalars, ScalarName);

constexpr Index dims[] = {1, 3, 7, 8, 15, 16, 17, 31, 33, 40, 128, 130};

TYPED_TEST(StoredRows, AreMultipliedByRowsOfKeys) {
  this->each_storage([&]<class S>(S) {
    for (Index rows = 1; rows <= 13; ++rows)
      for (const Index dim : dims)
        for (const Index keys : {1, 2, 3, 4, 7, 8, 9, 15, 16, 17, 31, 33})
          this->template dot_rows<S>(rows, keys, dim, dim + keys % 3);
  });
}

TYPED_TEST(StoredRows, AreMultipliedByPanelsOfKeys) {
  this->each_storage([&]<class S>(S) {
    for (Index rows = 1; rows <= 13; ++rows)
      for (const Index dim : dims)
        for (Index panels = 1; panels <= 5; ++panels)
          this->template dot_panels<S>(rows, panels, dim);
  });
}

TYPED_TEST(StoredRows, AddUpValues) {
  this->each_storage([&]<class S>(S) {
    for (Index rows = 1; rows <= 13; ++rows)
      for (const Index dim : dims)
        for (const Index keys : {1, 2, 5, 16, 19})
          this->template add_rows<S>(rows, keys, dim, dim + keys % 3);
  });
}

/// What belongs to no key, between one and the next, is not looked at; and one that is NaN makes
/// no other so.
TYPED_TEST(StoredRows, KeepKeysApart) {
  using T = TypeParam;
  constexpr T nan = std::numeric_limits<T>::quiet_NaN();
  for (Index rows = 1; rows <= 9; ++rows)
    for (const Index dim : dims) {
      constexpr Index keys = 21, bad = 9;
      const Index stride = dim + 2;
      const auto q = this->template filled<T>(rows * dim), s = this->scales(keys);
      auto k = this->template filled<T>(keys * stride);
      for (Index j = 0; j < keys; ++j)
        k[std::size_t(j * stride + dim)] = k[std::size_t(j * stride + dim + 1)] = nan;
      k[std::size_t(bad * stride + dim - 1)] = nan;
      std::vector<T> out(std::size_t(rows * keys));
      simd::dot_rows<T>(typename TestFixture::Padded(q, rows, dim), rows_of<T>(k, stride), keys,
                        s.data(), out.data(), keys);
      for (Index r = 0; r < rows; ++r)
        for (Index j = 0; j < keys; ++j)
          ASSERT_EQ(std::isnan(out[std::size_t(r * keys + j)]), j == bad)
              << "row " << r << " of " << rows << ", key " << j << ", dim " << dim;
    }
}

/// A score of −∞ stays one, wherever in a key the infinite number stands.
TYPED_TEST(StoredRows, LeaveInfiniteScoresInfinite) {
  using T = TypeParam;
  constexpr T infinity = std::numeric_limits<T>::infinity();
  constexpr Index keys = 5, bad = 2;
  for (Index rows = 1; rows <= 9; ++rows)
    for (const Index dim : dims)
      for (Index column = 0; column < dim; ++column) {
        const std::vector<T> q(std::size_t(rows * dim), T(-1));
        std::vector<T> k(std::size_t(keys * dim), T(1)), out(std::size_t(rows * keys));
        k[std::size_t(bad * dim + column)] = infinity;
        const auto s = this->scales(keys);
        simd::dot_rows<T>(typename TestFixture::Padded(q, rows, dim), rows_of<T>(k, dim), keys,
                          s.data(), out.data(), keys);
        for (Index r = 0; r < rows; ++r)
          for (Index j = 0; j < keys; ++j)
            ASSERT_EQ(out[std::size_t(r * keys + j)],
                      j == bad ? -infinity : -T(dim) * this->scale(j))
                << "row " << r << " of " << rows << ", key " << j << ", column " << column << " of "
                << dim;
      }
}

/// A weight of zero excludes its value, even NaN, from its own row and from no other.
TYPED_TEST(StoredRows, LeaveOutValuesWithoutWeight) {
  using T = TypeParam;
  constexpr Index keys = 7, bad = 3;
  for (const T value : {std::numeric_limits<T>::quiet_NaN(), std::numeric_limits<T>::infinity()})
    for (Index rows = 1; rows <= 13; ++rows)
      for (const Index dim : dims) {
        auto p = this->template filled<T>(rows * keys), v = this->template filled<T>(keys * dim);
        for (Index r = 0; r < rows; ++r) p[std::size_t(r * keys + bad)] = r % 3 == 1 ? T(2) : T(0);
        v[std::size_t(bad * dim + dim / 2)] = value;
        std::vector<T> out(std::size_t(rows * dim), T(0));
        simd::add_rows(p.data(), keys, rows, rows_of<T>(v, dim), keys, dim, out.data(), dim);
        for (Index r = 0; r < rows; ++r)
          for (Index d = 0; d < dim; ++d) {
            T sum = 0;
            for (Index j = 0; j < keys; ++j)
              if (const T weight = p[std::size_t(r * keys + j)]; weight != 0)
                sum += weight * v[std::size_t(j * dim + d)];
            const T got = out[std::size_t(r * dim + d)];
            ASSERT_TRUE(got == sum || (std::isnan(got) && std::isnan(sum)))
                << got << " is " << sum << ", row " << r << " of " << rows << ", column " << d
                << " of " << dim;
          }
      }
}

#ifdef __AVX512BF16__

/// Numbers whose last one ends a page that may be read, before one that may not.
template <class S>
class BeforeAWall {
 public:
  explicit BeforeAWall(const std::vector<S>& x) {
    const std::size_t page = std::size_t(sysconf(_SC_PAGESIZE)), bytes = x.size() * sizeof(S);
    size_ = (bytes + page - 1) / page * page + page;
    start_ = static_cast<std::byte*>(
        mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    std::byte* const wall = start_ + size_ - page;
    EXPECT_EQ(mprotect(wall, page, PROT_NONE), 0);
    data_ = reinterpret_cast<S*>(wall - bytes);
    std::copy(x.begin(), x.end(), data_);
  }
  ~BeforeAWall() { munmap(start_, size_); }
  BeforeAWall(const BeforeAWall&) = delete;
  BeforeAWall& operator=(const BeforeAWall&) = delete;

  const S* data() const { return data_; }

 private:
  std::byte* start_ = nullptr;
  std::size_t size_ = 0;
  S* data_ = nullptr;
};

/// The sanitized build has no such instructions: these tests watch over the ends of arrays
/// themselves. Queries and weights of bfloat16 beside what is stored in it: as above, by twos.
class StoredPairs : public testing::Test {
 protected:
  using S = Eigen::bfloat16;
  using Pair = simd::Bfloat16Pair;

  static float whole(Index i) { return float(i * 37 % 11 - 5); }
  static std::vector<S> filled(Index count) {
    std::vector<S> x;
    for (Index i = 0; i < count; ++i) x.push_back(S(whole(i)));
    return x;
  }
  /// Rows of whole(i), each `stride` operands; zero beside and behind the last.
  static std::vector<Pair> paired(Index rows, Index count, Index stride) {
    std::vector<Pair> x(std::size_t(rows * stride), Pair{0});
    for (Index r = 0; r < rows; ++r)
      for (Index i = 0; i < count; ++i)
        x[std::size_t(r * stride + i / 2)].bits |=
            std::uint32_t(Eigen::numext::bit_cast<std::uint16_t>(S(whole(r * count + i))))
            << (i % 2 * 16);
    return x;
  }
};

TEST_F(StoredPairs, AreMultipliedByRowsOfKeys) {
  for (Index rows = 1; rows <= 13; ++rows)
    for (const Index dim : dims)
      for (const Index keys : {1, 2, 3, 8, 15, 16, 17, 33}) {
        const Index stride = dim + keys % 3, operands = (dim + 31) / 32 * 16, out_stride = keys + 1;
        const auto q = paired(rows, dim, operands);
        const BeforeAWall<S> k(filled((keys - 1) * stride + dim));
        std::vector<float> scale, out(std::size_t(rows * out_stride), -12345);
        for (Index j = 0; j < keys; ++j) scale.push_back(float(1 + j % 3));
        simd::dot_rows(simd::Queries<Pair>{q.data(), rows, dim, operands},
                       rows_of<float>(k, stride), keys, scale.data(), out.data(), out_stride);
        for (Index r = 0; r < rows; ++r) {
          for (Index j = 0; j < keys; ++j) {
            float sum = 0;
            for (Index d = 0; d < dim; ++d) sum += whole(r * dim + d) * whole(j * stride + d);
            ASSERT_EQ(out[std::size_t(r * out_stride + j)], float(1 + j % 3) * sum)
                << "row " << r << " of " << rows << ", key " << j << " of " << keys << ", dim "
                << dim;
          }
          ASSERT_EQ(out[std::size_t(r * out_stride + keys)], -12345);
        }
      }
}

TEST_F(StoredPairs, AddUpValues) {
  for (Index rows = 1; rows <= 13; ++rows)
    for (const Index dim : dims)
      for (const Index keys : {1, 2, 5, 16, 19}) {
        const Index stride = dim + keys % 3, p_stride = (keys + 1) / 2 + 1;
        const auto p = paired(rows, keys, p_stride);
        const BeforeAWall<S> v(filled((keys - 1) * stride + dim));
        std::vector<float> out(std::size_t(rows * (dim + 1)), 3);
        simd::add_rows(p.data(), p_stride, rows, rows_of<float>(v, stride), keys, dim, out.data(),
                       dim + 1);
        for (Index r = 0; r < rows; ++r) {
          for (Index d = 0; d < dim; ++d) {
            float sum = 3;
            for (Index j = 0; j < keys; ++j) sum += whole(r * keys + j) * whole(j * stride + d);
            ASSERT_EQ(out[std::size_t(r * (dim + 1) + d)], sum)
                << "row " << r << " of " << rows << ", column " << d << " of " << dim << ", keys "
                << keys;
          }
          ASSERT_EQ(out[std::size_t(r * (dim + 1) + dim)], 3);
        }
      }
}

/// As above, for either half of a pair; the last of an odd number has no neighbour.
TEST_F(StoredPairs, LeaveOutValuesWithoutWeight) {
  constexpr Index keys = 7;
  for (const float value :
       {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()})
    for (const Index bad : {2, 3, 6})
      for (Index rows = 1; rows <= 13; ++rows)
        for (const Index dim : dims) {
          const std::uint32_t half = bad % 2 == 0 ? 0xffff : 0xffff0000;
          auto p = paired(rows, keys, 4);
          auto v = filled(keys * dim);
          v[std::size_t(bad * dim + dim / 2)] = S(value);
          std::vector<float> out(std::size_t(rows * dim), 0);
          for (Index r = 0; r < rows; ++r) {
            std::uint32_t& bits = p[std::size_t(r * 4 + bad / 2)].bits;
            bits = (bits & ~half) | (r % 3 == 1 ? 0x40004000 & half : 0);
          }
          simd::add_rows(p.data(), 4, rows, rows_of<float>(v, dim), keys, dim, out.data(), dim);
          for (Index r = 0; r < rows; ++r)
            for (Index d = 0; d < dim; ++d) {
              float sum = 0;
              for (Index j = 0; j < keys; ++j)
                if (const float weight = j != bad     ? whole(r * keys + j)
                                         : r % 3 == 1 ? 2.f
                                                      : 0.f;
                    weight != 0)
                  sum += weight * float(v[std::size_t(j * dim + d)]);
              const float got = out[std::size_t(r * dim + d)];
              ASSERT_TRUE(got == sum || (std::isnan(got) && std::isnan(sum)))
                  << got << " is " << sum << ", row " << r << " of " << rows << ", column " << d
                  << " of " << dim << ", bad " << bad;
            }
        }
}

#endif

}  // namespace
}  // namespace heed::test
