// SPDX-License-Identifier: MIT
// Nothing grows with the square of the tokens, and nothing is allocated once a call is warm.

#include "support/allocations.hpp"

#include "heed/core/thread_pool.hpp"
#include "heed/engine/forward.hpp"
#include "heed/score/causal.hpp"
#include "heed/score/selective.hpp"
#include "heed/score/standard.hpp"
#include "support/calls.hpp"

#include <gtest/gtest.h>

namespace heed::test {
namespace {

class AllocationsOfForward : public testing::Test {
 protected:
  void SetUp() override {
    if (!allocations_are_counted) GTEST_SKIP() << "malloc is not ours to replace in this build";
  }

  /// Held at once by one call on n tokens.
  template <class Variant>
  static std::size_t peak(Index n, const Variant& variant) {
    const Inputs<float> in = inputs<float>(tokens(n, 16, 2, 1), 1);
    Tensor<float> out(1, 2, n, 16);
    Tensor<float, 3> lse(1, 2, n);
    return allocations_of([&] { forward(in.q, in.k, in.v, variant, out, lse); }).peak;
  }
};

TEST_F(AllocationsOfForward, AreSeen) {
  const Allocations a = allocations_of([] {
    Tensor<float, 1> big(1000);
    big.setZero();
  });
  EXPECT_GE(a.count, 1u);
  EXPECT_GE(a.peak, 4000u);
}

TEST_F(AllocationsOfForward, GrowAtMostWithTheTokens) {
  const auto grows = [](auto variant, const char* name) {
    const std::size_t small = peak(1024, variant), large = peak(4096, variant);
    EXPECT_LT(large, 5 * small) << name;
    // One score matrix of one head would be 64 MB; keys and values together are 0.5 MB.
    EXPECT_LT(large, 4u << 20) << name;
  };
  grows(standard, "standard");
  grows(standard | causal, "causal");
  grows(standard | causal | selective, "selective");
}

TEST_F(AllocationsOfForward, AreFewHoweverMuchThereIsToDo) {
  const auto count = [](Index n) {
    const Inputs<float> in = inputs<float>(tokens(n, 16, 2, 1), 1);
    Tensor<float> out(1, 2, n, 16);
    return allocations_of([&] { forward(in.q, in.k, in.v, standard | causal | selective, out); })
        .count;
  };
  EXPECT_EQ(count(100), count(2000));
}

TEST_F(AllocationsOfForward, AreNoneOnceTheWorkspaceIsWarm) {
  Workspace workspace;
  const auto again = [&](const auto& variant, Index n) {
    const Inputs<float> in = inputs<float>(tokens(n, 24, 4, 2), 2);
    Tensor<float> out(1, 4, n, 24);
    Tensor<float, 3> lse(1, 4, n);
    forward(in.q, in.k, in.v, variant, out, lse, {.workspace = &workspace});
    return allocations_of(
               [&] { forward(in.q, in.k, in.v, variant, out, lse, {.workspace = &workspace}); })
        .count;
  };
  EXPECT_EQ(again(standard, 500), 0u);
  EXPECT_EQ(again(standard | causal, 700), 0u);
  EXPECT_EQ(again(standard | causal | selective, 700), 0u);
  EXPECT_EQ(again(standard | causal, 1), 0u);
}

/// The pool's queue may take a little; the scratch of every worker comes from the workspace.
TEST_F(AllocationsOfForward, AreSmallWithThreadsOnceTheWorkspaceIsWarm) {
  Workspace workspace;
  Eigen::ThreadPool pool(2);
  const Options options{.executor = executor(pool), .workspace = &workspace};
  const Inputs<float> in = inputs<float>(tokens(700, 24, 4, 2), 3);
  Tensor<float> out(1, 4, 700, 24);
  const auto call = [&] { forward(in.q, in.k, in.v, standard | causal, out, options); };
  call();
  EXPECT_LT(allocations_of(call).bytes, 4096u);
}

TEST_F(AllocationsOfForward, AWorkspaceKeepsTheLargestCall) {
  Workspace workspace;
  const Inputs<float> large = inputs<float>(tokens(700, 24), 4),
                      small = inputs<float>(tokens(9, 8), 5);
  attend(large, standard | causal, {.workspace = &workspace});
  const std::size_t bytes = workspace.bytes();
  attend(small, standard | causal, {.workspace = &workspace});
  EXPECT_EQ(workspace.bytes(), bytes);
}

}  // namespace
}  // namespace heed::test
