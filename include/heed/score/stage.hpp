// SPDX-License-Identifier: MIT
/// @file What an attention variant is: a stage, or stages joined by `|`.
///
/// A stage is a value derived from Identity that hides the hooks it needs. The engine calls them in
/// this order, for every batch entry:
///
///     begin                          what is carried is cleared
///     for each row block, ascending
///       query_factor, keys, sink     once a row: its scale, the interval of keys it sees
///       for each key block           value_factor was applied when it was packed, key_factor too,
///                                    or to the product, where pairs of bfloat16 are multiplied
///         cover                      none: skipped for this head; full: `visible` is not asked
///         selecting head             its scores, then select(panel), then
///         for each head              score → visible → carried → online softmax
///     end
///
/// The register hooks (score, visible, carried, weight) see one register of scores, still in flight
/// between the product and the exponential; nothing is written to memory. The panel hook (select)
/// sees a whole block of the selecting head's scores before any other head goes on: what a scan
/// down the rows needs. Scores are in log2 units (the natural score times log2 e), so that the
/// softmax is a power of two; score_rule.hpp offers natural units.
#pragma once

#include "heed/core/shape.hpp"
#include "heed/core/workspace.hpp"
#include "heed/simd/exp2.hpp"

#include <concepts>
#include <limits>
#include <optional>
#include <utility>

namespace heed::inline HEED_ABI {

using simd::Batch, simd::Mask;

/// When a stage acts. Ranks may not fall along `a | b | c`: a selection that came before the mask
/// would count keys nobody sees, a cap that came after it would bring hidden keys back.
enum class Rank { place, rescale, scale, cap, bias, mask, carry, weight };

/// The call as stages see it: its sizes, and where row 0 sits.
struct Problem : Shape {
  Index query_offset = 0;    ///< The position of row 0. Key j sits at position j.
  bool placed = false;       ///< Did a stage say so, or is 0 just what is left?
  bool same_tokens = false;  ///< Do queries and keys come from the same tokens?
  bool backward = false;     ///< Is this the backward pass?
};

/// One query row of one head.
struct Row {
  Index batch, head, index, position;
};

/// Keys first ≤ j < last.
struct KeyRange {
  Index first, last;

  KeyRange operator&(const KeyRange& other) const {
    return {std::max(first, other.first), std::min(last, other.last)};
  }
};

/// How much of a block its rows see, as far as intervals do not say it already.
enum class Cover { none, partial, full };

/// Rows by keys of one head.
struct Block {
  Index batch, head, row, rows, key, keys;
};

/// A score that is hidden: finite, so that no arithmetic under -ffast-math goes wrong with it, and
/// so low that no visible score, which the library keeps above −max / 2, is taken for it.
template <class T>
inline constexpr T hidden = std::numeric_limits<T>::lowest();
template <class T>
inline constexpr T hidden_below = std::numeric_limits<T>::lowest() / 4 * 3;

/// Adjacent keys of one row: what a register of scores belongs to.
template <class T>
struct Lanes {
  Index batch, head;
  Index row, position;         ///< of the query
  Index key, keys;             ///< the key in lane 0, and how many lanes hold a key
  Index block_row, block_key;  ///< both counted from the start of the block
  const T* offsets = nullptr;  ///< positions of keys less `origin`, where keys are not in order
  Index origin = 0;

