// SPDX-License-Identifier: MIT
// A NaN in a score a row sees is not made into a number on the way: the row and its log-sum-exp are
// NaN, all others what they were, and a row that sees nothing is still zero.

#include "heed/engine/forward.hpp"
#include "heed/score/bias.hpp"
#include "heed/score/causal.hpp"
#include "heed/score/selective.hpp"
#include "heed/score/sinks.hpp"
#include "heed/score/softcap.hpp"
#include "heed/score/standard.hpp"
#include "heed/score/when.hpp"
#include "support/calls.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

namespace heed::test {
namespace {

/// What may stand between the product and the softmax; one variant serves all tests.
template <class T>
struct Between {
  double cap = 0;
  Tensor<T> values;
  bool causal_ = false;
  Tensor<T, 1> logits;
  bool selects = false;

  auto operator()() const {
    return standard | when(cap > 0, softcap(cap)) | when(values.size() > 0, bias(values)) |
           when(causal_, causal_bottom_right) | when(logits.size() > 0, sinks(logits)) |
           when(selects, selecting({.head = 1}));
  }
};

template <class T>
class NaN : public testing::Test {
 protected:
  static constexpr T nan = std::numeric_limits<T>::quiet_NaN();

  /// Rows for which spoilt(h, i) are NaN whole, the others are those of `clean`.
  template <class Spoilt>
  static void expect_nan_in(const Outputs<T>& got, const Outputs<T>& clean, const Spoilt& spoilt) {
    for (Index h = 0; h < got.out.dimension(1); ++h)
      for (Index i = 0; i < got.out.dimension(2); ++i) {
        const bool bad = spoilt(h, i);
        const auto same = [&](T x, T before) { return bad ? std::isnan(x) : x == before; };
        ASSERT_TRUE(same(got.lse(0, h, i), clean.lse(0, h, i)))
            << "head " << h << ", row " << i << ": lse is " << got.lse(0, h, i) << ", was "
            << clean.lse(0, h, i);
        for (Index d = 0; d < got.out.dimension(3); ++d)
          ASSERT_TRUE(same(got.out(0, h, i, d), clean.out(0, h, i, d)))
              << "head " << h << ", row " << i << ": out is " << got.out(0, h, i, d) << ", was "
              << clean.out(0, h, i, d);
      }
  }

  /// Of two heads that share a key head, and may see 150 keys: each setting of the stages.
  static std::vector<Between<T>> settings(Index rows) {
    std::vector<Between<T>> all(6);
    all[1].causal_ = all[3].causal_ = all[4].causal_ = all[5].causal_ = true;
    all[2].cap = all[3].cap = 2;
    all[3].values = normal<T>(9, 1, 1, rows, 150);
    all[4].logits = normal<T>(10, 2);
    all[5].selects = true;
    return all;
  }
};
TYPED_TEST_SUITE(NaN, Scalars, ScalarName);

/// One row is a tile of its own, five are few, 40 make groups; in 150 keys there are two blocks.
TYPED_TEST(NaN, InAQueryIsNaNInItsRowAlone) {
  using T = TypeParam;
  for (const Index rows : {1, 5, 40, 130}) {
    const Inputs<T> in = inputs<T>({1, 2, 1, rows, 150, 8, 8}, 1);
    int which = 0;
    for (const Between<T>& between : this->settings(rows)) {
      SCOPED_TRACE(testing::Message() << rows << " rows, setting " << which++);
      const Outputs<T> clean = attend(in, between());
      for (const Index row : {Index(0), rows / 2, rows - 1}) {
        Inputs<T> bad = in;
        bad.q(0, 0, row, 3) = this->nan;  // head 1 selects
        this->expect_nan_in(attend(bad, between()), clean,
                            [&](Index h, Index i) { return h == 0 && i == row; });
      }
    }
  }
}

TYPED_TEST(NaN, InAKeyIsNaNInTheRowsThatSeeIt) {
  using T = TypeParam;
  for (const Index rows : {1, 5, 40, 150}) {
    const Inputs<T> in = inputs<T>({1, 2, 1, rows, 150, 8, 8}, 2);
    int which = 0;
    for (const Between<T>& between : this->settings(rows)) {
      SCOPED_TRACE(testing::Message() << rows << " rows, setting " << which++);
      if (between.selects) continue;  // its vote is NaN as well, which later rows hear of
      const Outputs<T> clean = attend(in, between());
      for (const Index key : {0, 1, 7, 64, 127, 128, 148, 149}) {
        SCOPED_TRACE(testing::Message() << "key " << key);
        Inputs<T> bad = in;
        bad.k(0, 0, key, 5) = this->nan;
        this->expect_nan_in(attend(bad, between()), clean, [&](Index, Index i) {
          return !between.causal_ || key <= i + 150 - rows;
        });
      }
    }
  }
}

TYPED_TEST(NaN, InTheBiasIsNaNInTheRowThatSeesIt) {
  using T = TypeParam;
  const Inputs<T> in = inputs<T>({1, 2, 1, 40, 150, 8, 8}, 3);
  Between<T> between;
  between.values = normal<T>(4, 1, 2, 40, 150);
  between.causal_ = true;
  between.values(0, 0, 7, 3) = -std::numeric_limits<T>::infinity();
  const Outputs<T> clean = attend(in, between());
  between.values(0, 1, 12, 50) = this->nan;
  between.values(0, 1, 13, 149) = this->nan;  // masked there
  this->expect_nan_in(attend(in, between()), clean,
                      [](Index h, Index i) { return h == 1 && i == 12; });
}

/// All scores are NaN, but none is seen.
TYPED_TEST(NaN, DoesNotShowInARowThatSeesNothing) {
  using T = TypeParam;
  Inputs<T> in = inputs<T>(Shape{1, 2, 1, 60, 20, 8, 8}, 5);
  Between<T> between;
  between.causal_ = true;
  in.q.setConstant(this->nan);
  const Outputs<T> got = attend(in, between());
  for (Index h = 0; h < 2; ++h)
    for (Index i = 0; i < 60; ++i) {
      EXPECT_EQ(got.lse(0, h, i) == -std::numeric_limits<T>::infinity(), i < 40) << i;
      EXPECT_EQ(std::isnan(got.lse(0, h, i)), i >= 40) << i;
      for (Index d = 0; d < 8; ++d) {
        EXPECT_EQ(got.out(0, h, i, d) == T(0), i < 40) << i;
        EXPECT_EQ(std::isnan(got.out(0, h, i, d)), i >= 40) << i;
      }
    }
}

/// A NaN score of the selecting head is NaN in F too, not a vote of zero.
TYPED_TEST(NaN, InTheSelectingHeadsQueryIsNaNInItsRow) {
  using T = TypeParam;
  Inputs<T> in = inputs<T>(tokens(50, 8, 2, 1), 6);
  Between<T> between;
  between.causal_ = between.selects = true;
  const Outputs<T> clean = attend(in, between());
  in.q(0, 1, 20, 0) = this->nan;
  const Outputs<T> got = attend(in, between());
  EXPECT_TRUE(same_bits(slice(got.out, 0, 20), slice(clean.out, 0, 20)));
  EXPECT_TRUE(same_bits(slice(got.lse, 0, 20), slice(clean.lse, 0, 20)));
  EXPECT_TRUE(std::isnan(got.lse(0, 1, 20)));
  EXPECT_TRUE(std::isnan(got.out(0, 1, 20, 0)));
  EXPECT_EQ(got.lse(0, 0, 20), clean.lse(0, 0, 20));  // a vote counts from the next row on
}

}  // namespace
}  // namespace heed::test
