// SPDX-License-Identifier: MIT
/// @file
/// What buffers.hpp declares.
#pragma once

#include "support/buffers.hpp"

namespace heed::test {

template <class T>
WorkStats standard_step(KvBuffer<T>& buffer, const Inputs<T>& in, Tensor<T>& out,
                        const typename KvBuffer<T>::Step& options) {
  return buffer.step(in.q, in.k, in.v, standard, out, options);
}

template <class T>
WorkStats standard_step(KvCache<T>& cache, typename KvCache<T>::Sequences sequences,
                        const Inputs<T>& in, Tensor<T>& out, const KvStep<T>& options) {
  return cache.step(sequences, in.q, in.k, in.v, standard, out, options);
}
template <class T>
WorkStats standard_step(KvCache<T>& cache, typename KvCache<T>::Sequences sequences,
                        const Packed<T>& in, Tensor<T, 3>& out, const KvStep<T>& options) {
  const View<const std::int64_t, 1> starts(in.starts.data(), {Index(in.starts.size())});
  return cache.step_packed(sequences, starts, in.q, in.k, in.v, standard, out, options);
}
template <class T, class K>
WorkStats standard_step_of(KvCache<T>& cache, typename KvCache<T>::Sequences sequences,
                           const Tensor<T>& q, const K& k, const K& v, Tensor<T>& out) {
  return cache.step(sequences, q, k, v, standard, out);
}

template <class T>
reference::Pruned pruned_oracle(const Inputs<T>& in, const KvOptions& o) {
  const reference::Array q = array(in.q), k = array(in.k), v = array(in.v);
  const reference::Pruning p = pruning(o, q.dim(2));
  if (o.when != EvictWhen::chunk_end || o.chunk.value_or(1) == 1)
    return pruned_attention(q, k, v, p);
  reference::Pruned lazy = pruned_in_chunks(q, k, v, p, *o.chunk, true);
  if (p.selective) return lazy;
  // The oracle's chunks always select. Without selection the evictions are known, as a mask.
  reference::Attention a =
      oracle(in, seeing(reference::causal() && reference::alive(lazy.evict_row)));
  return {std::move(a.out), std::move(a.lse), std::move(lazy.evict_row),
          std::move(lazy.final_slots)};
}

/// The smallest gap between the claim of an evicted token and the next largest claim, relative to
/// it. If it is small, rounding decides, and both answers are correct. Two claims of zero are equal
/// in any precision.
template <class T>
double smallest_gap(const Inputs<T>& in, const KvOptions& o, const reference::Array& evict_row) {
  const reference::Array q = array(in.q), k = array(in.k), v = array(in.v);
  const Index N = q.dim(2);
  const reference::Pruning p = pruning(o, N);
  double smallest = std::numeric_limits<double>::infinity();
  if (p.evict == reference::Evict::oldest) return smallest;
  reference::Array claim({q.dim(0), N, N});  // F or −mass as row i finds it
  if (p.evict == reference::Evict::most_masked) {
    claim = votes(q, k, seeing(reference::causal()), {}).f;
  } else {
    const reference::Attention a =
        p.selective ? pruned_as_a_mask(q, k, v, evict_row)
                    : oracle(in, seeing(reference::causal() && reference::alive(evict_row)));
    for (Index b = 0; b < q.dim(0); ++b)
      for (Index i = 1; i < N; ++i)
        for (Index j = 0; j < N; ++j) {
          claim(b, i, j) = claim(b, i - 1, j);
          for (Index h = 0; h < q.dim(1); ++h) claim(b, i, j) -= a.weights(b, h, i - 1, j);
        }
  }
  for (Index b = 0; b < q.dim(0); ++b)
    for (Index gone = 0; gone < N; ++gone) {
      const Index row = Index(evict_row(b, gone)), judge = p.after ? row - 1 : row;
      if (row >= N) continue;
      const double most = claim(b, row, gone);
      for (Index j = 0; j <= judge - p.recent; ++j) {
        const bool may_go = std::count(p.protected_first.begin(), p.protected_first.end(), j) == 0;
        if (!may_go || evict_row(b, j) <= double(row)) continue;
        if (most == 0 && claim(b, row, j) == 0) continue;
        smallest = std::min(smallest, (most - claim(b, row, j)) / (1 + std::abs(most)));
      }
    }
  return smallest;
}

template <class T>
Decided<T> decided(const Shape& shape, const KvOptions& o, std::uint64_t seed) {
  for (;; seed += 1000) {
    Inputs<T> in = inputs<T>(shape, seed);
    reference::Pruned want = pruned_oracle(in, o);
    if (smallest_gap(in, o, want.evict_row) > 1e-5) return {std::move(in), std::move(want)};
  }
}

}  // namespace heed::test
