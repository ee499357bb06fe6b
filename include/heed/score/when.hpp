// SPDX-License-Identifier: MIT
/// @file A stage, or nothing, decided at run time.
#pragma once

#include "heed/score/stage.hpp"

namespace heed::inline HEED_ABI {

/// `stage` if `on`, else nothing: one instantiation serves a command line with many switches. Costs
/// a branch a register, which the processor predicts.
template <Stage S>
struct When {
  bool on;
  S stage;

  static constexpr bool carries_rows = S::carries_rows;
  static constexpr bool indexes_keys = S::indexes_keys;
  static constexpr Rank first_rank = S::first_rank, last_rank = S::last_rank;

  template <class T>
  auto bind(const Problem& p, Arena& arena) const {
    // A stage that is off may be empty: it is not bound to the call, only given its bound type.
    using Bound = decltype(bound<T>(stage, p, arena));
    if (!on) return When<Bound>{false, Bound{}};
    return When<Bound>{true, bound<T>(stage, p, arena)};
  }

  std::optional<Index> query_offset(const Shape& s) const {
    return on ? stage.query_offset(s) : std::nullopt;
  }
  bool is_causal() const { return on && stage.is_causal(); }
  void check(const Problem& p) const {
    if (on) stage.check(p);
  }
  void begin(Index batch, bool leader) {
    if (on) stage.begin(batch, leader);
  }
  void end() {
    if (on) stage.end();
  }
  template <class T>
  T query_factor(T x, const Row& row) const {
    return on ? stage.query_factor(x, row) : x;
  }
  template <class T>
  T key_factor(T x, Index batch, Index head, Index key) const {
    return on ? stage.key_factor(x, batch, head, key) : x;
  }
  template <class T>
  T value_factor(T x, Index batch, Index head, Index key) const {
    return on ? stage.value_factor(x, batch, head, key) : x;
  }
  bool scales_values() const { return on && stage.scales_values(); }
  KeyRange keys(const KeyRange& range, const Row& row) const {
    return on ? stage.keys(range, row) : range;
  }
  template <class T>
  T sink(T logit, Index batch, Index head) const {
    return on ? stage.sink(logit, batch, head) : logit;
  }
  Cover cover(const Block& block) const { return on ? stage.cover(block) : Cover::full; }
  Index selecting_head() const { return on ? stage.selecting_head() : -1; }
  template <class T>
  Projection<T> projection() const {
    return on ? stage.template projection<T>() : Projection<T>{};
  }
  template <class T>
  void select(const Panel<T>& panel) {
    if (on) stage.select(panel);
  }
  bool wants_skipped() const { return on && stage.wants_skipped(); }
  template <class T>
  HEED_INLINE Batch<T> score(const Batch<T>& s, const Lanes<T>& at) const {
    return on ? stage.score(s, at) : s;
  }
  template <class T>
  HEED_INLINE Mask<T> visible(const Mask<T>& m, const Lanes<T>& at) const {
    return on ? stage.visible(m, at) : m;
  }
  template <class T>
  HEED_INLINE Batch<T> carried(const Batch<T>& s, const Lanes<T>& at) const {
    return on ? stage.carried(s, at) : s;
  }
};

template <Stage S>
When<S> when(bool on, const S& stage) {
  return {on, stage};
}

}  // namespace heed::inline HEED_ABI
