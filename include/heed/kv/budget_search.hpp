// SPDX-License-Identifier: MIT
/// @file How to share a memory budget among the layers.
#pragma once

#include "heed/core/views.hpp"

#include <vector>

namespace heed::inline HEED_ABI {

/// Budgets of the layers, and the loss with them.
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

/// Changes one layer at a time by `step`, always the one after which the loss is lowest, until
/// done(budgets), or until no layer may change further.
template <class Loss, class Allowed, class Done>
Budgets search_greedily(std::vector<Index> start, Index step, Loss&& loss, Allowed&& allowed,
                        Done&& done) {
  Budgets now{std::move(start), 0};
  now.loss = loss(now.layers);
  while (!done(now)) {
    Budgets best;
    for (std::size_t l = 0; l < now.layers.size(); ++l) {
      if (!allowed(now.layers[l] + step)) continue;
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

inline void check_search(Index layers, Index from, Index step) {
  if (layers < 1) throw ValueError("budget search: there are no layers");
  if (from < 1 || step < 1)
    throw ValueError("budget search: budgets of ", from, " in steps of ", step,
                     ", both must be at least 1");
}

}  // namespace detail

/// Grows equal budgets: `step` tokens more for the layer that gains most by them, again and again,
/// until the loss is at most `target` or every layer has `most` (arXiv:2410.02703 shares memory out
/// greedily; where it starts and by what step is not known to us, so both are arguments).
///
/// @param loss  loss(const std::vector<Index>& budgets) → double, the caller's, on held-out data.
/// @return the budgets reached and their loss, which exceeds the target if `most` was not enough.
/// @note Calls loss() once a layer and step.
template <class Loss>
Budgets grow_budgets(Index layers, Index start, Index step, Index most, double target,
                     Loss&& loss) {
  detail::check_search(layers, start, step);
  return detail::search_greedily(
      std::vector<Index>(std::size_t(layers), start), step, loss,
      [&](Index k) { return k <= most; }, [&](const Budgets& b) { return b.loss <= target; });
}

/// Shrinks equal budgets: `step` tokens fewer for the layer that loses least by them, as long as
/// the loss stays at most `target` and every layer keeps `least`.
///
/// @return the last budgets within the target; the start itself if already that exceeds it.
template <class Loss>
Budgets shrink_budgets(Index layers, Index start, Index step, Index least, double target,
                       Loss&& loss) {
  detail::check_search(layers, start, step);
  if (least < 1) throw ValueError("budget search: a layer keeps at least 1 token, not ", least);
  Budgets within;
  detail::search_greedily(
      std::vector<Index>(std::size_t(layers), start), -step, loss,
      [&](Index k) { return k >= least; },
      [&](const Budgets& b) {
        const bool beyond = b.loss > target;
        if (!beyond || within.layers.empty()) within = b;
        return beyond;
      });
  return within;
}

}  // namespace heed::inline HEED_ABI
