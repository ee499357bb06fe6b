// SPDX-License-Identifier: MIT
#include "heed/kv/layer_buffers.hpp"

#include "support/buffers.hpp"

#include <gtest/gtest.h>

#include <optional>
#include <string>
#include <vector>

namespace heed::test {
namespace {

using Layers = std::vector<std::optional<Index>>;

constexpr KvShape shape{.batch = 2, .heads = 2, .key_heads = 1, .dim = 8, .value_dim = 8};

/// Each layer is a buffer of its own budget, and the other rules are shared.
TEST(ManyLayers, AreABufferEach) {
  const Layers budgets{4, std::nullopt, 9};
  const KvOptions rules{.budget = 77, .evict = Evict::oldest, .recent = 2, .chunk = 5};
  LayerBuffers<float> layers(shape, budgets, rules);
  ASSERT_EQ(layers.size(), 3);
  for (Index l = 0; l < 3; ++l) {
    const Inputs<float> in = inputs<float>(tokens(40, 8, 2, 1, 2), std::uint64_t(l));
    KvOptions o = rules;
    o.budget = budgets[std::size_t(l)];
    EXPECT_EQ(layers[l].options().budget, o.budget);
    EXPECT_EQ(layers[l].options().recent, 2);
    KvBuffer<float> alone = buffer_for(in, o);
    expect_same_bits(through(layers[l], in), through(alone, in));
  }
}

TEST(ManyLayers, HoldTheMemoryOfAll) {
  LayerBuffers<float> layers(shape, {4, 100, std::nullopt}, {});
  EXPECT_EQ(layers.bytes(), layers[0].bytes() + layers[1].bytes() + layers[2].bytes());
  const std::size_t before = layers.bytes();
  through(layers[2], inputs<float>(tokens(40, 8, 2, 1, 2), 1));
  EXPECT_GT(layers.bytes(), before);
  EXPECT_EQ(layers.bytes(), layers[0].bytes() + layers[1].bytes() + layers[2].bytes());
}

/// 4 + 10 + 40 of 3 · 40 tokens.
TEST(ManyLayers, SayWhatPartOfTheTokensTheyHold) {
  LayerBuffers<float> layers(shape, {4, 10, std::nullopt}, {});
  EXPECT_EQ(layers.memory_ratio(), 1);  // of nothing, all
  for (Index l = 0; l < 3; ++l) through(layers[l], inputs<float>(tokens(40, 8, 2, 1, 2), 1));
  EXPECT_DOUBLE_EQ(layers.memory_ratio(), (4. + 10 + 40) / (3 * 40));
}

TEST(ManyLayers, ForgetOneSequenceInEveryLayer) {
  LayerBuffers<float> layers(shape, {4, std::nullopt}, {});
  for (Index l = 0; l < 2; ++l) through(layers[l], inputs<float>(tokens(20, 8, 2, 1, 2), 1));
  layers.clear(1);
  for (Index l = 0; l < 2; ++l) {
    EXPECT_EQ(layers[l].sequence(0).next(), 20);
    EXPECT_EQ(layers[l].sequence(1).next(), 0);
    EXPECT_EQ(layers[l].sequence(1).count(), 0);
  }
  EXPECT_DOUBLE_EQ(layers.memory_ratio(), (4. + 20) / (2 * 20));
}

TEST(ManyLayers, AreCopiedWhole) {
  const Inputs<float> in = inputs<float>(tokens(40, 8, 2, 1, 2), 2);
  LayerBuffers<float> one(shape, {4, 9}, {});
  Buffered<float> first = answers_to(in);
  for (Index l = 0; l < 2; ++l) step(one[l], in, 0, 20, first);
  LayerBuffers<float> other = one;
  Buffered<float> second = first;
  for (Index l = 0; l < 2; ++l) {
    step(one[l], in, 20, 40, first);
    step(other[l], in, 20, 40, second);
    expect_same_bits(first, second);
  }
}

TEST(ManyLayers, MayBeNone) {
  LayerBuffers<float> layers(shape, {}, {});
  EXPECT_EQ(layers.size(), 0);
  EXPECT_EQ(layers.bytes(), 0u);
  EXPECT_EQ(layers.memory_ratio(), 1);
}

TEST(ManyLayers, RefuseABudgetBelowWhatMayNotGo) {
  const auto message = message_of<ValueError>([] {
    LayerBuffers<float>(shape, {4, 1, std::nullopt}, {});
  });
  EXPECT_EQ(message, "budget is 1, must be at least 2: KvOptions::protect keeps 1, recent keeps 1");
}

}  // namespace
}  // namespace heed::test
