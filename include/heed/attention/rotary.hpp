// SPDX-License-Identifier: MIT
/// @file
/// Rotary position embedding.
#pragma once

#include "heed/core/check.hpp"
#include "heed/core/shape.hpp"
#include "heed/core/storage.hpp"
#include "heed/core/vector.hpp"
#include "heed/score/rotary_frequencies.hpp"
#include "heed/score/rotary_table.hpp"
#include "heed/score/rotary_turn.hpp"

#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstdlib>
#include <type_traits>

namespace heed::inline HEED_ABI {

/// How a head's elements are paired, how fast the pairs rotate, and the positions of the tokens. At
/// most one of `offset` (other than 0), `offsets` and `positions` is given.
struct RotaryOptions {
  using Pairs = RotaryPairs;
  static constexpr Pairs interleaved = Pairs::interleaved, half_split = Pairs::half_split;
  Pairs pairs = half_split;
  double base = 10000;   ///< Finite, above 0.
  Index dims = 0;        ///< Elements of a head that are rotated, the first ones; 0: all.
  Index offset = 0;      ///< Position of token 0; may be negative.
  double scale = 1;      ///< Positions are multiplied by it: 1 / 4 stretches the context fourfold.
  bool inverse = false;  ///< Rotate by −θ: the adjoint; also the inverse if m = 1.
  View<const std::int64_t, 2> positions{};  ///< [B, N] in place of offset + n; any order, any sign.
  View<const std::int64_t, 1> offsets{};    ///< [B] position of token 0 of each sequence.
  RotaryScaling scaling{};                  ///< For contexts longer than the one trained on.
};

/// Options of rotary() where cosines and sines are given. The members are those of RotaryOptions.
struct RotaryTurn {
  RotaryPairs pairs = RotaryPairs::half_split;
  Index offset = 0;
  bool inverse = false;
  View<const std::int64_t, 2> positions{};
  View<const std::int64_t, 1> offsets{};
};

namespace detail {

/// Throws unless x can be changed in place: rows contiguous, no number at two indices.
template <class T>
void expect_changeable(CallTensors& tensors, const View<T, 4>& x) {
  tensors.writes("x", x);
  expect_contiguous_rows("rotary: x", x);
}

/// The position of token n of sequence b.
class RotaryPositions {
 public:
  template <class Options, class T>
  RotaryPositions(const Options& options, const View<T, 4>& x, CallTensors& tensors)
      : offset_(options.offset), positions_(options.positions), offsets_(options.offsets) {
    if (int(offset_ != 0) + int(bool(positions_)) + int(bool(offsets_)) > 1)
      throw ValueError("rotary: positions, offsets and offset are given; one of them says it all");
    if (positions_)
      expect_dims("positions", positions_.dims(), {x.dim(0), x.dim(2)}, "one per token of x");
    if (offsets_) expect_dims("offsets", offsets_.dims(), {x.dim(0)}, "one per sequence of x");
    tensors.reads("positions", positions_);
    tensors.reads("offsets", offsets_);
    if (positions_) {
      for (Index b = 0; b < x.dim(0); ++b)
        for (Index n = 0; n < x.dim(2); ++n) range_.add(positions_(b, n));
    } else {
      for (Index b = 0; b < (offsets_ ? x.dim(0) : 1); ++b)
        range_.add_run(offsets_ ? offsets_(b) : offset_, x.dim(2));
    }
  }

  const PositionRange& range() const { return range_; }
  /// Do all sequences have the same positions?
  bool shared() const { return !positions_ && !offsets_; }
  std::int64_t operator()(Index b, Index n) const {
    return positions_ ? positions_(b, n) : (offsets_ ? offsets_(b) : offset_) + n;
  }

