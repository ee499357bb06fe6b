// SPDX-License-Identifier: MIT
// Keys and values stored in 16 and 8 bits: the same as if they had been rounded beforehand.

#include "heed/kv/kv_buffer.hpp"
#include "support/buffers.hpp"

#include <Eigen/Core>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace heed::test {
namespace {

template <class S>
class Storage : public testing::Test {
 public:
  /// What is read back of a row: in 16 bits its nearest numbers, in 8 bits the nearest of 255
  /// multiples, evenly spaced, of which the outermost is the largest number.
  static void round(float* row, Index dim) {
    if constexpr (std::is_same_v<S, std::int8_t>) {
      float most = 0;
      for (Index d = 0; d < dim; ++d) most = std::max(most, std::abs(row[d]));
      const float scale = most / 127;
      for (Index d = 0; d < dim; ++d)
        row[d] = most > 0 ? scale * float(std::lrint(row[d] / scale)) : 0.F;
    } else {
      for (Index d = 0; d < dim; ++d) row[d] = float(S(row[d]));
    }
  }
  static Inputs<float> rounded(Inputs<float> in) {
    for (Tensor<float>* x : {&in.k, &in.v}) {
      const Index dim = x->dimension(3);
      for (Index i = 0; i < x->size(); i += dim) round(x->data() + i, dim);
    }
    return in;
  }
  static KvBuffer<float, S> buffer(const Inputs<float>& in, const KvOptions& options) {
    return {buffer_for(in, options).shape(), options};
  }
};
using Stored = testing::Types<Eigen::half, Eigen::bfloat16, std::int8_t>;
TYPED_TEST_SUITE(Storage, Stored);

/// Some tokens in one step, more than there was room for in another, and the last few one by one.
template <class S>
Buffered<float> run(KvBuffer<float, S>& buffer, const Inputs<float>& in) {
  const Index tokens = in.q.dimension(2), first = tokens / 7, alone = tokens - 5;
  Buffered<float> answers = answers_to(in);
  const auto take = [&](const Inputs<float>& part, Tensor<float>& out, const KvStep<float>& step) {
    return buffer.step(part.q, part.k, part.v, standard, out, step);
  };
  step_by(take, in, 0, first, answers, serial());
  step_by(take, in, first, alone, answers, serial());
  for (Index i = alone; i < tokens; ++i) step_by(take, in, i, i + 1, answers, serial());
  return answers;
}

/// Bit for bit: what is stored is widened exactly, and everything computed as ever. But a scale
/// multiplies few rows' products, not their factors.
TYPED_TEST(Storage, RoundsKeysAndValuesAndNothingElse) {
  using Case = std::tuple<Evict, std::optional<Index>, Index>;  // and a chunk
  for (const auto& [evict, budget, chunk] :
       {Case{Evict::most_masked, 40, 16}, Case{Evict::most_masked, std::nullopt, 96},
        Case{Evict::least_attended, 40, 1}, Case{Evict::oldest, 130, 7}})
    for (const Index dim : {1, 17, 64}) {
      Shape sizes = tokens(dim == 17 ? 300 : 150, dim, 4, 2);
      sizes.value_dim = dim == 64 ? 32 : dim + 2;
      const KvOptions o{.budget = budget, .evict = evict, .chunk = chunk};
      SCOPED_TRACE(describe(o));
      const Inputs<float> in = inputs<float>(sizes, 7);
      KvBuffer<float, TypeParam> narrow = TestFixture::buffer(in, o);
      KvBuffer<float> wide = buffer_for(in, o);
      const Buffered<float> got = run(narrow, in), want = run(wide, TestFixture::rounded(in));
      if (std::is_same_v<TypeParam, std::int8_t>) {
        EXPECT_TRUE(close(got.out, array(want.out)));
        EXPECT_TRUE(close(got.lse, array(want.lse)));
        EXPECT_TRUE(same_bits(got.evict_row, want.evict_row));
      } else {
        expect_same_bits(got, want);
      }
      EXPECT_EQ(narrow.sequence(0).slots().position, wide.sequence(0).slots().position);
    }
}

/// Memory is what it is for.
TYPED_TEST(Storage, TakesFewerBytes) {
  const Inputs<float> in = inputs<float>(tokens(1, 64), 1);
  const KvOptions o{.budget = 4096};
  const double narrow = double(TestFixture::buffer(in, o).bytes()),
               wide = double(buffer_for(in, o).bytes());
  EXPECT_LT(narrow, (sizeof(TypeParam) == 1 ? .35 : .56) * wide);
}

/// A token that is not finite is masked in all rows once it is evicted, and so is its NaN.
TYPED_TEST(Storage, KeepsNaNToTheRowsThatSeeIt) {
  for (const Index chunk : {1, 8, 24}) {
    SCOPED_TRACE(testing::Message() << "chunk " << chunk);
    Inputs<float> in = inputs<float>(tokens(60, 40), 3);
    for (Index d = 0; d < 40; ++d) in.v(0, 0, 3, d) = std::numeric_limits<float>::quiet_NaN();
    KvBuffer<float, TypeParam> buffer =
        TestFixture::buffer(in, {.budget = 4, .evict = Evict::oldest, .chunk = chunk});
    const Buffered<float> got = run(buffer, in);
    const Index evicted = got.evict_row(0, 3);
    ASSERT_LT(evicted, 30);
    for (Index i = 0; i < 60; ++i)
      for (const Index d : {0, 39})
        EXPECT_EQ(std::isnan(got.out(0, 0, i, d)), 3 <= i && i < evicted) << "row " << i;
  }
}

/// Evictions do not depend on the chunk, not even by rounding: keys are permutations of one
/// another, so that their claims are equal except for rounding.
TYPED_TEST(Storage, EvictsTheSameForAnyChunk) {
  constexpr Index count = 200, dim = 64;
  Inputs<float> in = inputs<float>(tokens(count, dim), 6);
  for (Index i = 0; i < count; ++i)
    for (Index d = 0; d < dim; ++d) {
      in.k(0, 0, i, d) = float((37 * i + 11 * d) % dim) * .02F;
      in.q(0, 0, i, d) = i % 20 == 19 ? .01F + .001F * float(i) : 0.F;
    }
  Tensor<std::int64_t, 2> evicted[2];
  for (const Index chunk : {1, 16}) {
    KvBuffer<float, TypeParam> buffer = TestFixture::buffer(in, {.budget = 40, .chunk = chunk});
    Buffered<float> answers = answers_to(in);
    buffer.step(in.q, in.k, in.v, standard, answers.out, {.evict_row = answers.evict_row});
    evicted[chunk == 1 ? 0 : 1] = answers.evict_row;
  }
  EXPECT_TRUE(same_bits(evicted[0], evicted[1]));
}

/// A token of nothing but zeros, or of numbers so small that their step would have no digits.
TEST(Quantized, RowsWithoutAScaleAreNought) {
  Inputs<float> in = inputs<float>(tokens(3, 4), 5);
  in.v.setConstant(1e-44F);
  in.k.setZero();
  KvBuffer<float, std::int8_t> buffer(buffer_for(in, {}).shape(), {});
  Tensor<float> out(in.q.dimensions());
  buffer.step(in.q, in.k, in.v, standard, out);
  for (Index i = 0; i < out.size(); ++i) EXPECT_EQ(out.data()[i], 0.F);
}

/// What 16 bits cannot hold is infinite; what follows from it stays with the rows that see it.
TEST(Binary16, BeyondItsRangeIsInfinite) {
  Inputs<float> in = inputs<float>(tokens(6, 4), 5);
  in.v(0, 0, 2, 1) = 7e4F;
  KvBuffer<float, Eigen::half> buffer(buffer_for(in, {}).shape(),
                                      {.budget = 2, .evict = Evict::oldest});
  Tensor<float> out(in.q.dimensions());
  buffer.step(in.q, in.k, in.v, standard, out);
  EXPECT_TRUE(std::isinf(out(0, 0, 2, 1)));
  EXPECT_TRUE(std::isfinite(out(0, 0, 5, 1)));
}

}  // namespace
}  // namespace heed::test
