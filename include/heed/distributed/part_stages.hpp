// SPDX-License-Identifier: MIT
/// @file
/// The stages of a call on one chunk of rows and a part of the keys.
#pragma once

#include "heed/distributed/array.hpp"
#include "heed/distributed/stage_roles.hpp"

#include <algorithm>

namespace heed::inline HEED_ABI::distributed::detail {

/// Masks what the variant's masks hide: each row sees an interval of positions. The keys of the
/// part are any ascending positions. One type for all masks, so that variants which differ in their
/// masks alone share the compiled kernels.
struct SeenKeys : StageOf<Rank::mask> {
  View<const KeyRange, 3> ranges;    ///< [B, H, rows of the rank] positions that a row sees
  Index row = 0, head = 0;           ///< of the first row and head of the part
  const Index* positions = nullptr;  ///< [keys], ascending; null: key j is at first + j
  Index first = 0;
  Index offset = 0;  ///< position of row 0 in the frame of the part, whose key 0 is at 0
  const Problem* whole = nullptr;  ///< if given, the part has its sequences; key 0 is its key 0
  Index whole_row = 0;             ///< the position of row 0 then
  bool keeps_past = false;

  void place(Problem& p) const {
    if (whole)
      p.set_part_of(*whole, whole_row);
    else
      p.set_query_offset(offset);
  }
  bool keeps_causal_past() const { return keeps_past; }
  KeyRange keys(const KeyRange& range, const Row& at) const {
    const KeyRange& seen = ranges(at.batch, head + at.head, row + at.index);
    if (!positions) return range & KeyRange{seen.first - first, seen.last - first};
    const Index* const end = positions + range.last;
    return range & KeyRange{std::lower_bound(positions, end, seen.first) - positions,
                            std::lower_bound(positions, end, seen.last) - positions};
  }
};

/// A bound stage whose head 0 is another one.
template <class B>
struct ShiftedScore : B {
  Index shift = 0;

  template <class T>
  void bind() = delete;  // B may be bound to itself, and is already

  template <class T>
  HEED_INLINE Batch<T> score(const Batch<T>& s, const Lanes<T>& at) const {
    return B::score(s, shifted(at));
  }
  template <class T>
  HEED_INLINE Lanes<T> shifted(Lanes<T> at) const {
    at.head += shift;
    return at;
  }
};
template <class B>
struct ShiftedAdjoint : ShiftedScore<B> {
  template <class T>
  HEED_INLINE Batch<T> grad_score(const Batch<T>& grad, const Batch<T>& s, const Lanes<T>& at) {
    return B::grad_score(grad, s, this->shifted(at));
  }
};

/// A stage that changes scores, in a call of one head of the `heads` that it knows.
template <Stage S>
struct AtHead {
  static constexpr Rank first_rank = S::first_rank, last_rank = S::last_rank;

  S stage;
  Index head, heads;

  template <class T>
  auto bind(const Problem& p, Arena& arena) const {
    using B = BoundOf<T, S>;
    const B of_all = bound<T>(stage, with_all_heads(p), arena);
    if constexpr (hook::GradScore::defined_by<B>)
      return ShiftedAdjoint<B>{{of_all, head}};
    else
      return ShiftedScore<B>{of_all, head};
  }
  void check(const Problem& p) const {
    if constexpr (hook::Check::defined_by<S>) stage.check(with_all_heads(p));
  }

 private:
  Problem with_all_heads(Problem p) const {
    p.heads = heads;
    return p;
  }
};

/// The gradients of the score stages' own tensors, which each call on a part overwrites, summed
/// over the calls.
template <class T>
class StageGradients {
 public:
  /// Lets a stage write to scratch in place of its gradient. The stages of a variant are given in
  /// the same order for every part, after begin().
  void begin() { next_ = 0; }
  template <class S>
  S redirected(S stage) {
    if constexpr (requires { stage.gradient; })
      if (stage.gradient) {
        const auto to = stage.gradient;
        if (next_ == all_.size()) all_.emplace_back(as_matrix(to));
        using G = std::remove_cvref_t<decltype(to)>;
        stage.gradient = G(all_[next_++].part.view().data(), to.dims());
      }
    return stage;
  }
  /// Adds what the last part has written.
  void add() {
    for (One& one : all_)
      each(one, [&](Index i, Index j) { one.sum.view()(i, j) += one.part.view()(i, j); });
  }
  /// Writes the sums to the caller's tensors.
  void write() {
    for (One& one : all_) each(one, [&](Index i, Index j) { one.to(i, j) = one.sum.view()(i, j); });
  }

 private:
  struct One {
    explicit One(const View<T, 2>& view) : to(view), part(view.dims()), sum(view.dims()) {}
    View<T, 2> to;
    Array<T, 2> part, sum;
  };
  template <class Visit>
  static void each(const One& one, Visit&& visit) {
    for (Index i = 0; i < one.to.dim(0); ++i)
      for (Index j = 0; j < one.to.dim(1); ++j) visit(i, j);
  }
  static View<T, 2> as_matrix(const View<T, 1>& x) {
    return {x.data(), {1, x.dim(0)}, {0, x.stride(0)}};
  }
  static View<T, 2> as_matrix(const View<T, 2>& x) { return x; }

  Vector<One> all_;
  std::size_t next_ = 0;
};

/// A score stage as a part uses it.
template <class T, Stage S>
AtHead<S> at_head(const S& stage, Index head, Index heads, StageGradients<T>* gradients) {
  return {gradients ? gradients->redirected(stage) : stage, head, heads};
}
template <class T, Stage S>
When<AtHead<S>> at_head(const When<S>& stage, Index head, Index heads,
                        StageGradients<T>* gradients) {
  // A stage that is off may hold empty tensors; its gradient is not wanted.
  return {stage.on, at_head<T>(stage.stage, head, heads, stage.on ? gradients : nullptr)};
}

/// The variant of a part: the score stages, what the rows see, and the scan.
template <class T, Stage V>
auto part_variant(const V& variant, Index heads, const SeenKeys& seen, bool selects,
                  const SelectiveWith<T>& scan, StageGradients<T>* gradients) {
  if (gradients) gradients->begin();
  const auto change = [&](const auto& stage) {
    return at_head<T>(stage, seen.head, heads, gradients);
  };
  if constexpr (hook::scans_rows<BoundOf<T, V>>)
    return chosen<ThatScore<T>>(variant, seen | when(selects, scan), change);
  else
    return chosen<ThatScore<T>>(variant, seen, change);
}

}  // namespace heed::inline HEED_ABI::distributed::detail
