// SPDX-License-Identifier: MIT
// Queries, keys and values all of bfloat16. What is given is exact in float, and so are products of
// two such numbers: scores must be as good as float's, and only the weights may be rounded, where
// the processor multiplies bfloat16 and is let; elsewhere all is as if widened.

#include "heed/core/thread_pool.hpp"
#include "heed/engine/weights.hpp"
#include "heed/score/bias.hpp"
#include "heed/score/query_offset.hpp"
#include "heed/score/selective.hpp"
#include "heed/score/sinks.hpp"
#include "heed/score/softcap.hpp"
#include "heed/score/temperature.hpp"
#include "heed/score/window.hpp"
#include "support/cpuinfo.hpp"
#include "support/selection.hpp"

#include <Eigen/Core>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

namespace heed::test {
namespace {

/// Half a unit in the last place, relative: what rounding may cost a number.
constexpr double rounding = 0x1p-8;

/// How the test at hand has them multiplied.
Bfloat16 multiplied_by = Bfloat16::pairs;

/// As it is said, for every way that this build and this processor have.
class Bfloat16Products : public testing::TestWithParam<Bfloat16> {
 protected:
  void SetUp() override { multiplied_by = GetParam(); }
};
std::vector<Bfloat16> ways() {
  std::vector<Bfloat16> all;
  for (const Bfloat16 way : {Bfloat16::widened, Bfloat16::pairs, Bfloat16::tiles})
    if (detail::available(way) == way) all.push_back(way);
  return all;
}
std::string name_of(const testing::TestParamInfo<Bfloat16>& way) {
  return std::array{"Widened", "Pairs", "Tiles"}[std::size_t(way.param)];
}
INSTANTIATE_TEST_SUITE_P(By, Bfloat16Products, testing::ValuesIn(ways()), name_of);

/// Tensors of bfloat16, and the same in float.
template <class S = Eigen::bfloat16>
struct Narrow {
  Tensor<S> q, k, v;
  Inputs<float> wide;

  explicit Narrow(const Inputs<float>& in)
      : q(in.q.cast<S>()),
        k(in.k.cast<S>()),
        v(in.v.cast<S>()),
        wide{q.template cast<float>(), k.template cast<float>(), v.template cast<float>()} {}