 private:
  std::int64_t offset_;
  View<const std::int64_t, 2> positions_;
  View<const std::int64_t, 1> offsets_;
  PositionRange range_;
};

/// Tokens per block. Their cosines and sines stay in the L1 cache while all heads are rotated.
inline constexpr Index rotary_block = 16;

/// Rotates every row of x.
///
/// @param row_of  row_of(b, n, r) returns the cosines and sines of token n of sequence b. They must
/// stay valid until the next call with the same r < rotary_block. It is called once per token for
/// all heads, and once for all sequences if they share positions.
template <RotaryPairs pairs, class C, class S, class RowOf>
void turn(const View<S, 4>& x, Index half, bool inverse, bool shared, RowOf&& row_of) {
  const C direction = inverse ? C(-1) : C(1);
  RotaryRow<C> rows[std::size_t(rotary_block)];
  for (Index start = 0; start < x.dim(2); start += rotary_block) {
    const Index count = std::min(rotary_block, x.dim(2) - start);
    for (Index b = 0; b < x.dim(0); ++b) {
      if (b == 0 || !shared)
        for (Index r = 0; r < count; ++r) rows[r] = row_of(b, start + r, r);
      for (Index h = 0; h < x.dim(1); ++h)
        for (Index r = 0; r < count; ++r)
          turn_row<pairs>(x.row(b, h, start + r), rows[r], half, direction);
    }
  }
}
template <class C, class S, class RowOf>
void turn(const View<S, 4>& x, Index half, RotaryPairs pairs, bool inverse, bool shared,
          RowOf&& row_of) {
  if (pairs == RotaryPairs::half_split)
    turn<RotaryPairs::half_split, C>(x, half, inverse, shared, row_of);
  else
    turn<RotaryPairs::interleaved, C>(x, half, inverse, shared, row_of);
}

/// The type in which elements of type S are rotated.
template <class S>
using TurnedIn = std::conditional_t<std::is_same_v<S, double>, double, float>;

/// Cosines and sines of one block of tokens, computed or converted for this call.
template <class C>
class RotaryBlock {
 public:
  explicit RotaryBlock(Index half)
      : half_(half), numbers_(std::size_t(2 * half * rotary_block), C(0)) {}

  C* cosine(Index r) { return numbers_.data() + 2 * r * half_; }
  C* sine(Index r) { return cosine(r) + half_; }
  RotaryRow<C> operator[](Index r) { return {cosine(r), sine(r)}; }

