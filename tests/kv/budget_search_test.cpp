// SPDX-License-Identifier: MIT
#include "heed/kv/budget_search.hpp"

#include "support/border.hpp"
#include "support/random.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <string>
#include <utility>
#include <vector>

namespace heed::test {
namespace {

using Layers = std::vector<Index>;

/// A model of which each layer loses need / (need + budget): those of great need gain most.
class Model {
 public:
  explicit Model(std::vector<double> needs) : needs_(std::move(needs)) {}

  double operator()(const Layers& budgets) {
    calls.push_back(budgets);
    double loss = 1;
    for (std::size_t l = 0; l < needs_.size(); ++l)
      loss += needs_[l] / (needs_[l] + double(budgets[l]));
    return loss;
  }
  Index size() const { return Index(needs_.size()); }

  std::vector<Layers> calls;

 private:
  std::vector<double> needs_;
};

std::vector<double> random_needs(std::uint64_t seed, Index layers) {
  Random random(seed);
  std::vector<double> needs;
  for (Index l = 0; l < layers; ++l) needs.push_back(1 + 40 * random.uniform());
  return needs;
}

/// The search as one would say it: the layer whose change leaves the lowest loss changes.
struct Plain {
  Layers budgets;
  double loss;
};

Plain plain_growth(Model model, Index start, Index step, Index most, double target) {
  Plain now{Layers(std::size_t(model.size()), start), 0};
  for (;;) {
    now.loss = model(now.budgets);
    if (now.loss <= target) return now;
    std::vector<std::pair<double, std::size_t>> trials;
    for (std::size_t l = 0; l < now.budgets.size(); ++l) {
      Layers trial = now.budgets;
      trial[l] += step;
      if (trial[l] <= most) trials.emplace_back(model(trial), l);
    }
    if (trials.empty()) return now;
    now.budgets[std::min_element(trials.begin(), trials.end())->second] += step;
  }
}

Plain plain_shrinking(Model model, Index start, Index step, Index least, double target) {
  Plain now{Layers(std::size_t(model.size()), start), 0};
  now.loss = model(now.budgets);
  for (;;) {
    std::vector<std::pair<double, std::size_t>> trials;
    for (std::size_t l = 0; l < now.budgets.size(); ++l) {
      Layers trial = now.budgets;
      trial[l] -= step;
      if (trial[l] >= least) trials.emplace_back(model(trial), l);
    }
    if (trials.empty()) return now;
    const auto [loss, layer] = *std::min_element(trials.begin(), trials.end());
    if (loss > target) return now;
    now.budgets[layer] -= step;
    now.loss = loss;
  }
}

// ---- growing

/// By hand: of (10, 10, 10) the layers lose 90/100, 8/18 and 1/11. Ten tokens more spare the second
/// .16, the most; then the first .08, a little more than the second again.
TEST(GrowingBudgets, GoToTheLayerThatGainsMost) {
  const Budgets got = grow_budgets(3, 10, 10, 1000, 2.2, Model({90, 8, 1}));
  EXPECT_EQ(got.layers, (Layers{20, 20, 10}));
  EXPECT_DOUBLE_EQ(got.loss, 1 + 90. / 110 + 8. / 28 + 1. / 11);
  EXPECT_EQ(got.total(), 50);
}

TEST(GrowingBudgets, GrowAsThePlainSearchDoes) {
  for (std::uint64_t seed = 0; seed < 50; ++seed) {
    const Index layers = 1 + Index(seed % 7), step = 1 + Index(seed % 4);
    const Model model(random_needs(seed, layers));
    const double target = 1 + double(layers) * (0.2 + 0.01 * double(seed % 30));
    const Budgets got = grow_budgets(layers, 3, step, 60, target, Model(model));
    const Plain want = plain_growth(model, 3, step, 60, target);
    EXPECT_EQ(got.layers, want.budgets) << seed;
    EXPECT_EQ(got.loss, want.loss) << seed;
  }
}

TEST(GrowingBudgets, StopAtOnceIfTheTargetIsMet) {
  Model model({5, 5});
  const Budgets got = grow_budgets(2, 4, 1, 100, 10, model);
  EXPECT_EQ(got.layers, (Layers{4, 4}));
  EXPECT_EQ(model.calls.size(), 1u);
}

/// A target that cannot be met: all have the most, or as near to it as the step goes.
TEST(GrowingBudgets, EndWhereNoLayerMayGrow) {
  const Budgets even = grow_budgets(3, 2, 4, 10, 0, Model({1, 2, 3}));
  EXPECT_EQ(even.layers, (Layers{10, 10, 10}));
  EXPECT_GT(even.loss, 0);
  EXPECT_EQ(grow_budgets(2, 2, 3, 10, 0, Model({1, 2})).layers, (Layers{8, 8}));
  EXPECT_EQ(grow_budgets(2, 20, 3, 10, 0, Model({1, 2})).layers, (Layers{20, 20}));
}

TEST(GrowingBudgets, OfEqualGainsFavourTheFirstLayer) {
  EXPECT_EQ(grow_budgets(3, 1, 1, 9, 1 + 3 * .8 - .01, Model({4, 4, 4})).layers, (Layers{2, 1, 1}));
}

/// A loss that rises is followed too: the least of evils is taken, not none.
TEST(GrowingBudgets, GoOnThroughARise) {
  const auto bump = [](const Layers& k) { return k[0] == 2 ? 3. : k[0] >= 3 ? 0. : 1.; };
  EXPECT_EQ(grow_budgets(1, 1, 1, 5, 0.5, bump).layers, (Layers{3}));
}

TEST(GrowingBudgets, CallTheLossOnceALayerAndStep) {
  Model model({9, 3, 30});
  const Budgets got = grow_budgets(3, 5, 5, 1000, 1.5, model);
  const std::size_t steps = std::size_t(got.total() - 15) / 5;
  EXPECT_EQ(model.calls.size(), 1 + 3 * steps);
}

// ---- shrinking

/// By hand: of (30, 30, 30) the third gives ten, then ten again; the first would be next, at .07.
TEST(ShrinkingBudgets, TakeFromTheLayerThatLosesLeast) {
  const Budgets got = shrink_budgets(3, 30, 10, 10, 2.06, Model({90, 8, 1}));
  EXPECT_EQ(got.layers, (Layers{30, 30, 10}));
  EXPECT_DOUBLE_EQ(got.loss, 1 + 90. / 120 + 8. / 38 + 1. / 11);
}

TEST(ShrinkingBudgets, ShrinkAsThePlainSearchDoes) {
  for (std::uint64_t seed = 0; seed < 50; ++seed) {
    const Index layers = 1 + Index(seed % 7), step = 1 + Index(seed % 4);
    const Model model(random_needs(100 + seed, layers));
    const double target = 1 + double(layers) * (0.25 + 0.01 * double(seed % 30));
    const Budgets got = shrink_budgets(layers, 64, step, 3, target, Model(model));
    const Plain want = plain_shrinking(model, 64, step, 3, target);
    EXPECT_EQ(got.layers, want.budgets) << seed;
    EXPECT_EQ(got.loss, want.loss) << seed;
  }
}

TEST(ShrinkingBudgets, ReturnTheStartIfAlreadyThatIsTooLittle) {
  const Budgets got = shrink_budgets(2, 4, 1, 1, 0.1, Model({5, 5}));
  EXPECT_EQ(got.layers, (Layers{4, 4}));
  EXPECT_GT(got.loss, 0.1);
}

TEST(ShrinkingBudgets, KeepTheLeast) {
  EXPECT_EQ(shrink_budgets(3, 10, 3, 2, 100, Model({1, 2, 3})).layers, (Layers{4, 4, 4}));
  EXPECT_EQ(shrink_budgets(3, 10, 4, 2, 100, Model({1, 2, 3})).layers, (Layers{2, 2, 2}));
}

/// Growing and shrinking meet where gains only fall: a loss of convex terms has one greedy path.
TEST(ShrinkingBudgets, MeetTheGrowingOnes) {
  const Model model({40, 7, 19, 3});
  const Budgets up = grow_budgets(4, 1, 1, 200, 1.8, Model(model));
  const Budgets down = shrink_budgets(4, 200, 1, 1, up.loss, Model(model));
  EXPECT_EQ(up.layers, down.layers);
}

// ---- errors

TEST(BudgetSearches, RefuseNumbersOutOfTheirDomain) {
  const auto no_loss = [](const Layers&) -> double {
    ADD_FAILURE() << "the loss was asked for";
    return 0;
  };
  const auto growing = [&](Index layers, Index start, Index step) {
    return message_of<ValueError>([&] { grow_budgets(layers, start, step, 9, 0, no_loss); });
  };
  const auto shrinking = [&](Index layers, Index start, Index step, Index least) {
    return message_of<ValueError>([&] { shrink_budgets(layers, start, step, least, 0, no_loss); });
  };
  EXPECT_EQ(growing(0, 1, 1), "budget search: there are no layers");
  EXPECT_EQ(growing(2, 0, 1), "budget search: budgets of 0 in steps of 1, both must be at least 1");
  EXPECT_EQ(growing(2, 4, 0), "budget search: budgets of 4 in steps of 0, both must be at least 1");
  EXPECT_EQ(shrinking(-1, 1, 1, 1), "budget search: there are no layers");
  EXPECT_EQ(shrinking(2, 4, -1, 1),
            "budget search: budgets of 4 in steps of -1, both must be at least 1");
  EXPECT_EQ(shrinking(2, 4, 1, 0), "budget search: a layer keeps at least 1 token, not 0");
  EXPECT_EQ(shrinking(2, 4, 1, smallest),
            "budget search: a layer keeps at least 1 token, not " + std::to_string(smallest));
  EXPECT_EQ(growing(largest, 1, 1), "budget search: there are " + std::to_string(largest) +
                                        " layers, must be at most 1048576");
  EXPECT_NE(growing(2, smallest, 1), "nothing was thrown");
  const double nan = std::numeric_limits<double>::quiet_NaN();
  EXPECT_EQ(message_of<ValueError>([&] { grow_budgets(2, 1, 1, 9, nan, no_loss); }),
            "budget search: the target is nan");
  EXPECT_EQ(message_of<ValueError>([&] { shrink_budgets(2, 9, 1, 1, nan, no_loss); }),
            "budget search: the target is nan");
}

/// What would not end is refused; where budgets are as large as numbers go, the next is not below.
TEST(BudgetSearches, End) {
  const auto never = [](const Layers&) { return 1.; };
  EXPECT_EQ(message_of<ValueError>([&] { grow_budgets(2, 1, 1, largest, 0, never); }),
            "budget search: a layer may take " + std::to_string(largest - 1) +
                " steps of 1, must be at most 1048576");
  EXPECT_EQ(message_of<ValueError>([&] { shrink_budgets(2, largest, 1, 1, 2, never); }),
            "budget search: a layer may take " + std::to_string(largest - 1) +
                " steps of 1, must be at most 1048576");
  const Index half = Index(1) << 62;
  EXPECT_EQ(grow_budgets(2, 8, half, largest, 0, never).layers, (Layers{8 + half, 8 + half}));
  EXPECT_EQ(grow_budgets(1, largest, largest, largest, 0, never).layers, (Layers{largest}));
  EXPECT_EQ(grow_budgets(1, 5, largest, smallest, 0, never).layers, (Layers{5}));
  EXPECT_EQ(shrink_budgets(1, 1, largest, 1, 2, never).layers, (Layers{1}));
}

TEST(BudgetSearches, RefuseLossesThatAreNoNumbers) {
  const auto lost = [](const Layers& k) {
    return k[0] < 4 ? 1. : std::numeric_limits<double>::quiet_NaN();
  };
  EXPECT_EQ(message_of<ValueError>([&] { grow_budgets(1, 1, 1, 9, 0, lost); }),
            "budget search: loss() is nan");
}

}  // namespace
}  // namespace heed::test