  /// Position of each key less that of the query: 0 is the query itself, negative the past.
  HEED_INLINE Batch<T> distance() const {
    if (offsets != nullptr) return simd::load(offsets + key) + Batch<T>(T(origin - position));
    return simd::iota<T>() + Batch<T>(T(key - position));
  }
};

/// The selecting head's scores on a block, hidden ones at hidden<T>.
template <class T>
struct Panel {
  const T* scores;  ///< scores[r · stride + c]
  Index stride;
  Index row, rows;   ///< rows [row, row + rows)
  Index position;    ///< of the first row
  Index key, keys;   ///< keys [key, key + keys); columns up to the next register hold anything
  Index first_key;   ///< the key at position 0, or −1
  const T* offsets;  ///< as in Lanes
  Index origin;
};

/// No panel is larger.
inline constexpr Index largest_panel_rows = 96, largest_panel_keys = 192;

/// Queries and keys of a selection function of its own; empty if a head selects.
template <class T>
struct Projection {
  View<const T, 3> queries, keys;  ///< [B, Nq, Ds], [B, Nk, Ds]
};

/// Where the gradients of a Projection go.
template <class T>
struct GradProjection {
  View<T, 3> queries, keys;
};

/// Every hook, doing nothing. The engine calls them all: one hidden with a wrong signature does not
/// compile. Past check(), hooks must not throw.
struct Identity {
  static constexpr bool carries_rows = false;  ///< Does a row depend on the rows above it?
  /// Does it read keys by index? Then it cannot work on a KvBuffer, whose slots are in no order.
  static constexpr bool indexes_keys = false;

  // Once a call.
  std::optional<Index> query_offset(const Shape&) const { return std::nullopt; }
  bool same_tokens() const { return false; }
  /// Does every row see its own key and all keys before it, and do the register hooks look at
  /// scores alone? Then keys that are masked for good can be dropped.
  bool plain_past() const { return false; }
  void check(const Problem&) const {}  ///< Throws what is wrong with the stage's own tensors.

  // Once a worker and batch entry, and once a task where nothing is carried. Of the workers that
  // walk the rows of one batch entry in parallel only one, the leader, writes what the stage gives.
  void begin(Index /*batch*/, bool /*leader*/) {}
  void end() {}

  // Once a row, once a key.
  template <class T>
  T query_factor(T factor, const Row&) const {
    return factor;
  }
  template <class T>
  T key_factor(T factor, Index /*batch*/, Index /*key_head*/, Index /*key*/) const {
    return factor;
  }
  template <class T>
  T value_factor(T factor, Index /*batch*/, Index /*key_head*/, Index /*key*/) const {
    return factor;
  }
  bool scales_values() const { return false; }
  KeyRange keys(const KeyRange& range, const Row&) const { return range; }
  template <class T>
  T sink(T logit, Index /*batch*/, Index /*head*/) const {
    return logit;
  }

  // Once a block.
  Cover cover(const Block&) const { return Cover::full; }
  Index selecting_head() const { return -1; }  ///< −1: no head selects.
  template <class T>
  Projection<T> projection() const {
    return {};
  }
  template <class T>
  void select(const Panel<T>&) {}
  bool wants_skipped() const { return false; }  ///< select() also on blocks no row sees?
  /// What score() will be raised by in the rows to come, per key, in log2 units, if that can only
  /// fall and nobody wants to know how far below `least`: keys that are may then be dropped, and
  /// the array closed up.
  template <class T>
  T* falling(T /*least*/) {
    return nullptr;
  }

  // Once a register.
  template <class T>
  HEED_INLINE Batch<T> score(const Batch<T>& s, const Lanes<T>&) const {
    return s;
  }
  template <class T>
  HEED_INLINE Mask<T> visible(const Mask<T>& m, const Lanes<T>&) const {
    return m;
  }
  template <class T>
  HEED_INLINE Batch<T> carried(const Batch<T>& s, const Lanes<T>&) const {
    return s;
  }

  /// What becomes of a softmax weight before it meets its value: linear in the weight.
  static constexpr bool changes_weights = false;
  template <class T>
  HEED_INLINE Batch<T> weight(const Batch<T>& w, const Lanes<T>&) const {
    return w;
  }

