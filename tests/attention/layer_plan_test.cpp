// SPDX-License-Identifier: MIT
#include "heed/attention/layer_plan.hpp"

#include "heed/score/causal.hpp"
#include "heed/score/standard.hpp"
#include "reference/masks.hpp"
#include "support/calls.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <limits>
#include <string>
#include <vector>

namespace heed::test {
namespace {

/// Pairs counted one by one.
double counted(const reference::Visible& visible, Index tokens) {
  double pairs = 0;
  for (Index i = 0; i < tokens; ++i)
    for (Index j = 0; j <= i; ++j) pairs += visible({0, 0, i, i, j});
  return pairs;
}

TEST(VisiblePairs, OfABlockSpanAreThoseOneCounts) {
  for (const Index size : {1, 2, 3, 5, 8, 40, 41, 100})
    for (const Index previous : {0, 1, 2, 7})
      for (const Index n : {0, 1, 2, 5, 16, 39, 40, 41})
        EXPECT_EQ(visible_pairs(block_span(size, previous), n),
                  counted(reference::block_span(size, previous), n))
            << size << ' ' << previous << ' ' << n;
}

TEST(VisiblePairs, OfAWindowAreThoseOneCounts) {
  for (const Index left : {0, 1, 2, 7, 39, 40, 1000})
    for (const Index n : {0, 1, 2, 5, 16, 39, 40, 41})
      EXPECT_EQ(visible_pairs(window(left, 0), n),
                counted(reference::window(left, reference::unbounded), n))
          << left << ' ' << n;
  EXPECT_EQ(visible_pairs(window(unbounded, 0), 40), causal_pairs(40));
  EXPECT_EQ(visible_pairs(window(std::numeric_limits<Index>::max(), 0), 40), causal_pairs(40));
}

std::vector<Index> full_layers(const LayerPlan& plan) {
  std::vector<Index> full;
  for (Index l = 0; l < plan.layers(); ++l)
    if (plan.is_full(l)) full.push_back(l);
  return full;
}

TEST(LayerPlans, KeepTheLayersOneNames) {
  EXPECT_EQ(full_layers(LayerPlan(6, {4, 1})), (std::vector<Index>{1, 4}));
  EXPECT_EQ(full_layers(LayerPlan::bottom(6, 2)), (std::vector<Index>{0, 1}));
  EXPECT_EQ(full_layers(LayerPlan::top(6, 2)), (std::vector<Index>{4, 5}));
  EXPECT_EQ(full_layers(LayerPlan::spread(6, 2)), (std::vector<Index>{2, 5}));
  EXPECT_EQ(full_layers(LayerPlan::spread(24, 4)), (std::vector<Index>{5, 11, 17, 23}));
  EXPECT_EQ(full_layers(LayerPlan::spread(5, 5)), (std::vector<Index>{0, 1, 2, 3, 4}));
  EXPECT_TRUE(full_layers(LayerPlan::spread(5, 0)).empty());
}

/// The example at the length of the paper: three full layers of 24 and blocks of 1024 save three
/// quarters and more.
TEST(LayerPlans, CostWhatTheirLayersCost) {
  const LayerPlan plan = LayerPlan::top(24, 3);
  EXPECT_EQ(plan.full_layers(), 3);
  EXPECT_NEAR(plan.cost_ratio(block_span(1024), 8192), 0.234, 5e-4);
  EXPECT_EQ(LayerPlan::top(24, 24).cost_ratio(block_span(1024), 8192), 1);
  EXPECT_NEAR(LayerPlan::top(2, 1).cost_ratio(window(0, 0), 3), (6 + 3) / 12., 1e-15);
}

/// ℓ/L + (1 − ℓ/L) b/n, at L = 24 and n = 8192: of the lower order is one key a row.
TEST(LayerPlans, CostToLeadingOrderWhatThePaperSays) {
  struct Row {
    Index full, block;
    double ratio;
  };
  for (const auto& [full, block, ratio] : {Row{4, 1024, 0.271},
                                           {3, 1024, 0.234},
                                           {4, 512, 0.219},
                                           {6, 256, 0.273},
                                           {8, 1024, 0.417}}) {
    const double part = double(full) / 24, leading = part + (1 - part) * double(block) / 8192;
    EXPECT_NEAR(leading, ratio, 5e-4);
    EXPECT_NEAR(LayerPlan::spread(24, full).cost_ratio(block_span(block), 8192), leading,
                2. / 8192);
  }
}

/// What forward computes is what the formula counts, but for the tiles at the edges: a row's keys
/// are rounded to a tile on either side, and those of the group of rows it shares a tile with
/// count.
TEST(LayerPlans, CostForwardWhatTheySay) {
  const Index n = 2000, heads = 2;
  const Inputs<float> in = inputs<float>(tokens(n, 4, heads, 1), 2);
  const LayerPlan plan(2, {1});
  const double slack = double(n * heads) * (2 * 128 + 12);
  for (const auto& [size, previous] : {std::array<Index, 2>{1, 0}, {50, 0}, {128, 1}, {700, 1}}) {
    const BlockSpan span = block_span(size, previous);
    for (const Index layer : {0, 1}) {
      const double said =
          double(heads) * (plan.is_full(layer) ? causal_pairs(n) : visible_pairs(span, n));
      const double done =
          double(attend(in, standard | causal | plan.stage(layer, span)).visited.pairs);
      EXPECT_GE(done, said) << size << ' ' << layer;
      EXPECT_LE(done, said + slack) << size << ' ' << layer;
    }
  }
}

TEST(LayerPlans, GiveFullLayersNoSpan) {
  const Inputs<float> in = inputs<float>(tokens(100, 8, 2, 1), 1);
  const LayerPlan plan(2, {1});
  expect_close(attend(in, standard | causal | plan.stage(0, block_span(16))),
               oracle(in, seeing(reference::causal() && reference::block_span(16))));
  expect_close(attend(in, standard | causal | plan.stage(1, block_span(16))),
               oracle(in, seeing(reference::causal())));
}

TEST(LayerPlans, RefuseLayersThatDoNotExist) {
  EXPECT_THROW(LayerPlan(0, {}), ValueError);
  EXPECT_THROW(LayerPlan(4, {4}), ValueError);
  EXPECT_THROW(LayerPlan(4, {-1}), ValueError);
  EXPECT_THROW(LayerPlan::top(4, 5), ValueError);
  EXPECT_THROW(LayerPlan::spread(4, -1), ValueError);
  const LayerPlan plan(4, {1});
  for (const Index layer : {Index(-1), Index(4), Index(9), std::numeric_limits<Index>::max()}) {
    const std::string said = "layer " + std::to_string(layer) + " is asked for, there are 4";
    EXPECT_EQ(message_of<ValueError>([&] { plan.is_full(layer); }), said);
    EXPECT_EQ(message_of<ValueError>([&] { plan.stage(layer, block_span(4)); }), said);
  }
}

TEST(LayerPlans, RefuseLayersWithoutEnd) {
  constexpr Index most = std::numeric_limits<Index>::max(), million = Index(1) << 20;
  const auto said = [](Index layers) {
    return "a plan of " + std::to_string(layers) + " layers: must be 1 … 1048576";
  };
  for (const Index layers : {most, million + 1, Index(0), Index(-1)}) {
    EXPECT_EQ(message_of<ValueError>([&] { LayerPlan(layers, {}); }), said(layers));
    if (layers < 1) continue;
    EXPECT_EQ(message_of<ValueError>([&] { LayerPlan::spread(layers, layers); }), said(layers));
    EXPECT_EQ(message_of<ValueError>([&] { LayerPlan::top(layers, 1); }), said(layers));
  }
  EXPECT_EQ(LayerPlan::spread(million, million).full_layers(), million);
  EXPECT_THROW(LayerPlan(2, {}).cost_ratio(window(3, 0), most), ValueError);
}

}  // namespace
}  // namespace heed::test
