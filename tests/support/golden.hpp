// SPDX-License-Identifier: MIT
/// @file
/// A test of the oracle that runs once for each golden case.
#pragma once

#include "support/compare.hpp"
#include "support/fixtures.hpp"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace heed::test {

/// The golden cases are in double: nothing but the last bits may differ.
inline constexpr double exact = 1e-12;

/// Its parameter is the name of the case.
class GoldenCase : public testing::TestWithParam<std::string> {
 protected:
  const Fixture& f = fixture(GetParam());

  void expect(const reference::Array& got, const std::string& name) {
    EXPECT_TRUE(close(got, f.array(name), exact)) << name;
  }
};

inline std::string name_of(const testing::TestParamInfo<std::string>& info) {
  return info.param;
}

/// Integers of a fixture, as the masks want them.
inline std::vector<reference::Index> integers(const reference::Array& a) {
  return {a.values.begin(), a.values.end()};
}

/// A [Nq, Nk] mask as [1, 1, Nq, Nk].
inline reference::Array as_rank_4(reference::Array mask) {
  mask.dims = {1, 1, mask.dims[0], mask.dims[1]};
  return mask;
}

}  // namespace heed::test