  // Backward. Gradients are those of natural scores; ∂L/∂x is what is handed in for x. Key blocks
  // are outermost: for each, rows first descend, so that what is carried is known at every row
  // block, and then ascend. In a tile all heads pass grad_carried, the selecting one last; then
  // deselect gives it what its votes did, and its scores pass grad_score as the other heads' did.
  static constexpr bool shapes_scores = false;  ///< Does grad_score do anything? If not, score()
                                                ///< adds what does not depend on s.
  // Does a gradient sum over heads or batch entries? Over keys? Then what would run in parallel
  // does not: heads always may, blocks of keys where something carries.
  bool shares_gradients() const { return false; }
  bool shares_gradients_over_keys() const { return false; }
  void clear_gradients() {}  ///< Once a call, before all.
  template <class T>
  HEED_INLINE Batch<T> grad_score(const Batch<T>& grad, const Batch<T>& /*s*/, const Lanes<T>&) {
    return grad;
  }
  template <class T>
  void grad_query_factor(T, const Row&) {}
  template <class T>
  void grad_key_factor(T, Index /*batch*/, Index /*key_head*/, Index /*key*/) {}
  template <class T>
  void grad_value_factor(T, Index /*batch*/, Index /*key_head*/, Index /*key*/) {}
  template <class T>
  void grad_sink(T, Index /*batch*/, Index /*head*/) {}
  template <class T>
  void save(Index /*key*/, Index /*keys*/, T* /*to*/) const {}  ///< What is carried for these keys,
  template <class T>
  void restore(Index /*key*/, Index /*keys*/, const T* /*from*/) {}  ///< and back again.
  void begin_gradients(Index /*key*/, Index /*keys*/) {}  ///< A key block is about to ascend.
  void clear_carried_gradient() {}                        ///< A tile begins.
  template <class T>
  HEED_INLINE void grad_carried(const Batch<T>& /*grad*/, const Lanes<T>&) {}
  /// grads[r · stride + c] ← what the votes add to ∂L/∂ the selecting head's score (r, c).
  template <class T>
  void deselect(const Panel<T>&, T* /*grads*/) {}
  template <class T>
  GradProjection<T> grad_projection() const {
    return {};
  }
  void end_gradients(Index /*key*/, Index /*keys*/) {}
};

/// One stage says when it acts, a chain says where it begins and ends.
template <class S>
concept Stage = std::copy_constructible<S> && requires {
  { S::carries_rows } -> std::convertible_to<bool>;
  { S::indexes_keys } -> std::convertible_to<bool>;
  { S::first_rank } -> std::convertible_to<Rank>;
  { S::last_rank } -> std::convertible_to<Rank>;
};

/// Base of a stage of the given rank.
template <Rank R>
struct StageOf : Identity {
  static constexpr Rank first_rank = R, last_rank = R;
};

/// The stage as one call sees it. A stage that needs tensors of the call's number type, or scratch,
/// offers bind<T>(problem, arena); the others serve as they are.
template <class T, Stage S>
auto bound(const S& stage, const Problem& problem, Arena& arena) {
  if constexpr (requires { stage.template bind<T>(problem, arena); })
    return stage.template bind<T>(problem, arena);
  else
    return stage;
}
template <class T, Stage S>
using BoundOf = decltype(bound<T>(std::declval<const S&>(), std::declval<const Problem&>(),
                                  std::declval<Arena&>()));

/// What the engine asks of a bound stage.
template <class S, class T>
concept Hooks = requires(S s, const S c, const Shape& shape, const Problem& problem, Index i,
                         const Row& row, const KeyRange& range, const Block& block,
                         const Panel<T>& panel, const Lanes<T>& at, Batch<T> x, Mask<T> m, T t) {
  { c.query_offset(shape) } -> std::same_as<std::optional<Index>>;
  { c.same_tokens() } -> std::same_as<bool>;
  { c.plain_past() } -> std::same_as<bool>;
  c.check(problem);
  s.begin(i, true), s.end();
  { c.query_factor(t, row) } -> std::same_as<T>;
  { c.key_factor(t, i, i, i) } -> std::same_as<T>;
  { c.value_factor(t, i, i, i) } -> std::same_as<T>;
  { c.scales_values() } -> std::same_as<bool>;
  { c.keys(range, row) } -> std::same_as<KeyRange>;
  { c.sink(t, i, i) } -> std::same_as<T>;
  { c.cover(block) } -> std::same_as<Cover>;
  { c.selecting_head() } -> std::same_as<Index>;
  { c.template projection<T>() } -> std::same_as<Projection<T>>;
  s.select(panel);
  { c.wants_skipped() } -> std::same_as<bool>;
  { s.template falling<T>(t) } -> std::same_as<T*>;
  { c.score(x, at) } -> std::same_as<Batch<T>>;
  { c.visible(m, at) } -> std::same_as<Mask<T>>;
  { c.carried(x, at) } -> std::same_as<Batch<T>>;
  { c.weight(x, at) } -> std::same_as<Batch<T>>;
  { c.shares_gradients() } -> std::same_as<bool>;
  { c.shares_gradients_over_keys() } -> std::same_as<bool>;
  s.clear_gradients();
  { s.grad_score(x, x, at) } -> std::same_as<Batch<T>>;
  s.grad_query_factor(t, row), s.grad_key_factor(t, i, i, i), s.grad_value_factor(t, i, i, i);
  s.grad_sink(t, i, i), s.grad_carried(x, at);
  s.begin_gradients(i, i), s.end_gradients(i, i);
};

/// a, then b.
template <Stage A, Stage B>
struct Then {
  A a;
  B b;

