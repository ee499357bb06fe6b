// SPDX-License-Identifier: MIT
/// @file
/// Stages that are switched on or off at run time.
#pragma once

#include "heed/score/stage.hpp"

namespace heed::inline HEED_ABI {

/// `stage` if `on`, else nothing. A program with many switches needs one instantiation only. Costs
/// a well-predicted branch per register. A stage that is off may hold empty tensors, unless it
/// contains a lambda with a capture.
template <Stage S>
struct When {
  static constexpr Rank first_rank = S::first_rank, last_rank = S::last_rank;

  bool on;
  S stage;

  template <class T>
  auto bind(const Problem& p, Arena& arena) const {
    using Bound = BoundOf<T, S>;
    // A stage that is off may hold empty tensors: only its bound type is needed.
    if constexpr (std::default_initializable<Bound>)
      if (!on) return when(false, Bound{});
    return when(on, bound<T>(stage, p, arena));
  }

  template <class F>
  HEED_INLINE constexpr void each_stage(F&& f) {
    if (on) hook::each_stage(stage, f);
  }
  template <class F>
  HEED_INLINE constexpr void each_stage(F&& f) const {
    if (on) hook::each_stage(stage, f);
  }
};

namespace hook {
template <Stage S>
struct StagesOf<When<S>> : StagesOf<S> {};
}  // namespace hook

/// `stage` if `on`, else nothing. No checks are made of a stage that is off.
template <Stage S>
constexpr When<S> when(bool on, const S& stage) {
  return {on, stage};
}
/// Each stage of a chain, if `on`, else nothing.
template <Stage... S>
constexpr auto when(bool on, const Chain<S...>& chain) {
  return [&]<std::size_t... I>(std::index_sequence<I...>) {
    return Chain<When<S>...>{{{When<S>{on, chain.template link<I>()}}...}};
  }
  (std::index_sequence_for<S...>());
}

}  // namespace heed::inline HEED_ABI
