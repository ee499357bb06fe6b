// SPDX-License-Identifier: MIT
// Where tensors lie in memory, against lists of their bytes.
#include "heed/core/check.hpp"

#include "support/border.hpp"
#include "support/random.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <limits>
#include <string>
#include <vector>

namespace heed::test {
namespace {

using heed::detail::CallTensors, heed::detail::layout_of;

/// The bytes of each number.
template <class T, std::size_t Rank>
std::vector<const std::byte*> bytes_of(const View<T, Rank>& x) {
  std::vector<const std::byte*> bytes;
  Dims<Rank> at{};
  const auto visit = [&](const auto& self, std::size_t d, const T* from) -> void {
    if (d == Rank) {
      for (std::size_t i = 0; i < sizeof(T); ++i)
        bytes.push_back(reinterpret_cast<const std::byte*>(from) + i);
      return;
    }
    for (at[d] = 0; at[d] < x.dim(d); ++at[d]) self(self, d + 1, from + at[d] * x.stride(d));
  };
  visit(visit, 0, x.data());
  std::sort(bytes.begin(), bytes.end());
  return bytes;
}
template <class T, std::size_t Rank>
bool shares_own_bytes(const View<T, Rank>& x) {
  const auto bytes = bytes_of(x);
  return std::adjacent_find(bytes.begin(), bytes.end()) != bytes.end();
}
template <class A, class B>
bool share_bytes(const A& a, const B& b) {
  const auto x = bytes_of(a), y = bytes_of(b);
  return std::any_of(x.begin(), x.end(),
                     [&](const std::byte* p) { return std::binary_search(y.begin(), y.end(), p); });
}

/// Views of all sorts into one array: nested, interleaved, backwards, broadcast.
template <class T>
View<T, 3> random_view(Random& random, T* middle) {
  const auto any = [&](Index from, Index to) {
    return from + Index(random.uniform() * double(to - from + 1));
  };
  Dims<3> dims, strides;
  for (std::size_t d = 0; d < 3; ++d) dims[d] = any(1, 4), strides[d] = any(-9, 24);
  return {middle + any(-12, 12), dims, strides};
}

TEST(Layouts, OverlapThemselvesAndOneAnotherAsTheirBytesDo) {
  std::vector<double> memory(1000);
  float* const floats = reinterpret_cast<float*>(memory.data()) + 1000;
  double* const doubles = memory.data() + 500;
  Random random(1);
  Index selves = 0, pairs = 0;
  constexpr Index tries = 20000;
  for (Index i = 0; i < tries; ++i) {
    const View<float, 3> a = random_view(random, floats), b = random_view(random, floats);
    const View<double, 3> c = random_view(random, doubles);
    const auto la = layout_of("a", a), lb = layout_of("b", b), lc = layout_of("c", c);
    ASSERT_EQ(heed::detail::overlaps_itself(la), shares_own_bytes(a)) << i;
    ASSERT_EQ(heed::detail::overlap(la, lb), share_bytes(a, b)) << i;
    ASSERT_EQ(heed::detail::overlap(la, lc), share_bytes(a, c)) << i;
    ASSERT_EQ(heed::detail::overlap(lc, la), share_bytes(a, c)) << i;
    selves += shares_own_bytes(a), pairs += share_bytes(a, b);
  }
  for (const Index count : {selves, pairs}) {  // else little was tested
    EXPECT_GT(count, tries / 10);
    EXPECT_LT(count, tries * 9 / 10);
  }
}

/// Slices of one [B, N, 3, H, D] buffer, as a packed projection gives them.
TEST(Layouts, OfPackedHeadsAreApart) {
  for (const auto& [B, N, H, D] :
       {std::array<Index, 4>{2, 5, 3, 4}, {1, 1, 1, 1}, {3, 1, 2, 8}, {8, 100000, 32, 128}}) {
    const auto slice = [&, B = B, N = N, H = H, D = D](Index which) {
      return View<float, 4>(reinterpret_cast<float*>(1 << 20) + which * H * D, {B, H, N, D},
                            {N * 3 * H * D, D, 3 * H * D, 1});
    };
    CallTensors tensors;
    tensors.writes("q", slice(0)), tensors.writes("k", slice(1)), tensors.writes("v", slice(2));
    EXPECT_EQ(message_of<ShapeError>([&] { tensors.writes("again", slice(1)); }).substr(0, 16),
              "again overlaps k");
  }
}

/// Of fewer key heads: [B, N, (H + 2 G), D].
TEST(Layouts, OfPackedHeadsOfUnlikeNumbersAreApart) {
  const Index B = 2, N = 7, H = 6, G = 2, D = 5, all = (H + 2 * G) * D;
  std::vector<float> memory(std::size_t(B * N * all));
  const auto heads = [&](Index first, Index count) {
    return View<float, 4>(memory.data() + first * D, {B, count, N, D}, {N * all, D, all, 1});
  };
  CallTensors tensors;
  tensors.writes("q", heads(0, H)), tensors.writes("k", heads(H, G));
  tensors.writes("v", heads(H + G, G));
  EXPECT_THROW(tensors.writes("more", heads(H + 1, 1)), ShapeError);
}

TEST(Layouts, NeedNoDataForNoNumbers) {
  CallTensors tensors;
  tensors.writes("out", View<float, 4>(nullptr, {2, 3, 0, 5}));
  tensors.reads("q", View<const double, 2>(nullptr, {0, 0}));
  tensors.writes("none", View<float, 3>());
  std::array<char, 8> memory{};
  tensors.writes("odd", View<float, 1>(reinterpret_cast<float*>(memory.data() + 1), {0}));
  const auto null = [&](auto&& dims) {
    return message_of<ValueError>([&] { tensors.reads("q", View<const float, 2>(nullptr, dims)); });
  };
  EXPECT_EQ(null(Dims<2>{2, 3}), "q is [2, 3], but its data is null");
}

TEST(Layouts, AreOfSizesThatCanBe) {
  float x = 0;
  const auto refused = [&](const Dims<2>& dims, const Dims<2>& strides) {
    return message_of<ShapeError>([&] { layout_of("q", View<const float, 2>(&x, dims, strides)); });
  };
  EXPECT_EQ(refused({2, -1}, {0, 0}), "q is [2, -1]: no size may be negative");
  EXPECT_EQ(refused({0, smallest}, {0, 0}).substr(0, 35), "q is [0, -9223372036854775808]: no ");
  for (const Dims<2>& dims : {Dims<2>{power_of_two(32), power_of_two(32)},
                              {largest, 1},
                              {largest, largest},
                              {Index(1) << 62, 0},
                              {0, Index(1) << 55},
                              {2, Index(1) << 53}}) {
    const std::string message = refused(dims, {0, 0});
    EXPECT_NE(message.find("which no memory holds"), std::string::npos) << message;
  }
  // 2^56 − 1 bytes are the most there may be.
  EXPECT_EQ(refused({1, (Index(1) << 54) - 1}, {0, 0}), "nothing was thrown");
  for (const Dims<2>& strides : {Dims<2>{largest, 1},
                                 {smallest, 1},
                                 {Index(1) << 61, 0},
                                 {Index(1) << 54, 0},
                                 {-(Index(1) << 54), 0}}) {
    const std::string message = refused({2, 3}, strides);
    EXPECT_NE(message.find("reach beyond the address space"), std::string::npos) << message;
    // Of one row its stride says nothing.
    EXPECT_EQ(refused({1, 3}, {strides[0], 0}), "nothing was thrown");
    EXPECT_EQ(refused({0, 3}, {strides[0], 0}), "nothing was thrown");
  }
  // What begins near the ends of the address space may not go beyond.
  float* const low = reinterpret_cast<float*>(8);
  EXPECT_THROW(layout_of("q", View<float, 1>(low, {4}, {-1})), ShapeError);
  EXPECT_NO_THROW(layout_of("q", View<float, 1>(low, {3}, {-1})));
}

TEST(Layouts, AreAlignedForTheirNumbers) {
  alignas(8) std::array<char, 64> memory{};
  const auto at = [&](Index byte) {
    return message_of<ValueError>([&] {
      layout_of("q",
                View<const double, 1>(reinterpret_cast<const double*>(memory.data() + byte), {2}));
    });
  };
  EXPECT_EQ(at(0), "nothing was thrown");
  EXPECT_EQ(at(8), "nothing was thrown");
  EXPECT_EQ(at(1), "q begins 1 bytes behind a multiple of 8, the alignment of its numbers");
  EXPECT_EQ(at(12), "q begins 4 bytes behind a multiple of 8, the alignment of its numbers");
}

TEST(CallsOfTensors, LetWhatIsReadOverlap) {
  std::array<float, 8> memory{};
  const auto at = [&](Index first, Index stride = 1) {
    return View<float, 1>(memory.data() + first, {3}, {stride});
  };
  CallTensors tensors;
  tensors.reads("q", at(0)), tensors.reads("k", at(0)), tensors.reads("v", at(1));
  tensors.reads("broadcast", at(2, 0));
  EXPECT_EQ(message_of<ShapeError>([&] { tensors.writes("out", at(3)); }),
            "out overlaps v: out is [3] with strides [1], v is [3] with strides [1], -8 bytes from "
            "it");
  tensors.writes("out", at(4));
  EXPECT_EQ(message_of<ShapeError>([&] { tensors.reads("late", at(2)); }).substr(0, 17),
            "out overlaps late");
  EXPECT_EQ(message_of<ShapeError>([&] { tensors.writes("still", at(7, 0)); }),
            "still is [3] with strides [0]: its own numbers overlap, but each is written");
}

TEST(CallsOfTensors, MayWriteWhatTheyReadWhereThatIsSaid) {
  std::array<float, 8> memory{};
  const auto at = [&](Index first, Index n = 3) {
    return View<float, 1>(memory.data() + first, {n}, {1});
  };
  CallTensors tensors;
  tensors.reads("a", at(0)), tensors.reads("b", at(4));
  EXPECT_THROW(tensors.writes("out", at(0)), ShapeError);
  EXPECT_THROW(tensors.writes("out", at(0), {"b"}), ShapeError);
  EXPECT_THROW(tensors.writes("out", at(1), {"a", "b"}), ShapeError);
  EXPECT_THROW(tensors.writes("out", at(0, 2), {"a", "b"}), ShapeError);
  EXPECT_NO_THROW(tensors.writes("out", at(0), {"a", "b"}));
  EXPECT_THROW(tensors.writes("more", at(0), {"a", "b"}), ShapeError);  // it is out, too
}

TEST(CallsOfTensors, AreBounded) {
  std::array<float, 65> memory{};
  CallTensors tensors;
  for (Index i = 0; i < 64; ++i) tensors.writes("x", View<float, 1>(memory.data() + i, {1}));
  EXPECT_EQ(
      message_of<ShapeError>([&] { tensors.writes("y", View<float, 1>(memory.data() + 64, {1})); }),
      "a call names at most 64 tensors; y is one too many");
}

TEST(Numbers, AreJudgedByTheirBits) {
  using limits = std::numeric_limits<double>;
  for (const double x : {limits::quiet_NaN(), limits::infinity(), -limits::infinity()})
    EXPECT_FALSE(heed::detail::is_finite(x));
  for (const double x : {0., -0., limits::max(), limits::lowest(), limits::denorm_min()})
    EXPECT_TRUE(heed::detail::is_finite(x));
  EXPECT_TRUE(heed::detail::is_nan(limits::quiet_NaN()));
  EXPECT_TRUE(heed::detail::is_nan(-limits::quiet_NaN()));
  EXPECT_TRUE(heed::detail::is_nan(std::numeric_limits<float>::quiet_NaN()));
  for (const double x : {limits::infinity(), -limits::infinity(), 0., limits::max()})
    EXPECT_FALSE(heed::detail::is_nan(x));
  EXPECT_FALSE(heed::detail::is_nan(-std::numeric_limits<float>::infinity()));
}

TEST(Numbers, LieWithinTheirDomain) {
  const auto refused = [](double x) {
    return message_of<ValueError>([&] { heed::detail::expect_within("tau", x, -1, 2); });
  };
  EXPECT_EQ(refused(-1), "nothing was thrown");
  EXPECT_EQ(refused(2), "nothing was thrown");
  EXPECT_EQ(refused(2.5), "tau is 2.5, must lie in [-1, 2]");
  EXPECT_EQ(refused(-1.5), "tau is -1.5, must lie in [-1, 2]");
  for (const double x :
       {std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity()})
    EXPECT_NE(refused(x), "nothing was thrown");
}

TEST(Numbers, ArePositionsThatCanBeCounted) {
  const Index far = Index(1) << 61;
  const auto refused = [](Index first, Index rows) {
    return message_of<ValueError>([&] { heed::detail::expect_positions("row 0", first, rows); }) !=
           "nothing was thrown";
  };
  EXPECT_FALSE(refused(0, 0));
  EXPECT_FALSE(refused(far - 6, 5));
  EXPECT_FALSE(refused(-far + 1, 5));
  EXPECT_TRUE(refused(far, 5));
  EXPECT_TRUE(refused(-far - 1, 5));
  EXPECT_TRUE(refused(largest, 1));
  EXPECT_TRUE(refused(smallest, 1));
}

}  // namespace
}  // namespace heed::test
