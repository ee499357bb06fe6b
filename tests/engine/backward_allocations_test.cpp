// SPDX-License-Identifier: MIT
// Nothing grows with the square of the tokens on the way back either.

#include "support/allocations.hpp"
#include "support/gradients.hpp"

#include <gtest/gtest.h>

namespace heed::test {
namespace {

class AllocationsOfBackward : public testing::Test {
 protected:
  void SetUp() override {
    if (!allocations_are_counted) GTEST_SKIP() << "malloc is not ours to replace in this build";
  }

  /// One call on n tokens, its inputs and outputs apart.
  static Allocations of(Index n, bool selects, const Options& options = {}) {
    const Inputs<float> in = inputs<float>(tokens(n, 16, 2, 1), 1);
    Mixture<float> m;
    m.causal = true;
    m.selects = selects;
    // What stands there is of no matter, how much of it there is only.
    const Tensor<float> out = in.q, grad_out = in.q;
    const Tensor<float, 3> lse = zeros<float, 3>({1, 2, n});
    Gradients<float> to = m.unwritten(in);
    return allocations_of([&] {
      m.backward({in.q, in.k, in.v, out, grad_out, lse, to.q, to.k, to.v}, to, options);
    });
  }
};

TEST_F(AllocationsOfBackward, GrowWithTheTokens) {
  for (const bool selects : {false, true}) {
    // Workspaces of megabytes are rounded up to pages of 2 MB.
    const std::size_t page = std::size_t(2) << 20;
    const std::size_t small = of(4096, selects).peak, large = of(16384, selects).peak;
    EXPECT_LT(large, 4.1 * double(small) + double(page)) << selects;
    // One score matrix of one head would be 1 GB; q, k, v and their gradients together are 8 MB.
    EXPECT_LT(large, 32u << 20) << selects;
  }
}

TEST_F(AllocationsOfBackward, AreFewAndNoneButMessagesOnceTheWorkspaceIsWarm) {
  EXPECT_EQ(of(100, true).count, of(1000, true).count);
  Workspace workspace;
  of(700, true, {.workspace = &workspace});
  EXPECT_LT(of(700, true, {.workspace = &workspace}).bytes, 4096u);
}

}  // namespace
}  // namespace heed::test
