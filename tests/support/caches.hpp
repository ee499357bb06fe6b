// SPDX-License-Identifier: MIT
/// @file
/// Sequences of a KvCache, and what a step of several of them takes.
#pragma once

#include "support/buffers.hpp"

#include <array>
#include <initializer_list>

namespace heed::test {

/// Two key heads, four query heads.
constexpr KvShape cache_shape{.batch = 1, .heads = 4, .key_heads = 2, .dim = 8, .value_dim = 8};

/// Slots of a small page: what widest registers have at least, so that tests mean the same for all.
template <class T>
inline constexpr Index small_page = std::max<Index>(KvPool<T>::slot_multiple, 16);

/// Numbers for B sequences of N rows.
template <class T>
Inputs<T> rows_for(Index batch, Index rows, std::uint64_t seed, const KvShape& s = cache_shape) {
  return inputs<T>({batch, s.heads, s.key_heads, rows, rows, s.dim, s.value_dim}, seed);
}

/// Of one element of a batch.
template <class T>
Tensor<T> batch_of(const Tensor<T>& x, Index b, Index rows) {
  return x.slice(Eigen::array<Index, 4>{b, 0, 0, 0},
                 Eigen::array<Index, 4>{1, x.dimension(1), rows, x.dimension(3)});
}
template <class T>
Inputs<T> batch_of(const Inputs<T>& in, Index b, Index rows) {
  return {batch_of(in.q, b, rows), batch_of(in.k, b, rows), batch_of(in.v, b, rows)};
}

/// The first counts[b] rows of each sequence b, one sequence after the other.
template <class T>
Packed<T> packed(const Inputs<T>& in, const std::vector<std::int64_t>& counts) {
  Packed<T> to;
  to.starts.push_back(0);
  for (const std::int64_t n : counts) to.starts.push_back(to.starts.back() + n);
  const auto pack = [&](const Tensor<T>& x) {
    Tensor<T, 3> rows(Index(to.starts.back()), x.dimension(1), x.dimension(3));
    for (std::size_t b = 0; b < counts.size(); ++b)
      for (Index i = 0; i < counts[b]; ++i)
        rows.chip(to.starts[b] + i, 0) = x.chip(Index(b), 0).chip(i, 1);
    return rows;
  };
  to.q = pack(in.q), to.k = pack(in.k), to.v = pack(in.v);
  return to;
}

/// One sequence takes these rows. Returns its answers.
template <class T>
Tensor<T> take(KvCache<T>& cache, KvSequence<T>& sequence, const Inputs<T>& in,
               const KvStep<T>& options = {}) {
  Tensor<T> out(1, in.q.dimension(1), in.q.dimension(2), in.v.dimension(3));
  out.setConstant(std::numeric_limits<T>::quiet_NaN());
  KvSequence<T>* const one[] = {&sequence};
  standard_step(cache, one, in, out, options);
  return out;
}
/// A sequence of `rows` random tokens.
template <class T>
KvSequence<T> filled(KvCache<T>& cache, Index rows, std::uint64_t seed) {
  KvSequence<T> sequence = cache.open();
  take(cache, sequence, rows_for<T>(1, rows, seed, cache.shape()));
  return sequence;
}

/// Positions that a key head holds.
template <class T>
std::vector<Index> held_positions(const KvSequence<T>& s, Index key_head = 0) {
  std::vector<Index> all;
  for (const auto& token : s.held(key_head)) all.push_back(token.position);
  return all;
}

/// All that a sequence remembers, as bytes: unlike a fork it shares no pages.
template <class T>
std::vector<std::byte> memory_of(const KvSequence<T>& s) {
  std::vector<std::byte> bytes;
  const auto add = [&](const void* from, std::size_t size) {
    const auto* const first = static_cast<const std::byte*>(from);
    bytes.insert(bytes.end(), first, first + size);
  };
  const auto add_all = [&](const auto& x) { add(x.data(), x.size() * sizeof x[0]); };
  const Index numbers[] = {s.next(), s.budget().value_or(-1), s.pages()};
  add(numbers, sizeof numbers);
  for (Index g = 0; g < s.shape().key_heads; ++g) {
    const KvSlots<T>& x = s.slots(g);
    const Index counts[] = {x.slots, x.count, x.first};
    add(counts, sizeof counts);
    add_all(x.position), add_all(x.free), add_all(x.carry), add_all(x.received_weight);
    add_all(x.marks), add_all(x.finite);
    for (const auto& page : x.pages) add(page.data(), s.pool().layout().bytes);
  }
  return bytes;
}

/// Pages that this many slots take.
inline Index pages_of(Index slots, Index page) {
  return (slots + page - 1) / page;
}

}  // namespace heed::test
