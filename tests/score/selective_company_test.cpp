// SPDX-License-Identifier: MIT
// Selective attention beside other stages, and in chunks.

#include "heed/core/thread_pool.hpp"
#include "heed/score/bias.hpp"
#include "heed/score/block_span.hpp"
#include "heed/score/boolean_mask.hpp"
#include "heed/score/causal.hpp"
#include "heed/score/lengths.hpp"
#include "heed/score/query_offset.hpp"
#include "heed/score/selective.hpp"
#include "heed/score/softcap.hpp"
#include "heed/score/standard.hpp"
#include "heed/score/when.hpp"
#include "heed/score/window.hpp"
#include "reference/selective.hpp"
#include "support/calls.hpp"
#include "support/fixtures.hpp"
#include "support/selection.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

namespace heed::test {
namespace {

template <class T>
class SelectionInCompany : public testing::Test {};
TYPED_TEST_SUITE(SelectionInCompany, Scalars, ScalarName);

/// What may stand before the selection; one variant serves all tests that need any of it.
template <class T>
struct Before {
  Index offset = 0;
  double cap = 0;
  Tensor<T> values;
  Index left = unbounded, block = 0;
  Tensor<bool> mask;
  Tensor<std::int64_t, 1> length;

  auto operator()() const {
    return query_offset(offset) | standard | when(cap > 0, softcap(cap)) |
           when(values.size() > 0, bias(values)) | causal |
           when(left != unbounded, window(left, 0)) | when(block > 0, block_span(block)) |
           when(mask.size() > 0, boolean_mask(mask)) | when(length.size() > 0, lengths(length));
  }
};

TYPED_TEST(SelectionInCompany, GivesTheGoldenOutputs) {
  using T = TypeParam;
  for (const char* name : {"sel_window", "sel_lengths"}) {
    SCOPED_TRACE(name);
    const Fixture& f = fixture(name);
    const Inputs<T> in{tensor<T>(f.array("q")), tensor<T>(f.array("k")), tensor<T>(f.array("v"))};
    Before<T> before;
    if (f.has("mask")) {
      const reference::Array& mask = f.array("mask");
      before.mask = Tensor<bool>(1, 1, mask.dim(0), mask.dim(1));
      for (Index i = 0; i < mask.size(); ++i)
        before.mask.data()[i] = mask.values[std::size_t(i)] != 0;
    }
    if (f.has("lengths")) before.length = tensor<std::int64_t, 1>(f.array("lengths"));
    const Selected<T> got = select_all(in, before(), selective);
    EXPECT_TRUE(close(got.out, f.array("out")));
    EXPECT_TRUE(close(got.lse, f.array("lse")));
    EXPECT_TRUE(close(got.carry, f.array("carry_out")));
    EXPECT_TRUE(close(got.f, f.array("F")));
  }
}

/// The same problem through a window, which skips blocks, instead of a mask.
TYPED_TEST(SelectionInCompany, UnderAWindowGivesTheGoldenOutput) {
  using T = TypeParam;
  const Fixture& f = fixture("sel_window");
  Before<T> before;
  before.left = 6;
  const Inputs<T> in{tensor<T>(f.array("q")), tensor<T>(f.array("k")), tensor<T>(f.array("v"))};
  const Selected<T> got = select_all(in, before(), selective);
  EXPECT_TRUE(close(got.out, f.array("out")));
  EXPECT_TRUE(close(got.lse, f.array("lse")));
  EXPECT_TRUE(close(got.carry, f.array("carry_out")));
  EXPECT_TRUE(close(got.f, f.array("F")));
}

TYPED_TEST(SelectionInCompany, ContinuesFromTheGoldenCarry) {
  using T = TypeParam;
  const Fixture& f = fixture("sel_chunk");
  const Inputs<T> in{tensor<T>(f.array("q")), tensor<T>(f.array("k")), tensor<T>(f.array("v"))};
  const Tensor<T, 2> carry = tensor<T, 2>(f.array("carry_in"));
  Before<T> before;
  before.offset = Index(f.number("q_offset"));
  const Selected<T> got = select_all(in, before(), selective.carry_in(carry));
  EXPECT_TRUE(close(got.out, f.array("out")));
  EXPECT_TRUE(close(got.lse, f.array("lse")));
  EXPECT_TRUE(close(got.carry, f.array("carry_out")));
  EXPECT_TRUE(close(got.f, f.array("F")));
}

TYPED_TEST(SelectionInCompany, SelectsByTheScoresAsTheyEnterTheSoftmax) {
  using T = TypeParam;
  const Inputs<T> in = inputs<T>(tokens(70, 16, 2, 2), 21, 2);
  Before<T> before;
  before.cap = 2;
  before.values = normal<T>(22, 1, 2, 70, 70);
  for (Index i = 0; i < 70; ++i)
    before.values(0, i % 2, i, (5 * i) % 70) = -std::numeric_limits<T>::infinity();
  reference::Rules rules = causal_rules();
  rules.softcap = 2;
  rules.bias = array(before.values);
  const auto want = selective_oracle(in, rules);
  const Selected<T> got = select_all(in, before(), selective);
  expect_close(got, want);
  EXPECT_TRUE(close(got.f, lower(want.f)));
}

TYPED_TEST(SelectionInCompany, HiddenPairsNeitherAttendNorVote) {
  using T = TypeParam;
  const Inputs<T> in = inputs<T>(tokens(300, 8, 2, 1), 23);
  for (const Index w : {0, 5, 40, 140}) {
    SCOPED_TRACE(w);
    const auto want = selective_oracle(in, seeing(reference::causal() && reference::window(w, 0)));
    Before<T> before;
    before.left = w;
    const Selected<T> got = select_all(in, before(), selective);
    expect_close(got, want);
    EXPECT_TRUE(close(got.carry, want.carry_out));
    EXPECT_TRUE(close(got.f, lower(want.f)));
    EXPECT_TRUE(close(got.memory, memory_use(want.f)));
  }
}

TYPED_TEST(SelectionInCompany, ListensToTheSelectingHeadsMaskAlone) {
  using T = TypeParam;
  const Inputs<T> in = inputs<T>(tokens(60, 8, 2, 1), 24);
  Before<T> before;
  before.mask = Tensor<bool>(1, 2, 60, 60);
  Random random(25);
  for (Index i = 0; i < before.mask.size(); ++i) before.mask.data()[i] = random.uniform() < 0.7;
  reference::Rules rules = causal_rules();
  rules.visible = rules.visible && reference::boolean_mask(array(before.mask));
  const auto want = selective_oracle(in, rules);
  const Selected<T> got = select_all(in, before(), selective);
  expect_close(got, want);
  EXPECT_TRUE(close(got.f, lower(want.f)));
}

/// Within a block: each block is a text of its own, but only the first has a protected token.
TYPED_TEST(SelectionInCompany, UnderABlockSpanRunsBlockByBlock) {
  using T = TypeParam;
  const Index size = 40;
  const Inputs<T> in = inputs<T>(tokens(120, 8, 2, 1), 26);
  Before<T> before;
  before.block = size;
  const Outputs<T> whole = attend(in, before() | selective);
  for (Index from = 0; from < 120; from += size) {
    const Inputs<T> part{slice(in.q, from, from + size), slice(in.k, from, from + size),
                         slice(in.v, from, from + size)};
    const Outputs<T> alone = attend(part, Before<T>()() | selecting({.protect_first = from == 0}));
    EXPECT_TRUE(close(alone.out, slice(whole.out, from, from + size))) << from;
  }
}

TYPED_TEST(SelectionInCompany, OfAPaddedBatchIsThatOfEachTextAlone) {
  using T = TypeParam;
  const Inputs<T> in = inputs<T>(tokens(100, 8, 2, 1, 3), 27);
  Before<T> before;
  before.length = Tensor<std::int64_t, 1>(3);
  before.length.setValues({37, 100, 0});
  reference::Rules rules = causal_rules();
  rules.visible =
      rules.visible && reference::key_lengths({37, 100, 0}) && reference::row_lengths({37, 100, 0});
  const auto want = selective_oracle(in, rules);
  const Selected<T> got = select_all(in, before(), selective);
  expect_close(got, want);
  EXPECT_TRUE(close(got.carry, want.carry_out));

  Inputs<T> bad = in;  // NaN in the padding casts no vote
  for (Index i = 37; i < 100; ++i)
    for (Index h = 0; h < 2; ++h)
      for (Index d = 0; d < 8; ++d)
        bad.q(0, h, i, d) = bad.k(0, 0, i, d) = bad.v(0, 0, i, d) =
            std::numeric_limits<T>::quiet_NaN();
  const Selected<T> poisoned = select_all(bad, before(), selective);
  expect_same_bits<T>(got, poisoned);
  EXPECT_TRUE(same_bits(got.carry, poisoned.carry));
}

// ---- chunks

TYPED_TEST(SelectionInCompany, InChunksOfAnySizeIsOnePass) {
  using T = TypeParam;
  const Index n = 140;
  const Inputs<T> in = inputs<T>(tokens(n, 16, 2, 1, 2), 31);
  const Selected<T> whole = select_all(in, Before<T>()(), selective);
  for (const Index chunk : {1, 7, 12, 13, 64, 96, 97, 139}) {
    SCOPED_TRACE(chunk);
    Tensor<T, 2> carry = zeros<T, 2>({2, n});
    for (Index from = 0; from < n; from += chunk) {
      const Index to = std::min(from + chunk, n);
      const Inputs<T> part{slice(in.q, from, to), slice(in.k, 0, to), slice(in.v, 0, to)};
      Before<T> chunk_at;
      chunk_at.offset = from;
      Tensor<T, 2> before(2, to), after(2, to);
      before = carry.slice(Eigen::array<Index, 2>{0, 0}, Eigen::array<Index, 2>{2, to});
      const Outputs<T> got = attend(part, chunk_at() | selective.carry_in(before).carry_out(after));
      ASSERT_TRUE(close(got.out, slice(whole.out, from, to))) << "from " << from;
      ASSERT_TRUE(close(got.lse, slice(whole.lse, from, to))) << "from " << from;
      carry.slice(Eigen::array<Index, 2>{0, 0}, Eigen::array<Index, 2>{2, to}) = after;
    }
    EXPECT_TRUE(close(carry, whole.carry));
  }
}

/// The carry may be updated in place, on any number of threads.
TYPED_TEST(SelectionInCompany, UpdatesACarryInPlaceWithAnyNumberOfThreads) {
  using T = TypeParam;
  const Inputs<T> in = inputs<T>(Shape{2, 4, 4, 20, 60, 16, 16}, 32);
  Tensor<T, 2> before = uniform<T>(33, 2, 60), after(2, 60);
  for (Index b = 0; b < 2; ++b)
    for (Index j = 40; j < 60; ++j) before(b, j) = 0;
  Before<T> chunk;
  chunk.offset = 40;
  const Outputs<T> want = attend(in, chunk() | selective.carry_in(before).carry_out(after));
  for (const int workers : {1, 2, 4}) {
    SCOPED_TRACE(workers);
    Eigen::ThreadPool pool(workers);
    Tensor<T, 2> carry = before;
    const Outputs<T> got = attend(in, chunk() | selective.carry_in(carry).carry_out(carry),
                                  {.executor = executor(pool)});
    expect_same_bits(want, got);
    EXPECT_TRUE(same_bits(carry, after));
  }
}

TYPED_TEST(SelectionInCompany, AConstantAddedToARowOfAnotherHeadChangesNothing) {
  using T = TypeParam;
  const Inputs<T> in = inputs<T>(tokens(80, 8, 2, 2), 52);
  Tensor<T> shift = zeros<T, 4>({1, 2, 80, 1});
  for (Index i = 0; i < 80; ++i) shift(0, 1, i, 0) = T(std::sin(double(i)));
  Before<T> shifted;
  shifted.values = shift;
  EXPECT_TRUE(
      close(attend(in, shifted() | selective).out, attend(in, Before<T>()() | selective).out));
}

TYPED_TEST(SelectionInCompany, CountsMemoryWithAnyTauAndFromAnyPosition) {
  using T = TypeParam;
  const Inputs<T> in = inputs<T>(Shape{2, 2, 1, 40, 100, 16, 16}, 62);
  Tensor<T, 2> before = uniform<T>(63, 2, 100);
  for (Index b = 0; b < 2; ++b)
    for (Index j = 60; j < 100; ++j) before(b, j) = 0;
  reference::Rules rules = causal_rules();
  rules.offset = 60;
  reference::Selection s;
  s.carry_in = array(before);
  const auto want = selective_oracle(in, rules, s);
  Before<T> chunk;
  chunk.offset = 60;
  for (const double tau : {0.25, 1., 10.}) {
    Tensor<T, 2> use(2, 40);
    attend(in, chunk() | selective.carry_in(before).memory(use, tau));
    EXPECT_TRUE(close(use, memory_use(want.f, tau, 60))) << tau;
  }
}

}  // namespace
}  // namespace heed::test
