// SPDX-License-Identifier: MIT
/// @file
/// A chunk of rows on a part of the keys: what each call of the kernels computes.
#pragma once

#include "heed/distributed/rank_call.hpp"

#include <cstdint>

namespace heed::inline HEED_ABI::distributed::detail {

/// Keys first … first + count − 1 of a list of ascending positions, as one chunk takes them.
template <class T>
struct KeyPart {
  Index first, count;
  SeenKeys seen;
  Array<T, 2> f;                          ///< [B, count] F of the first row
  Array<std::uint8_t, 2> protected_keys;  ///< [B, count] 1 where a key gets no votes

  /// The scan of a call on this part. The selecting head is options.head of the call.
  SelectiveWith<T> scan(const SelectOptions& options) const {
    return SelectiveWith<T>{{}, options, {}}.carry_in(f.view()).protected_keys(
        protected_keys.view());
  }
};

/// Calls visit(part) for the parts of a list of keys that rows of this rank take together. Keys
/// before the chunk may have gaps: they form one part, unless a stage reads distances. Keys of
/// the chunk itself, and later ones, are consecutive in each part.
///
/// @param f  [B, N] F of the first row of the chunk.
template <class T, Stage V, class Visit>
void each_key_part(const RankCall<T, V>& call, const View<const T, 2>& f, const Chunk& chunk,
                   Index head, const Vector<Index>& positions, Visit&& visit) {
  constexpr bool gaps =
      hook::reads<BoundOf<T, decltype(chosen<ThatScore<T>>(std::declval<const V&>()))>> <=
      Reads::score;
  const auto at = [&](Index i) { return positions[std::size_t(i)]; };
  const Index end = Index(positions.size());
  for (Index i = 0; i < end;) {
    const Index first = i, start = at(first),
                border = start < chunk.first  ? chunk.first
                         : start < chunk.last ? chunk.last
                                              : call.whole().keys;
    const bool may_have_gaps = gaps && start < chunk.first;
    for (++i; i < end && at(i) < border && (may_have_gaps || at(i) == at(i - 1) + 1);) ++i;
    KeyPart<T> part{first, i - first, call.seen(chunk, head), {}, {}};
    if (may_have_gaps) {
      part.seen.positions = positions.data() + first;
      part.seen.offset = part.count;  // after all keys of the part
    } else {
      part.seen.first = start;
      part.seen.offset = chunk.first - start;
    }
    if (call.selection().active) {
      const Index batch = call.shape().batch;
      part.f = Array<T, 2>({batch, part.count});
      part.protected_keys = Array<std::uint8_t, 2>({batch, part.count});
      for (Index b = 0; b < batch; ++b)
        for (Index j = 0; j < part.count; ++j) {
          const Index p = at(first + j);
          part.f.view()(b, j) = f(b, p);
          part.protected_keys.view()(b, j) = call.whole().first_key(b, p) == p;
        }
    }
    visit(std::as_const(part));
  }
}

}  // namespace heed::inline HEED_ABI::distributed::detail
