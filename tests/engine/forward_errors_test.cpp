// SPDX-License-Identifier: MIT
// What does not fit is refused, both sides named, and nothing is written.
#include "heed/engine/forward.hpp"
#include "heed/score/standard.hpp"
#include "support/calls.hpp"

#include <gtest/gtest.h>

#include <stdexcept>
#include <string>
#include <type_traits>

namespace heed::test {
namespace {

template <class T>
class ForwardErrors : public testing::Test {};
TYPED_TEST_SUITE(ForwardErrors, Scalars, ScalarName);

TYPED_TEST(ForwardErrors, NamesTheShapesThatDisagreeAndWritesNothing) {
  using T = TypeParam;
  Tensor<T> q = normal<T>(1, 1, 2, 4, 8), out(1, 2, 4, 8), short_out(1, 2, 3, 8);
  Tensor<T, 3> lse(1, 2, 4), short_lse(1, 2, 3);
  out.setConstant(T(3));
  lse.setConstant(T(3));
  const Tensor<T> untouched = out;
  const Tensor<T, 3> untouched_lse = lse;
  const auto message = [&](const Tensor<T>& k, const Tensor<T>& v) {
    return message_of<ShapeError>([&] { forward(q, k, v, standard, out, lse); });
  };
  const auto of = [](Index b, Index h, Index n, Index d) { return normal<T>(2, b, h, n, d); };

  EXPECT_EQ(message(of(1, 2, 5, 9), of(1, 2, 5, 8)), "k is [1, 2, 5, 9], q is [1, 2, 4, 8]");
  EXPECT_EQ(message(of(2, 2, 5, 8), of(2, 2, 5, 8)), "k is [2, 2, 5, 8], q is [1, 2, 4, 8]");
  EXPECT_EQ(message(of(1, 2, 5, 8), of(1, 2, 6, 8)), "v is [1, 2, 6, 8], k is [1, 2, 5, 8]");
  EXPECT_EQ(message(of(1, 2, 5, 8), of(1, 1, 5, 8)), "v is [1, 1, 5, 8], k is [1, 2, 5, 8]");
  const std::string why = ", q is [1, 2, 4, 8]: query heads must be a multiple of key heads";
  EXPECT_EQ(message(of(1, 3, 5, 8), of(1, 3, 5, 8)), "k is [1, 3, 5, 8]" + why);
  EXPECT_EQ(message(of(1, 4, 5, 8), of(1, 4, 5, 8)), "k is [1, 4, 5, 8]" + why);
  EXPECT_TRUE(same_bits(out, untouched));
  EXPECT_TRUE(same_bits(lse, untouched_lse));

  const Tensor<T> k = of(1, 2, 5, 8);
  const std::string wrong_out =
      message_of<ShapeError>([&] { forward(q, k, k, standard, short_out, lse); });
  EXPECT_NE(wrong_out.find("out is [1, 2, 3, 8]"), std::string::npos) << wrong_out;
  EXPECT_NE(wrong_out.find("[1, 2, 4, 8]"), std::string::npos) << wrong_out;
  EXPECT_TRUE(same_bits(lse, untouched_lse));
  const std::string wrong_lse =
      message_of<ShapeError>([&] { forward(q, k, k, standard, out, short_lse); });
  EXPECT_NE(wrong_lse.find("lse is [1, 2, 3]"), std::string::npos) << wrong_lse;
  EXPECT_NE(wrong_lse.find("[1, 2, 4]"), std::string::npos) << wrong_lse;
  EXPECT_TRUE(same_bits(out, untouched));
}

/// To leave it out is to give none; a tensor that was never allocated is a mistake.
TYPED_TEST(ForwardErrors, RefusesALogSumExpThatWasNeverAllocated) {
  using T = TypeParam;
  const Inputs<T> in = inputs<T>(tokens(4, 8, 2, 1), 1);
  Tensor<T> out(1, 2, 4, 8), no_out;
  Tensor<T, 3> lse(1, 2, 4), no_lse;
  const auto message = [&](Tensor<T>& to, Tensor<T, 3>& to_lse) {
    return message_of<ShapeError>([&] { forward(in.q, in.k, in.v, standard, to, to_lse); });
  };
  EXPECT_NE(message(out, no_lse).find("lse is [0, 0, 0]"), std::string::npos);
  EXPECT_NE(message(no_out, lse).find("out is [0, 0, 0, 0]"), std::string::npos);
  forward(in.q, in.k, in.v, standard, out, View<T, 3>());
  EXPECT_TRUE(same_bits(out, attend(in, standard).out));
}

TYPED_TEST(ForwardErrors, RefusesRowsWithGapsBetweenNumbers) {
  using T = TypeParam;
  const Tensor<T> x = normal<T>(1, 1, 1, 4, 16);
  Tensor<T> out(1, 1, 4, 8);
  const View<const T, 4> gaps(x.data(), {1, 1, 4, 8}, {64, 64, 16, 2});
  const View<const T, 4> whole(x.data(), {1, 1, 4, 8}, {64, 64, 16, 1});
  EXPECT_THROW(forward(gaps, whole, whole, standard, out), ShapeError);
  EXPECT_THROW(forward(whole, gaps, whole, standard, out), ShapeError);
  EXPECT_THROW(forward(whole, whole, gaps, standard, out), ShapeError);
  Tensor<T> wide(1, 1, 4, 16);
  EXPECT_THROW(forward(whole, whole, whole, standard,
                       View<T, 4>(wide.data(), {1, 1, 4, 8}, {64, 64, 16, 2})),
               ShapeError);
}

TEST(ErrorTypes, AreInvalidArguments) {
  EXPECT_TRUE((std::is_base_of_v<std::invalid_argument, ShapeError>));
  EXPECT_TRUE((std::is_base_of_v<std::invalid_argument, ValueError>));
}

}  // namespace
}  // namespace heed::test