  static constexpr bool carries_rows = A::carries_rows || B::carries_rows;
  static constexpr bool indexes_keys = A::indexes_keys || B::indexes_keys;
  static constexpr Rank first_rank = A::first_rank, last_rank = B::last_rank;

  template <class T>
  auto bind(const Problem& p, Arena& arena) const {
    auto first = bound<T>(a, p, arena);  // in this order: both take from the arena
    auto second = bound<T>(b, p, arena);
    return Then<decltype(first), decltype(second)>{std::move(first), std::move(second)};
  }

  std::optional<Index> query_offset(const Shape& s) const {
    const auto x = a.query_offset(s), y = b.query_offset(s);
    if (x && y && *x != *y)
      throw ValueError("one stage puts row 0 at position ", *x, ", another at ", *y);
    return x ? x : y;
  }
  bool same_tokens() const { return a.same_tokens() || b.same_tokens(); }
  bool plain_past() const { return a.plain_past() && b.plain_past(); }
  void check(const Problem& p) const { a.check(p), b.check(p); }

  void begin(Index batch, bool leader) { a.begin(batch, leader), b.begin(batch, leader); }
  void end() { a.end(), b.end(); }

  template <class T>
  T query_factor(T x, const Row& row) const {
    return b.query_factor(a.query_factor(x, row), row);
  }
  template <class T>
  T key_factor(T x, Index batch, Index head, Index key) const {
    return b.key_factor(a.key_factor(x, batch, head, key), batch, head, key);
  }
  template <class T>
  T value_factor(T x, Index batch, Index head, Index key) const {
    return b.value_factor(a.value_factor(x, batch, head, key), batch, head, key);
  }
  bool scales_values() const { return a.scales_values() || b.scales_values(); }
  KeyRange keys(const KeyRange& range, const Row& row) const {
    return b.keys(a.keys(range, row), row);
  }
  template <class T>
  T sink(T logit, Index batch, Index head) const {
    return b.sink(a.sink(logit, batch, head), batch, head);
  }

  Cover cover(const Block& block) const {
    const Cover first = a.cover(block);
    return first == Cover::none ? first : std::min(first, b.cover(block));
  }
  Index selecting_head() const { return std::max(a.selecting_head(), b.selecting_head()); }
  template <class T>
  Projection<T> projection() const {
    const Projection<T> p = a.template projection<T>();
    return p.queries ? p : b.template projection<T>();
  }
  template <class T>
  void select(const Panel<T>& panel) {
    a.select(panel), b.select(panel);
  }
  bool wants_skipped() const { return a.wants_skipped() || b.wants_skipped(); }
  template <class T>
  T* falling(T least) {
    T* of_a = a.template falling<T>(least);
    return of_a ? of_a : b.template falling<T>(least);
  }