  template <class Variant>
  Outputs<float> attend(const Variant& variant, Options options = {}) const {
    options.bfloat16 = multiplied_by;
    const Index B = q.dimension(0), H = q.dimension(1), N = q.dimension(2);
    Outputs<float> result{Tensor<float>(B, H, N, v.dimension(3)), Tensor<float, 3>(B, H, N), {}};
    result.out.setConstant(std::numeric_limits<float>::quiet_NaN());
    result.lse.setConstant(std::numeric_limits<float>::quiet_NaN());
    result.visited = forward(q, k, v, variant, result.out, result.lse, options);
    return result;
  }
};

/// Values in −1 … 1, so that what the weights lose bounds what the output does.
Narrow<> narrow(const Shape& s, std::uint64_t seed, double amplitude = 1) {
  Inputs<float> in = inputs<float>(s, seed, amplitude);
  in.v = in.v.cwiseMax(-1.f).cwiseMin(1.f);
  return Narrow<>(in);
}

void expect_rounded(const Outputs<float>& got, const reference::Attention& want,
                    double roundings = 1) {
  EXPECT_TRUE(close(got.lse, want.lse)) << "lse";
  EXPECT_TRUE(close(got.out, want.out, roundings * rounding + tolerance<float>)) << "out";
}

/// Both sides of a pair, a register, a panel and a key block; as stored, packed when met, packed.
TEST_P(Bfloat16Products, MatchesTheOracle) {
  for (const Index queries : {1, 7, 13, 96, 97, 131})
    for (const Index keys : {1, 2, 31, 33, 127, 128, 129, 259})
      for (const Index dim : {1, 2, 17, 33, 64}) {
        const Shape s{2, 4, 2, queries, keys, dim, 66 - dim};
        SCOPED_TRACE(describe(s));
        const Narrow<> in = narrow(s, 21);
        expect_rounded(in.attend(causally), oracle(in.wide, seeing(reference::causal())));
      }
}

/// Scores that rise from panel to panel, beyond what a maximum lets pass: the weights that are
/// there already fade, in tiles that are seen whole and in those that are not.
TEST_P(Bfloat16Products, FadesWhatWasWeighedBefore) {
  for (const Index queries : {1, 5, 130}) {
    const Shape s{1, 1, 1, queries, 300, 1, 20};
    SCOPED_TRACE(describe(s));
    Inputs<float> in = narrow(s, 29).wide;
    in.q.setConstant(1);
    for (Index j = 0; j < s.keys; ++j) in.k(0, 0, j, 0) = .25f * float(j);
    const Narrow<> rising(in);
    expect_rounded(rising.attend(standard), oracle(rising.wide, {}));
    expect_rounded(rising.attend(standard | window(90, 7)),
                   oracle(rising.wide, seeing(reference::window(90, 7))));
  }
}

/// Weights of 1 are not rounded: a mean is as good as float's.
TEST_P(Bfloat16Products, MeansAreExact) {
  for (const Index keys : {1, 2, 63, 64, 65, 128, 131, 300})
    for (const Index queries : {1, 5, 14, 120}) {
      const Shape s{1, 1, 1, queries, keys, 10, 20};
      SCOPED_TRACE(describe(s));
      Inputs<float> in = inputs<float>(s, 22);
      in.q.setZero();
      const Narrow<> rounded(in);
      expect_close(rounded.attend(standard | window(90, 7)),
                   oracle(rounded.wide, seeing(reference::window(90, 7))));
    }
}

TEST_P(Bfloat16Products, PassesEveryHook) {
  for (const Index queries : {6, 30, 110}) {
    const Shape s{2, 4, 2, queries, 150, 24, 40};
    SCOPED_TRACE(describe(s));
    const Narrow<> in = narrow(s, 23);
    reference::Rules rules = seeing(reference::window(60, 0));
    rules.offset = 150 - queries;
    const auto tau_q = uniform<float>(24, s.batch, s.heads, s.queries),
               tau_k = uniform<float>(25, s.batch, s.key_heads, s.keys);
    const auto slope = normal<float>(26, 1, 4, s.queries, s.keys);
    const auto sink = normal<float>(27, 4);
    rules.tau_q = array(tau_q), rules.tau_k = array(tau_k), rules.bias = array(slope);
    rules.sinks = array(sink), rules.softcap = 3;
    expect_rounded(
        in.attend(query_offset(rules.offset) | query_temperature(tau_q) | key_temperature(tau_k) |
                  standard | softcap(3) | bias(slope) | window(60, 0) | sinks(sink)),
        oracle(in.wide, rules));
    // Of many rows a value's temperature is applied to it before it is rounded once more; few, of
    // both heads that share a key head together, take it in the weight.
    rules = {};
    rules.tau_v = array(tau_k);
    expect_rounded(in.attend(value_temperature(tau_k) | standard), oracle(in.wide, rules),
                   2 * queries <= 12 ? 1 : 2);
  }
}

/// What is carried down the rows is as good as its scores are; those of a projection, which comes
/// in float, are rounded with it.
TEST_P(Bfloat16Products, Selects) {
  const Shape s = tokens(260, 18, 4, 2, 2);
  const Narrow<> in = narrow(s, 28);
  Tensor<float, 3> f(2, 260, 260);
  const auto want = selective_oracle(in.wide, causal_rules());
  expect_rounded(in.attend(standard | causal | selective.mask_f(f)), want);
  EXPECT_TRUE(close(f, lower(want.f), 1e-5));

  const auto rounded = [](const Tensor<float, 3>& x) -> Tensor<float, 3> {
    return x.cast<Eigen::bfloat16>().cast<float>();
  };
  const Tensor<float, 3> queries = rounded(normal<float>(29, 2, 260, 70)),
                         keys = rounded(normal<float>(30, 2, 260, 70));
  reference::Selection own;
  own.sel_q = array(queries), own.sel_k = array(keys);
  expect_rounded(in.attend(standard | causal | selective.projection(queries, keys)),
                 selective_oracle(in.wide, causal_rules(), own));
}

/// When keys are pruned, the rest of a pair is paired anew and keeps its factors.
TEST_P(Bfloat16Products, DropsWhatIsMaskedForGood) {
  for (const Index n : {383, 384, 700}) {
    const Narrow<> in = narrow(tokens(n, 20, 4, 2, 2), std::uint64_t(n), 1.3);
    Tensor<float, 3> tau = uniform<float>(9, 2, 2, n);
    tau = tau * tau.constant(.8f) + tau.constant(.6f);
    const auto variant = key_temperature(tau) | standard | causal | selective;
    const Outputs<float> got = in.attend(variant), all = in.attend(variant, {.negligible = 0});
    EXPECT_LT(got.visited.pairs, all.visited.pairs);
    reference::Rules rules = causal_rules();
    rules.tau_k = array(tau);
    const auto want = selective_oracle(in.wide, rules);
    expect_rounded(got, want);
    expect_rounded(all, want);
  }
}

/// NaN in key and value `at`, or in the value alone, is seen by rows at … last and by no other.
/// Where it is, matrix registers do not sum up: others are as they were, but for the order of sums.
template <class Variant>
void expect_no_leak(const Variant& variant, Index queries, Index at, Index last) {
  for (const bool in_value_alone : {false, true}) {
    SCOPED_TRACE(std::to_string(queries) + " queries, key " + std::to_string(at));
    Narrow<> in = narrow({1, 1, 1, queries, queries, 36, 36}, 31);
    const Outputs<float> want = in.attend(variant);
    for (Index d = 0; d < 36; ++d) {
      const Eigen::bfloat16 nan(std::numeric_limits<float>::quiet_NaN());
      in.v(0, 0, at, d) = nan;
      if (!in_value_alone) in.k(0, 0, at, d) = nan;
    }
    const Outputs<float> got = in.attend(variant);
    for (Index i = 0; i < queries; ++i)
      for (Index d = 0; d < 36; ++d)
        if (i < at || i > last)
          EXPECT_NEAR(got.out(0, 0, i, d), want.out(0, 0, i, d),
                      multiplied_by == Bfloat16::tiles ? 1e-6 : 0)
              << "row " << i;
        else
          EXPECT_TRUE(std::isnan(got.out(0, 0, i, d))) << "row " << i;
  }
}
TEST_P(Bfloat16Products, LeaksNoNaN) {
  for (const Index queries : {5, 20, 150})
    for (const Index at :
         {Index(3), Index(4), queries - 1}) {  // the second of a pair, the first, the last
      expect_no_leak(causally, queries, at, queries);
      expect_no_leak(standard | window(2, 0), queries, at, at + 2);
    }
}

/// Negates the weights, so that the weight of a masked value is −0.
struct Negative : StageOf<Rank::weight> {
  template <class T>
  HEED_INLINE Batch<T> weight(const Batch<T>& x, const Lanes<T>&) const {
    return x * Batch<T>(T(-1));
  }
};
TEST_P(Bfloat16Products, HidesWhatWeighsMinusNought) {
  for (const Index at : {14, 15}) expect_no_leak(causally | Negative(), 20, at, 20);
}

TEST_P(Bfloat16Products, RowsThatSeeNothingAreZero) {
  const Narrow<> in = narrow({1, 1, 1, 100, 40, 8, 8}, 32);
  const Outputs<float> got = in.attend(standard | window(20, 0));
  for (Index i = 60; i < 100; ++i) {
    EXPECT_EQ(got.lse(0, 0, i), -std::numeric_limits<float>::infinity());
    for (Index d = 0; d < 8; ++d) EXPECT_EQ(got.out(0, 0, i, d), 0);
  }
}

TEST_P(Bfloat16Products, DoesNotDependOnTheNumberOfThreads) {
  for (const Index queries : {2, 40, 300}) {
    const Narrow<> in = narrow({1, 4, 2, queries, 2500, 16, 16}, 33, 1.3);
    const auto variant = standard | causal_bottom_right;
    const Outputs<float> one = in.attend(variant), selected = in.attend(variant | selective);
    Eigen::ThreadPool pool(3);
    expect_same_bits(one, in.attend(variant, {.executor = executor(pool)}));
    expect_same_bits(selected, in.attend(variant | selective, {.executor = executor(pool)}));
  }
}

/// Memory of the caller's, in which every number is NaN: what stands behind the last key, in a tile
/// that is only begun or in a register, is written before it is multiplied.
TEST_P(Bfloat16Products, ReadNothingThatWasNotWritten) {
  const auto expect_same = [](const Narrow<>& in, const auto& variant) {
    constexpr Index bytes = 4 << 20;
    Workspace workspace;
    std::memset(workspace.reserve(bytes), 0xff, std::size_t(bytes));
    expect_same_bits(in.attend(variant, {.workspace = &workspace}), in.attend(variant));
  };
  for (const Index queries : {5, 14, 97})
    for (const Index keys : {1, 31, 37, 130, 300})
      expect_same(narrow({1, 4, 2, queries, keys, 18, 20}, 38), standard);
  for (const Index n : {385, 481, 482})  // of which some are dropped
    expect_same(narrow(tokens(n, 20, 2, 1), 39, 1.3), standard | causal | selective);
}

/// As asked, be it by what this processor lacks; else as is fastest on it.
TEST_P(Bfloat16Products, AreMadeAsAsked) {
  for (const Index queries : {3, 50, 130}) {
    const Narrow<> in = narrow({1, 4, 2, queries, 130, 17, 16}, 37);
    const Outputs<float> got = in.attend(causally);
    EXPECT_EQ(same_bits(got.out, attend(in.wide, causally).out), GetParam() == Bfloat16::widened);
    Tensor<float> by_default(1, 4, queries, 16);
    forward(in.q, in.k, in.v, causally, by_default);
    EXPECT_EQ(same_bits(got.out, by_default), fastest_bfloat16(queries) == GetParam());
  }
}

/// Matrix registers for more rows than read keys as they are stored; pairs on all but Intel's.
TEST(Bfloat16Choice, IsTheFastestOnThisProcessor) {
  const bool intel = cpuinfo_says("vendor_id", "GenuineIntel"),
             pairs = cpuinfo_says("flags", "avx512_bf16") && simd::multiplies_bfloat16 && !intel;
  const Bfloat16 few = pairs ? Bfloat16::pairs : Bfloat16::widened;
  for (const Index queries : {1, 12}) EXPECT_EQ(fastest_bfloat16(queries), few);
  const bool tiles = cpuinfo_says("flags", "amx_bf16") && simd::multiplies_tiles;
  for (const Index queries : {13, 2048})
    EXPECT_EQ(fastest_bfloat16(queries), tiles ? Bfloat16::tiles : few);
  EXPECT_EQ(is_intel(), intel);
}

/// Queries of bfloat16 beside keys or values that are not are widened.
TEST(StoredQueries, DoNotDecideAlone) {
  const Narrow<> in = narrow({1, 2, 1, 50, 70, 17, 16}, 35);
  Inputs<float> wide = in.wide;
  wide.k = wide.k * wide.k.constant(1.001f);
  Tensor<float> got(1, 2, 50, 16);
  forward(in.q, wide.k, in.v, causally, got);
  EXPECT_TRUE(same_bits(got, attend(wide, causally).out));
  wide = in.wide;
  wide.v = wide.v * wide.v.constant(1.001f);
  forward(in.q, in.k, wide.v, causally, got);
  EXPECT_TRUE(same_bits(got, attend(wide, causally).out));
}

TEST(StoredQueries, ShowTheirWeights) {
  const Narrow<> in = narrow({1, 2, 1, 20, 30, 16, 16}, 36);
  const Outputs<float> known = attend(in.wide, causally);
  Tensor<float, 2> got(5, 30), want(5, 30);
  weights(in.q, in.k, causally, known.lse, {.head = 1, .row = 10, .rows = 5}, got);
  weights(in.wide.q, in.wide.k, causally, known.lse, {.head = 1, .row = 10, .rows = 5}, want);
  EXPECT_TRUE(same_bits(got, want));
}

/// Queries may be stored in 16 bits beside keys and values that are not of bfloat16: all are
/// widened then.
TEST(StoredQueries, AreWidened) {
  for (const Index queries : {3, 50, 130}) {
    const Shape s{1, 4, 2, queries, 130, 17, 16};
    SCOPED_TRACE(describe(s));
    const Narrow<Eigen::half> in(inputs<float>(s, 34));
    expect_same_bits(in.attend(causally), attend(in.wide, causally));
    Tensor<double> out(1, 4, queries, 16), want = out;
    forward(in.q, in.k, in.v, causally, out);
    forward(Tensor<double>(in.wide.q.cast<double>()), Tensor<double>(in.wide.k.cast<double>()),
            Tensor<double>(in.wide.v.cast<double>()), causally, want);
    EXPECT_TRUE(same_bits(out, want));
  }
}

}  // namespace
}  // namespace heed::test
