// SPDX-License-Identifier: MIT
/// @file
/// How the selecting head's scores become votes, and votes become F: the options of SelectOptions
/// are implemented here and nowhere else.
#pragma once

#include "heed/score/stage.hpp"

namespace heed::inline HEED_ABI {

/// Options of selecting(). The defaults are the paper's.
struct SelectOptions {
  Index head = 0;             ///< The query head whose scores select; 0 … H − 1.
  bool relu = true;           ///< Votes are never negative: keys are masked, never boosted.
  bool protect_first = true;  ///< Token 0 of a sequence gets no votes.
  bool forbid_self = true;    ///< A token does not vote against itself.
  bool accumulate = true;     ///< F sums all earlier rows; false: only the last one.
  bool shift = true;          ///< A vote counts for later rows only; false: also its own row.
};

namespace detail {

/// Can F of a key never decrease from row to row?
inline bool f_never_falls(const SelectOptions& o) {
  return o.relu && o.accumulate;
}
/// As in the paper: F never decreases, and F of a row is known before its scores are.
inline bool votes_as_in_the_paper(const SelectOptions& o) {
  return f_never_falls(o) && o.shift;
}

/// Lanes of keys that may be voted against; position 0 is lane `first`, if within the register.
template <class T>
HEED_INLINE Mask<T> voted_on(const SelectOptions& o, Index first) {
  const bool has_first = first >= 0 && first < simd::width<T>;
  return o.protect_first && has_first ? !simd::lanes_between<T>(first, first + 1)
                                      : simd::lanes_between<T>(0, simd::width<T>);
}

/// The votes on one register of keys, row after row. Penalty and carry are −F, so that applying
/// them is an addition.
template <class T>
struct Votes {
  /// Results for one row.
  struct Down {
    Batch<T> penalty;  ///< −F of the row
    Batch<T> carry;    ///< −F of the next row, before its own vote
  };
  struct Up {
    Batch<T> score;  ///< ∂L/∂ the selecting score
    Batch<T> carry;  ///< ∂L/∂F before the row
  };

  const SelectOptions& options;
  Batch<T> place;     ///< positions of the keys, in the frame of the rows
  Mask<T> on;         ///< keys that may be voted against
  bool past = false;  ///< are all keys before all rows?

  /// Forward: takes the carry into a row and the row's scores.
  HEED_INLINE Down descend(const Batch<T>& carry, const Batch<T>& score, T row) const {
    const Batch<T> zero(T(0));
    const Batch<T> wish = options.relu
                              ? simd::max(score, zero)
                              : simd::select(score < Batch<T>(masked_below<T>), zero, score);
    const Batch<T> after = (options.accumulate ? carry : zero) - counted(wish, row);
    return {options.shift ? carry : after, after};
  }

  /// The adjoint: takes ∂L/∂ the carry out of the row and ∂L/∂F(row, ·) of the row itself.
  HEED_INLINE Up ascend(const Batch<T>& carry, const Batch<T>& own, const Batch<T>& score,
                        T row) const {
    const Batch<T> zero(T(0));
    const Batch<T> least(options.relu ? T(0) : masked_below<T>);  // lower scores cast no vote
    const Batch<T> both = carry + own;
    return {simd::select(score > least, counted(options.shift ? carry : both, row), zero),
            options.accumulate ? both
            : options.shift    ? own
                               : zero};
  }

 private:
  /// x where the row may vote against the key, else 0.
  HEED_INLINE Batch<T> counted(const Batch<T>& x, T row) const {
    const Batch<T> zero(T(0)), counted = simd::select(on, x, zero);
    if (past) return counted;
    const Batch<T> reach(row + (options.forbid_self ? T(0) : T(1)));
    return simd::select(place < reach, counted, zero);
  }
};

}  // namespace detail
}  // namespace heed::inline HEED_ABI
