// SPDX-License-Identifier: MIT
/// @file A stage, or nothing, decided at run time.
#pragma once

#include "heed/score/stage.hpp"

namespace heed::inline HEED_ABI {

/// `stage` if `on`, else nothing: one instantiation serves a command line with many switches. Costs
/// a branch a register, which the processor predicts. A stage that is off may be of empty tensors,
/// unless a lambda with a capture is part of it.
template <Stage S>
struct When {
  bool on;
  S stage;

  static constexpr bool carries_rows = S::carries_rows;
  static constexpr bool indexes_keys = S::indexes_keys;
  static constexpr Rank first_rank = S::first_rank, last_rank = S::last_rank;

  template <class T>
  auto bind(const Problem& p, Arena& arena) const {
    if constexpr (!requires { stage.template bind<T>(p, arena); }) {
      return *this;
    } else {
      using Bound = decltype(bound<T>(stage, p, arena));
      // A stage that is off may be empty: it is not bound to the call, only given its bound type.
      if constexpr (std::default_initializable<Bound>)
        if (!on) return When<Bound>{false, Bound{}};
      return When<Bound>{on, bound<T>(stage, p, arena)};
    }
  }

  std::optional<Index> query_offset(const Shape& s) const {
    return on ? stage.query_offset(s) : std::nullopt;
  }
  bool same_tokens() const { return on && stage.same_tokens(); }
  bool plain_past() const { return !on || stage.plain_past(); }
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
  T* falling(T least) {
    return on ? stage.template falling<T>(least) : nullptr;
  }
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

  static constexpr bool changes_weights = S::changes_weights;
  template <class T>
  HEED_INLINE Batch<T> weight(const Batch<T>& w, const Lanes<T>& at) const {
    return on ? stage.weight(w, at) : w;
  }
  static constexpr bool shapes_scores = S::shapes_scores;
  bool shares_gradients() const { return on && stage.shares_gradients(); }
  bool shares_gradients_over_keys() const { return on && stage.shares_gradients_over_keys(); }
  void clear_gradients() {
    if (on) stage.clear_gradients();
  }
  template <class T>
  HEED_INLINE Batch<T> grad_score(const Batch<T>& grad, const Batch<T>& s, const Lanes<T>& at) {
    return on ? stage.grad_score(grad, s, at) : grad;
  }
  template <class T>
  void grad_query_factor(T grad, const Row& row) {
    if (on) stage.grad_query_factor(grad, row);
  }
  template <class T>
  void grad_key_factor(T grad, Index batch, Index head, Index key) {
    if (on) stage.grad_key_factor(grad, batch, head, key);
  }
  template <class T>
  void grad_value_factor(T grad, Index batch, Index head, Index key) {
    if (on) stage.grad_value_factor(grad, batch, head, key);
  }
  template <class T>
  void grad_sink(T grad, Index batch, Index head) {
    if (on) stage.grad_sink(grad, batch, head);
  }
  template <class T>
  void save(Index key, Index keys, T* to) const {
    if (on) stage.save(key, keys, to);
  }
  template <class T>
  void restore(Index key, Index keys, const T* from) {
    if (on) stage.restore(key, keys, from);
  }
  void begin_gradients(Index key, Index keys) {
    if (on) stage.begin_gradients(key, keys);
  }
  void clear_carried_gradient() {
    if (on) stage.clear_carried_gradient();
  }
  template <class T>
  HEED_INLINE void grad_carried(const Batch<T>& grad, const Lanes<T>& at) {
    if (on) stage.grad_carried(grad, at);
  }
  template <class T>
  void deselect(const Panel<T>& panel, T* grads) {
    if (on) stage.deselect(panel, grads);
  }
  template <class T>
  GradProjection<T> grad_projection() const {
    return on ? stage.template grad_projection<T>() : GradProjection<T>{};
  }
  void end_gradients(Index key, Index keys) {
    if (on) stage.end_gradients(key, keys);
  }
};

template <Stage S>
When<S> when(bool on, const S& stage) {
  return {on, stage};
}

}  // namespace heed::inline HEED_ABI
