// SPDX-License-Identifier: MIT
#include "heed/core/error.hpp"

#include "heed/core/views.hpp"

#include <gtest/gtest.h>

#include <limits>
#include <string>

namespace heed::test {
namespace {

TEST(Errors, SayWhatTheyAreGiven) {
  EXPECT_STREQ(ShapeError("k is ", Dims<4>{1, 2, 5, 8}, ", q is ", Dims<2>{1, 0}).what(),
               "k is [1, 2, 5, 8], q is [1, 0]");
  EXPECT_STREQ(ValueError("head ", 7, ", cap ", -0.5, ", size ", std::size_t(3)).what(),
               "head 7, cap -0.5, size 3");
}

TEST(Errors, SayTheLargestNumbersWhole) {
  const Index most = std::numeric_limits<Index>::max(), least = std::numeric_limits<Index>::min();
  EXPECT_STREQ(ValueError(most, " ", least).what(), "9223372036854775807 -9223372036854775808");
}

TEST(Errors, AreCutShortRatherThanOverrun) {
  const std::string name(2000, 'x');
  const std::string said = ValueError(name.c_str(), " is ", 1, name.c_str()).what();
  EXPECT_EQ(said, name.substr(0, 511));
}

TEST(Errors, AreCopiedWithTheirText) {
  ShapeError a("one");
  const ShapeError b(a);
  EXPECT_STREQ(b.what(), "one");
}

}  // namespace
}  // namespace heed::test
