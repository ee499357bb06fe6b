// SPDX-License-Identifier: MIT
/// @file
/// Greedy search for the memory budget of each layer.
#pragma once

#include "heed/core/check.hpp"

#include <algorithm>
#include <vector>

namespace heed::inline HEED_ABI {

/// One budget per layer, and the loss they give.
struct Budgets {
  std::vector<Index> layers;
  double loss = 0;

  Index total() const {
    Index sum = 0;
    for (Index k : layers) sum += k;
    return sum;
  }
};

namespace detail {

/// Repeats: change the budget of one layer by `step`, choosing the layer that gives the lowest
/// loss. Stops when done(budgets) is true, or when allowed(budget) is false for every layer.
template <class Loss, class Allowed, class Done>
Budgets search_greedily(std::vector<Index> start, Index step, Loss&& loss_of, Allowed&& allowed,
                        Done&& done) {
  const auto loss = [&](const std::vector<Index>& budgets) {
    const double x = loss_of(budgets);
    if (is_nan(x)) throw ValueError("budget search: loss() is ", x);
    return x;
  };
  Budgets now{std::move(start), 0};
  now.loss = loss(now.layers);
  while (!done(now)) {
    Budgets best;
    for (std::size_t l = 0; l < now.layers.size(); ++l) {
      if (!allowed(now.layers[l])) continue;
      Budgets trial = now;
      trial.layers[l] += step;
      trial.loss = loss(trial.layers);
      if (best.layers.empty() || trial.loss < best.loss) best = std::move(trial);
    }
    if (best.layers.empty()) return now;
    now = std::move(best);
  }
  return now;
}

/// Upper limit of steps per layer. Each step calls the loss once per layer, so that a longer search
/// would not end in practice.
inline constexpr Index most_search_steps = Index(1) << 20;

/// @param distance  distance from the first budget to the last, in tokens.
inline void check_search(Index layers, Index from, Index step, Index distance, double target) {
  if (layers < 1) throw ValueError("budget search: there are no layers");
  if (layers > max_layers)
    throw ValueError("budget search: there are ", layers, " layers, must be at most ", max_layers);
  if (from < 1 || step < 1)
    throw ValueError("budget search: budgets of ", from, " in steps of ", step,
                     ", both must be at least 1");
  if (is_nan(target)) throw ValueError("budget search: the target is ", target);
  if (distance / step > most_search_steps)
    throw ValueError("budget search: a layer may take ", distance / step, " steps of ", step,
                     ", must be at most ", most_search_steps);
}

}  // namespace detail

/// Grows equal budgets greedily: each step adds `step` tokens to the layer whose growth lowers the
/// loss most. Stops when the loss is at most `target` or every layer has `most`. arXiv:2410.02703
/// allocates memory greedily too, but does not state the start and the step; both are arguments.
///
/// @param start, step, most  tokens per layer.
/// @param loss  loss(const std::vector<Index>& budgets) → double, measured on held-out data.
/// @return the budgets reached and their loss, which exceeds the target if `most` was not enough.
/// @throws ValueError if start or step is below 1, if target or a loss is NaN, if there are more
///     than 2^20 layers, or more than 2^20 steps per layer.
/// @note Calls loss() once per layer and step.
template <class Loss>
Budgets grow_budgets(Index layers, Index start, Index step, Index most, double target,
                     Loss&& loss) {
  detail::check_search(layers, start, step, std::max(most, start) - std::max<Index>(start, 1),
                       target);
  return detail::search_greedily(
      std::vector<Index>(std::size_t(layers), start), step, loss,
      [&](Index k) { return most >= step && k <= most - step; },
      [&](const Budgets& b) { return b.loss <= target; });
}

/// Shrinks equal budgets greedily: each step takes `step` tokens from the layer whose shrinking
/// gives the lowest loss. Continues while the loss is at most `target` and every layer keeps
/// `least`.
///
/// @return the last budgets within the target, or the start if that exceeds the target.
/// @throws ValueError like grow_budgets(), and if least is below 1.
template <class Loss>
Budgets shrink_budgets(Index layers, Index start, Index step, Index least, double target,
                       Loss&& loss) {
  if (least < 1) throw ValueError("budget search: a layer keeps at least 1 token, not ", least);
  detail::check_search(layers, start, step, std::max(start, least) - least, target);
  Budgets within;
  detail::search_greedily(
      std::vector<Index>(std::size_t(layers), start), -step, loss,
      [&](Index k) { return k - step >= least; },
      [&](const Budgets& b) {
        const bool beyond = b.loss > target;
        if (!beyond || within.layers.empty()) within = b;
        return beyond;
      });
  return within;
}

}  // namespace heed::inline HEED_ABI
