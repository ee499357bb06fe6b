// SPDX-License-Identifier: MIT
// The result does not depend, but for rounding, on how the work is cut.

#include "heed/engine/blocking.hpp"

#include "heed/engine/forward.hpp"
#include "heed/score/causal.hpp"
#include "heed/score/selective.hpp"
#include "heed/score/standard.hpp"
#include "heed/score/when.hpp"
#include "heed/score/window.hpp"
#include "reference/selective.hpp"
#include "support/calls.hpp"

#include <gtest/gtest.h>

#include <array>

namespace heed::test {
namespace {

/// The smallest cut there is: three rows, one register, one tile of each width a block.
struct Smallest {
  using Packed = float;
  static constexpr int group_rows = 3;
  static constexpr int panel_vectors = 1;
  static constexpr Index block_rows = 3;
  static constexpr Index block_keys = 4 * simd::width<float>;
  static constexpr bool narrow_tiles = true, keeps_products = false;
};

/// Row blocks of several groups, key blocks of several tiles, and no two sizes alike.
struct Uneven {
  using Packed = float;
  static constexpr int group_rows = 6;
  static constexpr int panel_vectors = 1;
  static constexpr Index block_rows = 18;
  static constexpr Index block_keys = 8 * simd::width<float>;
  static constexpr bool narrow_tiles = true, keeps_products = false;
};

template <class B>
class AnyBlocking : public testing::Test {
 protected:
  template <class Variant>
  static Outputs<float> attend_in_blocks(const Inputs<float>& in, const Variant& variant) {
    const Index batch = in.q.dimension(0), H = in.q.dimension(1), Nq = in.q.dimension(2);
    Outputs<float> r{
        Tensor<float>(batch, H, Nq, in.v.dimension(3)), Tensor<float, 3>(batch, H, Nq), {}};
    detail::ForwardPass<float, B, Variant> pass(View<const float, 4>(in.q),
                                                View<const float, 4>(in.k),
                                                View<const float, 4>(in.v), variant);
    r.visited = pass.run(View<float, 4>(r.out), View<float, 3>(r.lse), {});
    return r;
  }
};
using Blockings = testing::Types<Smallest, Uneven>;
TYPED_TEST_SUITE(AnyBlocking, Blockings);

TYPED_TEST(AnyBlocking, GivesTheSame) {
  const std::array<std::array<Index, 2>, 7> sizes{
      {{1, 1}, {1, 70}, {5, 3}, {18, 64}, {37, 37}, {54, 129}, {150, 150}}};
  for (const auto& [rows, keys] : sizes)
    for (const Index left : {Index(9), unbounded}) {
      const Shape s{2, 4, 2, rows, keys, 10, 12};
      SCOPED_TRACE(describe(s));
      const Inputs<float> in = inputs<float>(s, 1);
      reference::Rules rules = seeing(reference::causal() && reference::window(left, 0));
      rules.offset = keys - rows;
      const auto variant = [&, offset = rules.offset](bool selects) {
        return standard | causal_at(offset) | window(left, unbounded) | when(selects, selective);
      };
      expect_close(this->attend_in_blocks(in, variant(false)), oracle(in, rules));
      expect_close(this->attend_in_blocks(in, variant(true)),
                   selective_attention(array(in.q), array(in.k), array(in.v), rules));
    }
}

}  // namespace
}  // namespace heed::test
