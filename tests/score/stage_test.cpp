// SPDX-License-Identifier: MIT
// Stages joined: whatever stands together must be what it is alone, in the order of ranks.

#include "heed/score/stage.hpp"

#include "heed/score/alibi.hpp"
#include "heed/score/bias.hpp"
#include "heed/score/block_span.hpp"
#include "heed/score/boolean_mask.hpp"
#include "heed/score/causal.hpp"
#include "heed/score/documents.hpp"
#include "heed/score/lengths.hpp"
#include "heed/score/query_offset.hpp"
#include "heed/score/selective.hpp"
#include "heed/score/sinks.hpp"
#include "heed/score/softcap.hpp"
#include "heed/score/standard.hpp"
#include "heed/score/temperature.hpp"
#include "heed/score/when.hpp"
#include "heed/score/window.hpp"
#include "reference/selective.hpp"
#include "reference/temperature.hpp"
#include "support/calls.hpp"
#include "support/sanitizers.hpp"

#include <gtest/gtest.h>

#include <array>
#include <cstdint>
#include <limits>

namespace heed::test {
namespace {

template <class T>
class Stages : public testing::Test {};
TYPED_TEST_SUITE(Stages, Scalars, ScalarName);

/// All of them at once, on every tensor they take, switched on and off at random.
TYPED_TEST(Stages, MatchTheOracleInRandomCompany) {
  using T = TypeParam;
  Random random(1);
  for (int trial = 0; trial < (sanitized ? 20 : 80); ++trial) {
    const Index G = random.integer(1, 3), past = random.integer(0, 60);
    Shape s{.batch = random.integer(1, 3),
            .heads = G * random.integer(1, 4),
            .key_heads = G,
            .queries = random.integer(1, 140),
            .keys = 0,
            .dim = random.integer(1, 40),
            .value_dim = random.integer(1, 40)};
    s.keys = past + s.queries;
    SCOPED_TRACE(testing::Message()
                 << "trial " << trial << ": " << describe(s) << ", past " << past);
    const auto seed = std::uint64_t(100 * trial);
    const Inputs<T> in = inputs<T>(s, seed);

    const Tensor<T, 3> tau_q = normal<T>(seed + 1, s.batch, s.heads, s.queries),
                       tau_k = normal<T>(seed + 2, s.batch, s.key_heads, s.keys),
                       tau_v = normal<T>(seed + 3, s.batch, 1, s.keys);
    Tensor<T> values = normal<T>(seed + 4, 1, s.heads, s.queries, s.keys);
    for (Index i = 0; i < values.size(); ++i)
      if (random.uniform() < 0.1) values.data()[i] = -std::numeric_limits<T>::infinity();
    Tensor<bool> mask(s.batch, 1, s.queries, s.keys);
    for (Index i = 0; i < mask.size(); ++i) mask.data()[i] = random.uniform() < 0.9;
    Tensor<std::int64_t, 2> ids(s.batch, s.keys);
    Tensor<std::int64_t, 1> length(s.batch);
    for (Index b = 0; b < s.batch; ++b) {
      length(b) = random.integer(0, s.keys + 1);
      for (Index j = 0; j < s.keys; ++j)
        ids(b, j) = j == 0 ? 0 : ids(b, j - 1) + (random.uniform() < 0.03);
    }
    const Tensor<T, 1> logits = normal<T>(seed + 5, s.heads);
    Tensor<T, 1> slopes = uniform<T>(seed + 6, s.heads);
    slopes = slopes * slopes.constant(T(0.2));
    const Index width = random.integer(0, 100), size = random.integer(1, 90);

    reference::Rules rules = seeing(reference::causal());
    rules.offset = past;
    std::array<bool, 11> on{};
    for (bool& flag : on) flag = random.uniform() < 0.35;
    if (on[0]) rules.tau_q = array(tau_q);
    if (on[1]) rules.tau_k = array(tau_k);
    if (on[2]) rules.tau_v = array(tau_v);
    if (on[3]) rules.softcap = 3;
    if (on[4]) rules.bias = array(values);
    if (on[5]) rules.slopes = array(slopes);
    const auto and_ = [&](const reference::Visible& v) { rules.visible = rules.visible && v; };
    if (on[6]) and_(reference::window(width, 0));
    if (on[7]) and_(reference::block_span(size, 1));
    if (on[8]) {
      and_(reference::documents(array(ids)));
      rules.first_key = reference::first_of_document(array(ids));
    }
    if (on[9]) {
      const std::vector<Index> n(length.data(), length.data() + length.size());
      and_(reference::key_lengths(n) && reference::row_lengths(n));
    }
    if (on[10]) rules.sinks = array(logits);
    const bool masked = trial % 3 == 0, selects = trial % 2 == 0;
    if (masked) and_(reference::boolean_mask(array(mask)));

    const auto variant =
        query_offset(past) | when(on[0], query_temperature(tau_q)) |
        when(on[1], key_temperature(tau_k)) | when(on[2], value_temperature(tau_v)) | standard |
        when(on[3], softcap(3)) | when(on[4], bias(values)) | when(on[5], alibi(slopes)) | causal |
        when(on[6], window(width, 0)) | when(on[7], block_span(size, 1)) |
        when(on[8], documents(ids)) | when(on[9], lengths(length)) |
        when(masked, boolean_mask(mask)) | when(on[10], sinks(logits)) | when(selects, selective);
    const Outputs<T> got = attend(in, variant);
    if (selects)
      expect_close(got, selective_attention(array(in.q), array(in.k), array(in.v), rules));
    else
      expect_close(got, oracle(in, rules));
  }
}

TEST(StageOrder, OfJoiningDoesNotMatter) {
  const Inputs<float> in = inputs<float>(tokens(80, 8, 2, 1), 2);
  const auto left = ((standard | causal) | window(20, 0)) | block_span(30);
  const auto right = standard | (causal | (window(20, 0) | block_span(30)));
  expect_same_bits(attend(in, left), attend(in, right));
}

TEST(StageOrder, OfMasksDoesNotMatter) {
  const Inputs<float> in = inputs<float>(tokens(80, 8, 2, 1), 3);
  expect_same_bits(attend(in, ((standard | causal) | window(20, 0)) | block_span(30)),
                   attend(in, standard | block_span(30) | window(20, 0) | causal));
}

/// A variant is a value: it can be kept, copied and used again.
TEST(StageValue, IsNotChangedByUse) {
  const Inputs<float> in = inputs<float>(tokens(80, 8, 2, 1), 4);
  const auto variant = standard | causal | selective;
  const auto copy = variant;
  const Outputs<float> first = attend(in, variant);
  expect_same_bits(first, attend(in, variant));
  expect_same_bits(first, attend(in, copy));
}

TEST(StageValue, OfNoScaleTakesTheProductsAsTheyAre) {
  const Inputs<float> in = inputs<float>(tokens(40, 8), 5);
  expect_same_bits(attend(in, causal), attend(in, scaled(1) | causal));
}

/// What a stage holds for a key that no row sees does not enter a result either.
TEST(StageTensors, MayHoldNaNForHiddenKeys) {
  const Inputs<float> in = inputs<float>(tokens(40, 8, 2, 1), 6);
  Tensor<float, 3> tau = uniform<float>(7, 1, 1, 40);
  Tensor<bool> mask(1, 1, 1, 40);
  mask.setConstant(true);
  mask(0, 0, 0, 13) = mask(0, 0, 0, 39) = false;
  const auto run = [&] {
    return attend(in,
                  key_temperature(tau) | value_temperature(tau) | standard | boolean_mask(mask));
  };
  const Outputs<float> clean = run();
  tau(0, 0, 13) = std::numeric_limits<float>::quiet_NaN();
  tau(0, 0, 39) = std::numeric_limits<float>::infinity();
  const Outputs<float> got = run();
  EXPECT_TRUE(close(got.out, clean.out));
  EXPECT_TRUE(close(got.lse, clean.lse));
}

}  // namespace
}  // namespace heed::test
