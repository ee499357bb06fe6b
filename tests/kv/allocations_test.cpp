// SPDX-License-Identifier: MIT
// Decoding takes no memory: what a step needs is there after the first.

#include "support/allocations.hpp"

#include "heed/kv/kv_buffer.hpp"
#include "support/buffers.hpp"

#include <gtest/gtest.h>

#include <new>

namespace heed::test {
namespace {

class AllocationsOfSteps : public testing::Test {
 protected:
  void SetUp() override {
    if (!allocations_are_counted) GTEST_SKIP() << "malloc is not ours to replace in this build";
  }

  const Inputs<float> in = inputs<float>(tokens(500, 8, 4, 2), 1),
                      one = inputs<float>(tokens(1, 8, 4, 2), 2);
  Tensor<float> out{1, 4, 500, 8}, one_out{1, 4, 1, 8};
};

/// Whatever the rule, the five hundredth token as the thousandth.
TEST_F(AllocationsOfSteps, AreNoneOnceABufferIsFull) {
  for (const Evict evict : {Evict::most_masked, Evict::least_attended, Evict::oldest})
    for (const EvictWhen when :
         {EvictWhen::before_row, EvictWhen::after_row, EvictWhen::chunk_end}) {
      const KvOptions o{.budget = 40, .evict = evict, .when = when};
      SCOPED_TRACE(describe(o));
      KvBuffer<float> buffer = buffer_for(in, o);
      for (int text = 0; text < 2; ++text) {
        standard_step(buffer, in, out);
        const Allocations a = allocations_of([&] { standard_step(buffer, one, one_out); });
        EXPECT_EQ(a.count, 0u);
      }
    }
}

/// A long prompt is taken chunk by chunk: scratch is that of a chunk, not of the prompt.
TEST_F(AllocationsOfSteps, OfAPromptAreThoseOfAChunk) {
  const auto taken = [&](const Inputs<float>& prompt, Tensor<float>& to) {
    KvBuffer<float> buffer = buffer_for(prompt, {.budget = 40, .chunk = 16});
    return allocations_of([&] { standard_step(buffer, prompt, to); }).peak;
  };
  const Inputs<float> longer = inputs<float>(tokens(4000, 8, 4, 2), 3);
  Tensor<float> longer_out(1, 4, 4000, 8);
  EXPECT_LE(taken(longer, longer_out), taken(in, out) + 8192);  // but for malloc's rounding
}

/// Wherever memory runs out, the sequence that should have been replaced is what it was.
TEST_F(AllocationsOfSteps, ThatFailLeaveASequenceAsItWas) {
  const auto filled = [&](Index budget) {
    KvBuffer<float> buffer = buffer_for(in, {.budget = budget, .evict = Evict::least_attended});
    standard_step(buffer, in, out);
    return buffer;
  };
  const KvBuffer<float> from = filled(9);
  for (const Index budget : {9, 200}) {
    KvBuffer<float> to = filled(budget);
    const KvSequence<float> before = to.sequence(0);
    std::size_t failed = 0;
    for (bool done = false; !done; ++failed) {
      ASSERT_LT(failed, 100u);
      try {
        with_memory_for(failed, [&] { to.copy_sequence(from, 0, 0); });
        done = true;
      } catch (const std::bad_alloc&) {
        ASSERT_TRUE(same_memory(before, to.sequence(0))) << "allocation " << failed;
      }
    }
    EXPECT_GT(failed, 5u);
    EXPECT_EQ(held(to.sequence(0)), held(from.sequence(0)));
  }
}

}  // namespace
}  // namespace heed::test
