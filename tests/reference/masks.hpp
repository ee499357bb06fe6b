// SPDX-License-Identifier: MIT
/// @file
/// Masks: whether a query sees a key, one pair at a time.
#pragma once

#include "reference/array.hpp"

#include <cstdlib>
#include <functional>
#include <limits>
#include <vector>

namespace reference {

/// Row `row` of the call sits at `position`; keys are numbered by position. The row's own sequence
/// begins at key `first`.
struct Pair {
  Index batch, head, row, position, key, first = 0;
};

using Visible = std::function<bool(const Pair&)>;

/// Both: masks written one after the other. An empty one masks nothing.
inline Visible operator&&(Visible a, Visible b) {
  if (!a) return b;
  return [=](const Pair& p) { return a(p) && b(p); };
}

/// Keys up to the row's own position.
inline Visible causal() {
  return [](const Pair& p) { return p.key <= p.position; };
}

/// Row i sees keys j ≤ i + offset, whatever its position.
inline Visible causal_at(Index offset) {
  return [=](const Pair& p) { return p.key <= p.row + offset; };
}

/// At most `left` keys before the position and `right` after it.
inline Visible window(Index left, Index right) {
  return [=](const Pair& p) { return p.key >= p.position - left && p.key <= p.position + right; };
}

constexpr Index unbounded = std::numeric_limits<Index>::max() / 4;

/// Keys of the position's own block and of `previous` blocks on either side (arXiv:2310.12442).
inline Visible block_span(Index size, Index previous = 0) {
  return [=](const Pair& p) {
    return p.position >= p.first && p.key >= p.first &&
           std::abs((p.position - p.first) / size - (p.key - p.first) / size) <= previous;
  };
}

/// The first prefix[b] keys are visible to every row, the others causally.
inline Visible prefix_lm(std::vector<Index> prefix) {
  return [=](const Pair& p) {
    return p.key <= p.position || p.key < p.first + prefix[static_cast<std::size_t>(p.batch)];
  };
}

/// Only tokens of the same document: ids [B, N].
inline Visible documents(Array ids) {
  return [=](const Pair& p) { return ids(p.batch, p.position) == ids(p.batch, p.key); };
}

/// The first key of the document at a position.
inline std::function<Index(Index, Index)> first_of_document(Array ids) {
  return [=](Index batch, Index position) {
    Index first = position;
    while (first > 0 && ids(batch, first - 1) == ids(batch, position)) --first;
    return first;
  };
}

/// Keys j < length[b].
inline Visible key_lengths(std::vector<Index> length) {
  return [=](const Pair& p) { return p.key < length[static_cast<std::size_t>(p.batch)]; };
}

/// Positions < length[b]: padded rows see nothing.
inline Visible row_lengths(std::vector<Index> length) {
  return [=](const Pair& p) { return p.position < length[static_cast<std::size_t>(p.batch)]; };
}

/// Keys j ≥ start[b].
inline Visible key_starts(std::vector<Index> start) {
  return [=](const Pair& p) { return p.key >= start[static_cast<std::size_t>(p.batch)]; };
}

/// Positions ≥ start[b]: rows of padding see nothing.
inline Visible row_starts(std::vector<Index> start) {
  return [=](const Pair& p) { return p.position >= start[static_cast<std::size_t>(p.batch)]; };
}

/// mask [B, H, Nq, Nk], sizes of one repeat; nonzero is visible.
inline Visible boolean_mask(Array mask) {
  return [=](const Pair& p) { return mask.broadcast(p.batch, p.head, p.row, p.key) != 0; };
}

/// Key j is there for positions < evict_row[b, j].
inline Visible alive(Array evict_row) {
  return [=](const Pair& p) { return double(p.position) < evict_row(p.batch, p.key); };
}

}  // namespace reference