  template <class T>
  HEED_INLINE Batch<T> score(const Batch<T>& s, const Lanes<T>& at) const {
    return b.score(a.score(s, at), at);
  }
  template <class T>
  HEED_INLINE Mask<T> visible(const Mask<T>& m, const Lanes<T>& at) const {
    return b.visible(a.visible(m, at), at);
  }
  template <class T>
  HEED_INLINE Batch<T> carried(const Batch<T>& s, const Lanes<T>& at) const {
    return b.carried(a.carried(s, at), at);
  }

  static constexpr bool changes_weights = A::changes_weights || B::changes_weights;
  template <class T>
  HEED_INLINE Batch<T> weight(const Batch<T>& w, const Lanes<T>& at) const {
    return b.weight(a.weight(w, at), at);
  }

  static constexpr bool shapes_scores = A::shapes_scores || B::shapes_scores;
  bool shares_gradients() const { return a.shares_gradients() || b.shares_gradients(); }
  bool shares_gradients_over_keys() const {
    return a.shares_gradients_over_keys() || b.shares_gradients_over_keys();
  }
  void clear_gradients() { a.clear_gradients(), b.clear_gradients(); }
  template <class T>
  HEED_INLINE Batch<T> grad_score(const Batch<T>& grad, const Batch<T>& s, const Lanes<T>& at) {
    return a.grad_score(b.grad_score(grad, a.score(s, at), at), s, at);
  }
  // The product rule: a factor's gradient is the product's times the other factors.
  template <class T>
  void grad_query_factor(T grad, const Row& row) {
    a.grad_query_factor(grad * b.query_factor(T(1), row), row);
    b.grad_query_factor(grad * a.query_factor(T(1), row), row);
  }
  template <class T>
  void grad_key_factor(T grad, Index batch, Index head, Index key) {
    a.grad_key_factor(grad * b.key_factor(T(1), batch, head, key), batch, head, key);
    b.grad_key_factor(grad * a.key_factor(T(1), batch, head, key), batch, head, key);
  }
  template <class T>
  void grad_value_factor(T grad, Index batch, Index head, Index key) {
    a.grad_value_factor(grad * b.value_factor(T(1), batch, head, key), batch, head, key);
    b.grad_value_factor(grad * a.value_factor(T(1), batch, head, key), batch, head, key);
  }
  template <class T>
  void grad_sink(T grad, Index batch, Index head) {
    a.grad_sink(grad, batch, head), b.grad_sink(grad, batch, head);
  }
  template <class T>
  void save(Index key, Index keys, T* to) const {
    a.save(key, keys, to), b.save(key, keys, to);
  }
  template <class T>
  void restore(Index key, Index keys, const T* from) {
    a.restore(key, keys, from), b.restore(key, keys, from);
  }
  void begin_gradients(Index key, Index keys) {
    a.begin_gradients(key, keys), b.begin_gradients(key, keys);
  }
  void clear_carried_gradient() { a.clear_carried_gradient(), b.clear_carried_gradient(); }
  template <class T>
  HEED_INLINE void grad_carried(const Batch<T>& grad, const Lanes<T>& at) {
    a.grad_carried(grad, at), b.grad_carried(grad, at);
  }
  template <class T>
  void deselect(const Panel<T>& panel, T* grads) {
    a.deselect(panel, grads), b.deselect(panel, grads);
  }
  template <class T>
  GradProjection<T> grad_projection() const {
    const GradProjection<T> p = a.template grad_projection<T>();
    return p.queries ? p : b.template grad_projection<T>();
  }
  void end_gradients(Index key, Index keys) {
    a.end_gradients(key, keys), b.end_gradients(key, keys);
  }
};

/// `a | b`: a, then b.
template <Stage A, Stage B>
constexpr Then<A, B> operator|(const A& a, const B& b) {
  static_assert(
      A::last_rank <= B::first_rank,
      "heed: stages are out of order. The order is: query_offset | temperatures | standard "
      "or scaled | softcap | bias, alibi, score_rule | masks, sinks | selective | dropout");
  static_assert(!(A::carries_rows && B::carries_rows), "heed: at most one stage may carry rows");
  return {a, b};
}

}  // namespace heed::inline HEED_ABI
