// SPDX-License-Identifier: MIT
// What the engine promises a caller's own stage about the registers it is shown.

#include "heed/engine/backward.hpp"
#include "heed/score/causal.hpp"
#include "heed/score/stage.hpp"
#include "heed/score/standard.hpp"
#include "heed/score/when.hpp"
#include "support/calls.hpp"

#include <gtest/gtest.h>

namespace heed::test {
namespace {

/// What the hooks were shown. A stage is copied into the call, so it points here.
struct Seen {
  Index keys = 0;
  Index registers = 0, empty = 0, outside = 0;

  template <class T>
  void note(const Lanes<T>& at) {
    ++registers;
    empty += at.keys <= 0;
    outside += at.key < 0 || at.keys > simd::width<T> || at.key + at.keys > keys;
  }
};

/// Adds nothing, and hears of every score.
struct Carrying : StageOf<Rank::scan> {
  Seen* seen = nullptr;

  template <class T>
  HEED_INLINE Batch<T> scan_bias(const Batch<T>& s, const Lanes<T>& at) const {
    seen->note(at);
    return s;
  }
};

/// Leaves every weight as it is.
struct Weighing : StageOf<Rank::weight> {
  Seen* seen = nullptr;

  template <class T>
  HEED_INLINE Batch<T> weight(const Batch<T>& w, const Lanes<T>& at) const {
    seen->note(at);
    return w;
  }
};

/// Both sides of a register and of a tile's registers, and of the key blocks.
constexpr Index sizes[] = {1, 3, 7, 8, 9, 15, 16, 17, 31, 33, 40, 63, 64, 65, 127, 128, 129, 168};

template <class T>
class HooksOfARegister : public testing::Test {};
TYPED_TEST_SUITE(HooksOfARegister, Scalars, ScalarName);

/// One row and many, as tiles differ; causal, so that some are seen in part.
TYPED_TEST(HooksOfARegister, AreCalledWhereThereIsAKey) {
  using T = TypeParam;
  for (const Index keys : sizes)
    for (const Index rows : {Index(1), Index(5), keys})
      for (const bool causal_ : {false, true}) {
        SCOPED_TRACE(testing::Message() << keys << " keys, " << rows << " rows, " << causal_);
        const Inputs<T> in = inputs<T>({1, 2, 1, rows, keys, 8, 8}, 1);
        Seen carried{.keys = keys}, weighed{.keys = keys};
        const auto mask = standard | when(causal_, causal_bottom_right);
        const Outputs<T> got = attend(in, mask | Carrying{{}, &carried} | Weighing{{}, &weighed});
        expect_close(got, oracle(in, causal_ ? seeing(reference::causal_at(keys - rows))
                                             : reference::Rules{}));
        for (const Seen& seen : {carried, weighed}) {
          EXPECT_GT(seen.registers, 0);
          EXPECT_EQ(seen.empty, 0);
          EXPECT_EQ(seen.outside, 0);
        }
      }
}

TYPED_TEST(HooksOfARegister, AreCalledWhereThereIsAKeyOnTheWayBackToo) {
  using T = TypeParam;
  for (const Index n : sizes) {
    SCOPED_TRACE(n);
    const Inputs<T> in = inputs<T>(tokens(n, 8, 2, 1), 2);
    Seen weighed{.keys = n};
    const auto variant = standard | when(true, causal) | Weighing{{}, &weighed};
    const Outputs<T> known = attend(in, variant);
    Tensor<T> grad_q = in.q, grad_k = in.k, grad_v = in.v;
    weighed = {.keys = n};
    backward(in.q, in.k, in.v, variant, known.out, known.lse, known.out, grad_q, grad_k, grad_v);
    EXPECT_GT(weighed.registers, 0);
    EXPECT_EQ(weighed.empty, 0);
    EXPECT_EQ(weighed.outside, 0);
  }
}

}  // namespace
}  // namespace heed::test
