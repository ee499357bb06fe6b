// SPDX-License-Identifier: MIT
/// @file What a KvBuffer remembers of one sequence.
#pragma once

#include "heed/core/vector.hpp"
#include "heed/engine/blocking.hpp"
#include "heed/simd/codec/codecs.hpp"
#include "heed/simd/exp2.hpp"

namespace heed::inline HEED_ABI {

/// The sizes of one layer's buffer.
struct KvShape {
  Index batch = 1, heads = 1, key_heads = 1, dim = 1, value_dim = 1;
};

/// One sequence, to be read: a buffer shows it as const, and takes none back. What it takes back is
/// a KvSnapshot.
///
/// Tokens sit in slots, in no order; a slot that was freed is taken by a later token, and no other
/// token moves. Keys are packed in panels of `panel_keys` slots, the order the kernels read. Keys
/// and values are stored as S, see simd/codec/codec.hpp for units and scales.
template <class T, StorageOf<T> S = T>
struct KvSequence {
  static constexpr Index nobody = -1;
  static constexpr std::uint8_t bad_key = 1;     ///< In marks: the key holds a NaN or an infinity.
  static constexpr std::uint8_t never_goes = 2;  ///< In marks: KvOptions::protect names it.

  Index next = 0;              ///< Position of the next token.
  Index slots = 0;             ///< Slots in use or once used: 0 … slots − 1.
  Index count = 0;             ///< Tokens held.
  Index first = nobody;        ///< The slot of position 0.
  double dropped = 0;          ///< Weight a row may lose at most to those who went by score_bound.
  Vector<Index> position;      ///< [capacity] of each slot, or `nobody`.
  Vector<Index> free;          ///< Slots below `slots` that hold nobody.
  Vector<T> carry;             ///< [capacity] −F of the next row, in log2 units.
  Vector<T> mass;              ///< [capacity] weights received, where eviction asks for it.
  Vector<std::uint8_t> marks;  ///< [capacity] of each token, bad_key and never_goes
  Vector<S> panels;            ///< [G][capacity / panel_keys][units of D][panel_keys]
  Vector<S> values;            ///< [G][capacity][units of columns]
  Vector<T>
      key_scales;  ///< [G][capacity / panel_keys][scales of D][panel_keys], where S has scales
  Vector<T> value_scales;       ///< [G][capacity][scales of Dv]
  Vector<std::uint8_t> finite;  ///< [G][key blocks] were all values the block has held finite?

  KvSequence() = default;
  KvSequence(const KvSequence&) = default;
  KvSequence(KvSequence&&) = default;
  KvSequence& operator=(KvSequence&&) = default;
  /// All of it or, if memory is short, nothing.
  KvSequence& operator=(const KvSequence& o) { return *this = KvSequence(o); }

  Index capacity() const { return Index(position.size()); }
  /// F of the next row for the token in a slot, in natural units.
  T f(Index slot) const { return -carry[std::size_t(slot)] * simd::ln2<T>; }
};

}  // namespace heed::inline HEED_ABI
