// SPDX-License-Identifier: MIT
/// @file
/// The call as stages see it: its sizes, where its rows sit, and where sequences begin.
#pragma once

#include "heed/core/check.hpp"
#include "heed/core/shape.hpp"

#include <algorithm>
#include <cstdint>

namespace heed::inline HEED_ABI {

/// One query row of one head.
struct Row {
  Index batch, head, index;
  Index position;   ///< among the keys, see Problem
  Index first_key;  ///< of the row's own sequence
};

/// Key j sits at position j of its batch entry. Row i sits at position(b, i). A batch entry holds
/// one sequence from position 0 on, unless a stage says that padding stands before it (starts) or
/// that it holds several (documents). The stages' place() hooks fill this in.
class Problem : public Shape {
 public:
  Problem() = default;
  explicit Problem(const Shape& shape) : Shape(shape) {}

  bool backward = false;        ///< Is this the backward pass?
  bool self_attention = false;  ///< Are queries and keys made of the same tokens?
  /// In check(), where a stage names its own, see detail::reads() and writes(); else null.
  heed::detail::CallTensors* tensors = nullptr;

  /// The position of a row.
  Index position(Index b, Index row) const { return first_position(b) + row; }
  /// The position of row 0: 0 unless a stage says another.
  Index first_position(Index b) const { return offsets_ ? Index(offsets_(b)) : offset_; }
  /// Did a stage say where the rows sit?
  bool has_query_offset() const { return has_offset_ || offsets_; }

  /// The first key of the sequence to which a position belongs.
  Index first_key(Index b, Index position) const {
    Index first = starts_ ? Index(starts_(b)) : 0;
    if (documents_ && 0 <= position && position < keys) {
      const std::int64_t* ids = documents_.row(b);
      first = std::max<Index>(first, std::lower_bound(ids, ids + keys, ids[position]) - ids);
    }
    return first;
  }
  /// A row of a head.
  Row row(Index b, Index head, Index index) const {
    const Index p = position(b, index);
    return {b, head, index, p, first_key(b, p)};
  }
  /// Does every batch entry hold one sequence, which begins at position 0?
  bool is_one_sequence() const { return !documents_ && !starts_; }

  /// Row 0 sits at this position. @throws ValueError if another stage says something else.
  void set_query_offset(Index offset) {
    if (offsets_) throw ValueError(one_offset_each);
    if (has_offset_ && offset_ != offset)
      throw ValueError("one stage puts row 0 at position ", offset_, ", another at ", offset);
    offset_ = offset, has_offset_ = true;
  }
  /// Row 0 of batch entry b sits at offsets[b].
  void set_query_offset(const View<const std::int64_t, 1>& offsets) {
    if (has_query_offset()) throw ValueError(one_offset_each);
    offsets_ = offsets;
  }
  /// The keys before starts[b] are padding.
  void set_starts(const View<const std::int64_t, 1>& starts) {
    if (starts_) throw ValueError("two stages say where sequences begin");
    starts_ = starts;
  }
  /// Positions of one id are one sequence, [B, Nk].
  void set_documents(const View<const std::int64_t, 2>& ids) {
    if (documents_) throw ValueError("two stages cut the batch entries into documents");
    documents_ = ids;
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
