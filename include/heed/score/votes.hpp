// SPDX-License-Identifier: MIT
/// @file How the selecting head's scores become votes, and votes F: the choices of SelectOptions,
/// each made here and nowhere else.
#pragma once

#include "heed/score/stage.hpp"

namespace heed::inline HEED_ABI {

/// The paper's choices, and others that were tried.
struct SelectOptions {
  Index head = 0;             ///< The query head whose scores select.
  bool relu = true;           ///< Votes are never negative: keys are masked, never boosted.
  bool protect_first = true;  ///< No row votes against the first token of a sequence.
  bool forbid_self = true;    ///< A token does not vote against itself.
  bool accumulate = true;     ///< F sums all rows above; false: the row above counts alone.
  bool shift = true;          ///< A vote counts for later rows only; false: for its own row too.
};

namespace detail {

/// Does F of a key never fall from row to row?
inline bool f_never_falls(const SelectOptions& o) {
  return o.relu && o.accumulate;
}
/// The paper's votes: F never falls, and that of a row is known before its scores are.
inline bool votes_as_in_the_paper(const SelectOptions& o) {
  return f_never_falls(o) && o.shift;
}

/// The lanes whose keys are voted on, where position 0 is in lane `first`, if in any.
template <class T>
HEED_INLINE Mask<T> voted_on(const SelectOptions& o, Index first) {
  const bool has_first = first >= 0 && first < simd::width<T>;
  return o.protect_first && has_first ? !simd::lanes_between<T>(first, first + 1)
                                      : simd::lanes_between<T>(0, simd::width<T>);
}

/// One register of keys, for rows that follow one another. What is subtracted and what is carried
/// are −F both, so that applying it is an addition.
template <class T>
struct Votes {
  /// Of one row.
  struct Down {
    Batch<T> penalty;  ///< −F of the row
    Batch<T> carry;    ///< −F of the next, unless it votes too
  };
  struct Up {
    Batch<T> score;  ///< ∂L/∂ the score that voted
    Batch<T> carry;  ///< ∂L/∂F as the row found it
  };

  const SelectOptions& options;
  Batch<T> place;     ///< positions of the keys, counted as the rows are
  Mask<T> on;         ///< keys that are voted on at all
  bool past = false;  ///< are all keys behind all rows?

  /// From what is carried into a row, and the row's scores.
  HEED_INLINE Down descend(const Batch<T>& carry, const Batch<T>& score, T row) const {
    const Batch<T> zero(T(0));
    const Batch<T> wish = options.relu
                              ? simd::max(score, zero)
                              : simd::select(score < Batch<T>(masked_below<T>), zero, score);
    const Batch<T> after = (options.accumulate ? carry : zero) - counted(wish, row);
    return {options.shift ? carry : after, after};
  }

  /// The adjoint: from ∂L/∂F carried out of the row, and ∂L/∂F(row, ·) of the row itself.
  HEED_INLINE Up ascend(const Batch<T>& carry, const Batch<T>& own, const Batch<T>& score,
                        T row) const {
    const Batch<T> zero(T(0));
    const Batch<T> least(options.relu ? T(0) : masked_below<T>);  // votes come from scores above it
    const Batch<T> both = carry + own;
    return {simd::select(score > least, counted(options.shift ? carry : both, row), zero),
            options.accumulate ? both
            : options.shift    ? own
                               : zero};
  }

 private:
  /// x where the row may vote, else 0.
  HEED_INLINE Batch<T> counted(const Batch<T>& x, T row) const {
    const Batch<T> zero(T(0)), counted = simd::select(on, x, zero);
    if (past) return counted;
    const Batch<T> reach(row + (options.forbid_self ? T(0) : T(1)));
    return simd::select(place < reach, counted, zero);
  }
};

}  // namespace detail
}  // namespace heed::inline HEED_ABI
