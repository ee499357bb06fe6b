// SPDX-License-Identifier: MIT
/// @file
/// The call as stages see it: sizes, positions of rows, starts of sequences.
#pragma once

#include "heed/core/check.hpp"
#include "heed/core/shape.hpp"

#include <algorithm>
#include <cstdint>

namespace heed::inline HEED_ABI {

/// One query row of one head.
struct Row {
  Index batch, head, index;
  Index position;   ///< in units of keys, see Problem
  Index first_key;  ///< of the sequence that the row belongs to
};

/// Key j is at position j of its batch entry, row i at position(b, i). A batch entry holds one
/// sequence from position 0 on, unless a stage sets padding in front (starts) or several sequences
/// (documents). The place() hooks of stages fill this in.
class Problem : public Shape {
 public:
  Problem() = default;
  explicit Problem(const Shape& shape) : Shape(shape) {}

  bool backward = false;        ///< Is this the backward pass?
  bool self_attention = false;  ///< Are queries and keys of the same tokens?
  /// Set in check(), where a stage names its tensors by detail::reads() and writes(); else null.
  heed::detail::CallTensors* tensors = nullptr;

  /// The position of a row.
  Index position(Index b, Index row) const { return first_position(b) + row; }
  /// The position of row 0; 0 unless a stage sets another.
  Index first_position(Index b) const { return offsets_ ? Index(offsets_(b)) : offset_; }
  /// Did a stage set the position of row 0?
  bool has_query_offset() const { return has_offset_ || offsets_; }

  /// The first key of the sequence that a position belongs to.
  Index first_key(Index b, Index position) const {
    Index first = starts_ ? Index(starts_(b)) : 0;
    if (documents_ && 0 <= position && position < keys) {
      const std::int64_t* ids = documents_.row(b);
      first = std::max<Index>(first, std::lower_bound(ids, ids + keys, ids[position]) - ids);
    }
    return first;
  }
  /// A row of a head, with its position and the first key of its sequence.
  Row row(Index b, Index head, Index index) const {
    const Index p = position(b, index);
    return {b, head, index, p, first_key(b, p)};
  }
  /// Does each batch entry hold one sequence that begins at position 0?
  bool is_one_sequence() const { return !documents_ && !starts_; }

  /// Sets the position of row 0. @throws ValueError if another stage sets another one.
  void set_query_offset(Index offset) {
    if (offsets_) throw ValueError(one_offset_each);
    if (has_offset_ && offset_ != offset)
      throw ValueError("one stage puts row 0 at position ", offset_, ", another at ", offset);
    offset_ = offset, has_offset_ = true;
  }
  /// Sets the position of row 0 of each batch entry b to offsets[b]. @throws ValueError if another
  /// stage sets it.
  void set_query_offset(const View<const std::int64_t, 1>& offsets) {
    if (has_query_offset()) throw ValueError(one_offset_each);
    offsets_ = offsets;
  }
  /// Marks the keys before starts[b] as padding. @throws ValueError if another stage did.
  void set_starts(const View<const std::int64_t, 1>& starts) {
    if (starts_) throw ValueError("two stages say where sequences begin");
    starts_ = starts;
  }
  /// Makes positions of one id one sequence; ids is [B, Nk]. @throws ValueError if another stage
  /// did.
  void set_documents(const View<const std::int64_t, 2>& ids) {
    if (documents_) throw ValueError("two stages cut the batch entries into documents");
    documents_ = ids;
  }
  /// Puts row 0 where row `row` of another call sits, whose first key is key 0 of this one, and
  /// divides the keys into the same sequences. For a call that computes a part of the other.
  void set_part_of(const Problem& whole, Index row) {
    const Problem shape = *this;
    *this = whole;
    static_cast<Shape&>(*this) = shape;
    backward = shape.backward, tensors = shape.tensors;
    offsets_ = {}, offset_ = whole.offset_ + row, has_offset_ = true;
  }

 private:
  static constexpr const char* one_offset_each =
      "one stage puts row 0 of each batch entry at a position of its own, another stage elsewhere";

  Index offset_ = 0;
  bool has_offset_ = false;
  View<const std::int64_t, 1> offsets_, starts_;
  View<const std::int64_t, 2> documents_;
};

}  // namespace heed::inline HEED_ABI
