// SPDX-License-Identifier: MIT
/// @file
/// The state of one sequence of a KvBuffer.
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

/// State of one sequence. Read-only for users: KvBuffer::sequence() returns it as const. To restore
/// a state, use a KvSnapshot.
///
/// Tokens are in slots, in arbitrary order. A later token reuses a freed slot; tokens never move.
/// Keys are packed in panels of `panel_keys` slots, the layout that the kernels read. Keys and
/// values are stored as S; see simd/codec/codec.hpp for units and scales.
template <class T, StorageOf<T> S = T>
struct KvSequence {
  static constexpr Index empty_slot = -1;
  static constexpr std::uint8_t bad_key = 1;       ///< In marks: the key holds NaN or infinity.
  static constexpr std::uint8_t is_protected = 2;  ///< In marks: in KvOptions::protect.

  Index next = 0;              ///< Position of the next token.
  Index slots = 0;             ///< Slots that are or were in use: 0 … slots − 1.
  Index count = 0;             ///< Tokens held.
  Index first = empty_slot;    ///< The slot of position 0, or `empty_slot`.
  double dropped = 0;          ///< Bound on a row's weight lost to evictions by score_bound.
  Vector<Index> position;      ///< [capacity] of each slot's token, or `empty_slot`.
  Vector<Index> free;          ///< Empty slots below `slots`.
  Vector<T> carry;             ///< [capacity] −F of the next row, in log2 units.
  Vector<T> received_weight;   ///< [capacity] weights received, if the rule needs them.
  Vector<std::uint8_t> marks;  ///< [capacity] bad_key and is_protected flags
  Vector<S> panels;            ///< [G][capacity / panel_keys][units of D][panel_keys]
  Vector<S> values;            ///< [G][capacity][units of columns]
  Vector<T> key_scales;    ///< [G][capacity / panel_keys][scales of D][panel_keys], if S has scales
  Vector<T> value_scales;  ///< [G][capacity][scales of Dv]
  Vector<std::uint8_t> finite;  ///< [G][key blocks] 1: every value ever in the block was finite

  KvSequence() = default;
  KvSequence(const KvSequence&) = default;
  KvSequence(KvSequence&&) = default;
  KvSequence& operator=(KvSequence&&) = default;
  /// Strong exception guarantee: unchanged if memory runs out.
  KvSequence& operator=(const KvSequence& o) { return *this = KvSequence(o); }

  Index capacity() const { return Index(position.size()); }
  /// F of the next row for the token in `slot`, in natural units.
  T f(Index slot) const { return -carry[std::size_t(slot)] * simd::ln2<T>; }
};

}  // namespace heed::inline HEED_ABI
