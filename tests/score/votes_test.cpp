// SPDX-License-Identifier: MIT
// Votes and F of one register of keys, against the definition key by key.

#include "heed/score/votes.hpp"

#include "support/calls.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

namespace heed::test {
namespace {

template <class T>
class VotesOfARegister : public testing::Test {
 protected:
  static constexpr Index width = simd::width<T>;
  using Numbers = std::vector<T>;

  /// F below a row and F that the row is given, of key `lane` in place `place`.
  struct Given {
    double below, row;
  };
  static Given by_definition(const SelectOptions& o, double f, double score, Index lane,
                             Index place, Index row, Index first, bool past) {
    double vote = score < double(masked_below<T>) ? 0 : score;
    if (o.relu) vote = std::max(vote, 0.);
    if (o.protect_first && lane == first) vote = 0;
    if (!past && (o.forbid_self ? place >= row : place > row)) vote = 0;
    const double below = (o.accumulate ? f : 0) + vote;
    return {below, o.shift ? f : below};
  }

  static SelectOptions options(int bits) {
    return {.relu = (bits & 1) != 0,
            .protect_first = (bits & 2) != 0,
            .forbid_self = (bits & 4) != 0,
            .accumulate = (bits & 8) != 0,
            .shift = (bits & 16) != 0};
  }

  /// test(options, votes, first, past, row)
  template <class Test>
  static void every_case(const Test& test) {
    for (int bits = 0; bits < 32; ++bits)
      for (const Index first : {Index(-1), Index(0), width - 1, width, Index(-1000)})
        for (const bool past : {false, true})
          for (const Index row : {0, 1, 5, 100}) {
            const SelectOptions o = options(bits);
            SCOPED_TRACE(testing::Message() << "bits " << bits << ", first " << first << ", past "
                                            << past << ", row " << row);
            const heed::detail::Votes<T> votes{o, simd::iota<T>() + Batch<T>(T(-2)),
                                               heed::detail::voted_on<T>(o, first), past};
            test(o, votes, first, past, row);
          }
  }
  static Numbers lanes(const Batch<T>& x) {
    Numbers to(static_cast<std::size_t>(width));
    x.store_unaligned(to.data());
    return to;
  }
  /// Of either sign, one of them masked, none near 0.
  static Numbers scores() {
    Numbers s(static_cast<std::size_t>(width));
    for (std::size_t j = 0; j < s.size(); ++j) s[j] = (j % 2 == 0 ? T(1) : T(-1)) * T(j + 1) / 4;
    if (s.size() > 2) s[2] = masked<T>;
    return s;
  }
  static Numbers some(std::uint64_t seed) {
    Random random(seed);
    Numbers s(static_cast<std::size_t>(width));
    for (T& x : s) x = T(random.uniform());
    return s;
  }
};
TYPED_TEST_SUITE(VotesOfARegister, Scalars, ScalarName);

TYPED_TEST(VotesOfARegister, DescendARowAsDefined) {
  using T = TypeParam;
  const auto score = this->scores(), f = this->some(1);
  std::vector<T> carry = f;
  for (T& x : carry) x = -x;
  this->every_case([&](const SelectOptions& o, const heed::detail::Votes<T>& votes, Index first,
                       bool past, Index row) {
    const auto got = votes.descend(simd::load(carry.data()), simd::load(score.data()), T(row));
    const auto penalty = this->lanes(got.penalty), below = this->lanes(got.carry);
    for (std::size_t j = 0; j < f.size(); ++j) {
      const auto want = this->by_definition(o, double(f[j]), double(score[j]), Index(j),
                                            Index(j) - 2, row, first, past);
      EXPECT_NEAR(-double(below[j]), want.below, 1e-5) << j;
      EXPECT_NEAR(-double(penalty[j]), want.row, 1e-5) << j;
    }
  });
}

/// L = Σ own · F(row) + out · F(below), of which the derivatives are differences: it is linear.
TYPED_TEST(VotesOfARegister, AscendARowAsItsAdjoint) {
  using T = TypeParam;
  const auto score = this->scores(), f = this->some(2), own = this->some(3), out = this->some(4);
  this->every_case([&](const SelectOptions& o, const heed::detail::Votes<T>& votes, Index first,
                       bool past, Index row) {
    const auto got = votes.ascend(simd::load(out.data()), simd::load(own.data()),
                                  simd::load(score.data()), T(row));
    const auto to_score = this->lanes(got.score), to_f = this->lanes(got.carry);
    for (std::size_t j = 0; j < f.size(); ++j) {
      const auto loss = [&](double f_in, double s) {
        const auto to = this->by_definition(o, f_in, s, Index(j), Index(j) - 2, row, first, past);
        return double(own[j]) * to.row + double(out[j]) * to.below;
      };
      const double h = 0.125, x = double(f[j]), s = double(score[j]);
      const bool is_hidden = s < double(masked_below<T>);
      const double by_score = is_hidden ? 0 : (loss(x, s + h) - loss(x, s - h)) / (2 * h);
      EXPECT_NEAR(double(to_score[j]), by_score, 1e-5) << j;
      EXPECT_NEAR(double(to_f[j]), (loss(x + h, s) - loss(x - h, s)) / (2 * h), 1e-5) << j;
    }
  });
}

}  // namespace
}  // namespace heed::test