 private:
  Index half_;
  Vector<C> numbers_;
};

/// Rotates x by given cosines and sines: row_of(b, n) returns those of token n of sequence b.
template <class S, class U, class RowOf>
void turn_by_tables(const View<S, 4>& x, Index half, const RotaryTurn& turn_, bool shared,
                    RowOf&& row_of) {
  using C = TurnedIn<S>;
  if constexpr (std::is_same_v<U, C>) {
    turn<C>(x, half, turn_.pairs, turn_.inverse, shared,
            [&](Index b, Index n, Index) { return row_of(b, n); });
  } else {
    RotaryBlock<C> block(half);
    turn<C>(x, half, turn_.pairs, turn_.inverse, shared, [&](Index b, Index n, Index r) {
      const RotaryRow<U> row = row_of(b, n);
      for (Index i = 0; i < half; ++i)
        block.cosine(r)[i] = C(row.cosine[i]), block.sine(r)[i] = C(row.sine[i]);
      return block[r];
    });
  }
}

/// Throws unless cosines and sines have the same shape and fit x. Returns the number of pairs.
template <class S, class U, std::size_t Rank>
Index expect_tables(CallTensors& tensors, const View<S, 4>& x, const View<const U, Rank>& cosines,
                    const View<const U, Rank>& sines) {
  const Index half = cosines.dim(Rank - 1);
  tensors.reads("cosines", cosines);
  tensors.reads("sines", sines);
  expect_dims("sines", sines.dims(), cosines.dims(), "as cosines are");
  for (const auto* table : {&cosines, &sines})
    if (half > 1 && table->stride(Rank - 1) != 1)
      throw ShapeError("rotary: cosines or sines have stride ", table->stride(Rank - 1),
                       " along their last dimension, which must be contiguous");
  if (half > x.dim(3) / 2)
    throw ShapeError("rotary: cosines is ", cosines.dims(), " and x is ", x.dims(),
                     ": there are more cosines than a head has pairs");
  return half;
}

/// Rotates x by tables of which row r is for position first + r.
template <class S, class U>
void turn_by_positions(const View<S, 4>& x, const View<const U, 2>& cosines,
                       const View<const U, 2>& sines, std::int64_t first, const RotaryTurn& turn_) {
  CallTensors tensors;
  expect_changeable(tensors, x);
  const Index half = expect_tables(tensors, x, cosines, sines);
  const RotaryPositions positions(turn_, x, tensors);
  const PositionRange& range = positions.range();
  if (!range.empty() && (range.first < first || std::uint64_t(range.last) - std::uint64_t(first) >=
                                                    std::uint64_t(cosines.dim(0))))
    throw ValueError("rotary: positions are ", range.first, " to ", range.last,
                     ", the cosines are those of ", cosines.dim(0), " positions from ", first,
                     " on");
  if (x.size() == 0) return;
  turn_by_tables<S, U>(x, half, turn_, positions.shared(), [&](Index b, Index n) -> RotaryRow<U> {
    const Index p = positions(b, n) - first;
    return {cosines.row(p), sines.row(p)};
  });
}

/// Rotates x by tables with one row per token.
template <class S, class U>
void turn_by_tokens(const View<S, 4>& x, const View<const U, 3>& cosines,
                    const View<const U, 3>& sines, const RotaryTurn& turn_) {
  CallTensors tensors;
  expect_changeable(tensors, x);
  const Index half = expect_tables(tensors, x, cosines, sines);
  if (turn_.offset != 0 || turn_.offsets || turn_.positions)
    throw ValueError(
        "rotary: cosines have a row for each token; offset, offsets and positions say"
        " nothing more");
  const bool shared = cosines.dim(0) == 1;
  expect_dims("cosines", cosines.dims(), {shared ? 1 : x.dim(0), x.dim(2), half},
              "one row per token of x, of one sequence or of each");
  if (x.size() == 0) return;
  turn_by_tables<S, U>(x, half, turn_, shared, [&](Index b, Index n) -> RotaryRow<U> {
    const Index sequence = shared ? 0 : b;
    return {cosines.row(sequence, n), sines.row(sequence, n)};
  });
}

/// The types that x may be of.
template <class S>
inline constexpr bool turns =
    std::is_same_v<S, float> || std::is_same_v<S, double> || is_bfloat16<S> || is_binary16<S>;

}  // namespace detail

/// Rotary position embedding, in place. Rotates each pair of elements of x by an angle that grows
/// with the token's position p:
///
///     (a, b) ← m · (a cos θ − b sin θ, a sin θ + b cos θ),   θ = scale · p · f_i, pair i of d / 2
///
/// with f_i = base^(−2 i / d) and m = 1, unless options.scaling changes them. q_i · k_j then
/// depends on i − j alone. Apply it to q and k alike, before attention. arXiv:2104.09864
///
/// `inverse` negates the sine. That is the adjoint, which takes the gradient of the rotated tensor
/// to the gradient of x. It is also the inverse if m = 1; otherwise rotating there and back
/// multiplies x by m².
///
/// Angles, cosines and sines are computed in double, once per position for all heads, and for all
/// sequences too if they share positions. They depend on the position alone, bit for bit. x of
/// float or 16 bits is rotated in float, x of double in double; 16-bit results are rounded once, at
/// the end.
///
/// @param x_  [B, H, N, D], rows contiguous; float, double or 16 bits.
/// @throws ShapeError if positions are not [B, N] or offsets not [B], if the caller's own
/// frequencies are not d / 2, if rows of x are not contiguous, if elements of x overlap, or if
/// positions or offsets overlap x; ValueError if d is odd, negative or above D, if base is not
/// finite and above 0, if scale is not finite, if a parameter of the scaling is out of its domain,
/// if a position is beyond ±2^53, or if more than one of offset, offsets and positions is given.
/// Nothing was changed then.
/// @note 6 B H N d / 2 operations, and one pass over x in memory. Every 64th position and six
/// others cost a cosine and a sine per pair, any other position 4 products per pair. Memory for
/// about 80 rows of d doubles, for any N. A RotaryTable computes the angles once for q, k and all
/// layers.
template <TensorLike<4> X>
requires detail::turns<ScalarOf<X>>
void rotary(X&& x_, const RotaryOptions& options = {}) {
  using S = ScalarOf<X>;
  using C = detail::TurnedIn<S>;
  const View<S, 4> x(x_);
  detail::CallTensors tensors;
  detail::expect_changeable(tensors, x);
  const Index dims = options.dims == 0 ? x.dim(3) : options.dims;
  detail::expect_turning(dims);
  if (dims > x.dim(3))
    throw ValueError("rotary: ", dims, " of ", x.dim(3),
                     " numbers are to turn; they must be there");
  const detail::RotaryPositions positions(options, x, tensors);
  positions.range().expect_computable();
  detail::RotaryAngles angles(dims, {options.base, options.scale, options.scaling});
  if (x.size() == 0) return;
  detail::RotaryBlock<C> block(dims / 2);
  detail::turn<C>(x, dims / 2, options.pairs, options.inverse, positions.shared(),
                  [&](Index b, Index n, Index r) {
                    angles.write(positions(b, n), block.cosine(r), block.sine(r));
                    return block[r];
                  });
}

/// rotary() with the cosines and sines of a table; d = 2 · table.cosines().dim(1).
///
/// @throws also ValueError if a position is not in the table.
/// @note Allocates nothing if the table is of float and x of float or 16 bits, or both are of
/// double.
template <TensorLike<4> X, class U>
requires detail::turns<ScalarOf<X>>
void rotary(X&& x, const RotaryTable<U>& table, const RotaryTurn& turn = {}) {
  detail::turn_by_positions<ScalarOf<X>, U>(x, table.cosines(), table.sines(), table.first(), turn);
}

/// rotary() with the caller's own cosines and sines, which may include a factor. This is ONNX's
/// RotaryEmbedding: cos_cache and sin_cache are the tables, position_ids is `positions`,
/// `interleaved` is `pairs`.
///
/// @param cosines, sines  [positions, d / 2], row p for position p; or [B, N, d / 2] or
/// [1, N, d / 2], one row per token. Rows contiguous; float, double or 16 bits, both of one type,
/// converted to the type in which x is rotated. Only the first d elements of a head are rotated.
/// @throws also ShapeError if their shapes differ, do not fit x, or if they overlap x; ValueError
/// if a position is not in them, or if there is one row per token and positions are given.
template <TensorLike<4> X, class Cosines, class Sines>
requires detail::turns<ScalarOf<X>> &&
    ((TensorLike<Cosines, 2> && TensorLike<Sines, 2>) ||
     (TensorLike<Cosines, 3> && TensorLike<Sines, 3>)) void rotary(X&& x, const Cosines& cosines,
                                                                   const Sines& sines,
                                                                   const RotaryTurn& turn = {}) {
  using S = ScalarOf<X>;
  using U = ScalarOf<Cosines>;
  static_assert(std::is_same_v<U, ScalarOf<Sines>>, "heed: cosines and sines are of one type");
  static_assert(detail::turns<U>, "heed: cosines and sines are float, double or 16 bits");
  if constexpr (TensorLike<Cosines, 2>)
    detail::turn_by_positions<S, U>(x, cosines, sines, 0, turn);
  else
    detail::turn_by_tokens<S, U>(x, cosines, sines, turn);
}

}  // namespace heed::inline HEED_ABI
