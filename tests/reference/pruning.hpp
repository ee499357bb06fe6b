// SPDX-License-Identifier: MIT
/// @file
/// Attention through a buffer of at most `budget` keys, token by token: the definition.
///
/// Each row appends its key, evicts keys while there are more than the budget, attends to the rest,
/// and votes. Eviction is decided before the row attends, from the votes or weights of earlier
/// rows, or afterwards, from its own too.
#pragma once

#include "reference/array.hpp"
#include "reference/attention.hpp"
#include "reference/selective.hpp"

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

namespace reference {

enum class Evict {
  most_masked,     // the largest F (arXiv:2410.02703)
  least_attended,  // the least weight received, all heads and rows together (H2O, arXiv:2306.14048)
  oldest           // a window, with sinks if the first positions are protected (arXiv:2309.17453)
};

struct Pruning {
  Index budget = 0;
  Evict evict = Evict::most_masked;
  bool after = false;                     // the row attends first, the buffer then shrinks
  bool selective = true;                  // F is subtracted; else plain causal attention
  std::vector<Index> protected_first{0};  // positions that never go
  Index recent = 1;                       // the last so many positions never go
};

/// One key of the buffer.
struct Slot {
  Index position;
  double carry = 0;  // F of the next row
  double mass = 0;   // Σ weights received
};

struct Pruned {
  Array out, lse;   // [B, H, N, Dv], [B, H, N]
  Array evict_row;  // [B, N]: key j is seen by rows < evict_row[j]; N if it never goes
  std::vector<std::vector<Slot>> final_slots;  // [B], in order of position
};

/// The slot to evict at row `current`; ties: the oldest. −1 if every key must stay.
inline Index eviction_candidate(const std::vector<Slot>& slots, Index current, const Pruning& p) {
  Index best = -1;
  const auto claim = [&](const Slot& s) {
    if (p.evict == Evict::most_masked) return s.carry;
    if (p.evict == Evict::least_attended) return -s.mass;
    return 0.0;
  };
  for (std::size_t s = 0; s < slots.size(); ++s) {
    const Index position = slots[s].position;
    const bool first = std::count(p.protected_first.begin(), p.protected_first.end(), position) > 0;
    if (first || position > current - p.recent) continue;
    if (best < 0 || claim(slots[s]) > claim(slots[static_cast<std::size_t>(best)])) best = Index(s);
  }
  return best;
}

/// Evicts keys until the budget is met or the rest must stay. They are masked from `row` on.
inline void shrink(std::vector<Slot>& slots, Index current, Index row, Index b, const Pruning& p,
                   Array& evict_row) {
  while (Index(slots.size()) > p.budget) {
    const Index evicted = eviction_candidate(slots, current, p);
    if (evicted < 0) return;
    evict_row(b, slots[static_cast<std::size_t>(evicted)].position) = double(row);
    slots.erase(slots.begin() + evicted);
  }
}

/// Token by token. Votes follow the paper's rules; q and k [B, H, N, D] and [B, G, N, D].
inline Pruned pruned_attention(const Array& q, const Array& k, const Array& v, const Pruning& p) {
  const Index B = q.dim(0), H = q.dim(1), N = q.dim(2), Dv = v.dim(3);
  Pruned r{Array({B, H, N, Dv}), Array({B, H, N}), Array({B, N}, double(N)), {}};
  for (Index b = 0; b < B; ++b) {
    std::vector<Slot> slots;
    for (Index i = 0; i < N; ++i) {
      slots.push_back({i});
      if (!p.after) shrink(slots, i, i, b, p, r.evict_row);
      Rules rules;
      rules.visible = [&](const Pair& pair) {
        return std::any_of(slots.begin(), slots.end(),
                           [&](const Slot& s) { return s.position == pair.key; });
      };
      const std::vector<double> selecting = score_row(q, k, rules, b, 0, i);
      for (Index h = 0; h < H; ++h) {
        std::vector<double> z = score_row(q, k, rules, b, h, i);
        if (p.selective)
          for (const Slot& s : slots) z[static_cast<std::size_t>(s.position)] -= s.carry;
        const Row row = finish_row(std::move(z), v, rules, b, h, H);
        r.lse(b, h, i) = row.lse;
        for (Index d = 0; d < Dv; ++d) r.out(b, h, i, d) = row.out[static_cast<std::size_t>(d)];
        for (Slot& s : slots) s.mass += row.weights[static_cast<std::size_t>(s.position)];
      }
      for (Slot& s : slots)
        s.carry += vote(selecting[static_cast<std::size_t>(s.position)], i, s.position, {});
      if (p.after) shrink(slots, i, i + 1, b, p, r.evict_row);
    }
    r.final_slots.push_back(std::move(slots));
  }
  return r;
}

/// The rows at which keys go, from F [B, N, N] of attention that prunes nothing: dropping keys does
/// not change the F of those that stay.
inline Array eviction_schedule(const Array& f, const Pruning& p) {
  const Index B = f.dim(0), N = f.dim(1);
  Array evict_row({B, N}, double(N));
  for (Index b = 0; b < B; ++b) {
    std::vector<Slot> slots;
    for (Index i = 0; i < N; ++i) {
      slots.push_back({i});
      for (Slot& s : slots) s.carry = f(b, i, s.position);
      shrink(slots, i, i, b, p, evict_row);
    }
  }
  return evict_row;
}

/// The same result as a mask over the whole: selective attention, keys alive until they go.
inline SelectiveAttention pruned_as_a_mask(const Array& q, const Array& k, const Array& v,
                                           const Array& evict_row) {
  Rules rules;
  rules.visible = causal();
  Votes heard = votes(q, k, rules, {});
  rules.visible = causal() && alive(evict_row);
  Attention a = every_row(q, k, v, [&](Index b, Index h, Index i) {
    return selective_row(q, k, v, rules, heard.f, b, h, i);
  });
  return {std::move(a), std::move(heard.f), std::move(heard.carry_out)};
}

/// Chunks of rows. Eager: the result of pruned_attention whatever the chunk. Lazy: keys go only at
/// the end of a chunk, after its rows have attended, so the result depends on the chunk.
inline Pruned pruned_in_chunks(const Array& q, const Array& k, const Array& v, const Pruning& p,
                               Index chunk, bool lazy) {
  const Index B = q.dim(0), H = q.dim(1), N = q.dim(2), Dv = v.dim(3);
  Pruned r{Array({B, H, N, Dv}), Array({B, H, N}), Array({B, N}, double(N)), {}};
  for (Index b = 0; b < B; ++b) {
    std::vector<Slot> slots;
    for (Index begin = 0; begin < N; begin += chunk) {
      const Index end = std::min(begin + chunk, N);
      Rules rules;  // Keys in the buffer as the chunk begins, and those of the chunk.
      std::vector<bool> known(static_cast<std::size_t>(N));
      for (const Slot& s : slots) known[static_cast<std::size_t>(s.position)] = true;
      for (Index j = begin; j < end; ++j) known[static_cast<std::size_t>(j)] = true;
      rules.visible = [&](const Pair& pair) {
        return pair.key <= pair.position && known[static_cast<std::size_t>(pair.key)];
      };

      // Head 0 first: F of every row, and the evictions.
      Array f({end - begin, N});
      for (Index i = begin; i < end; ++i) {
        slots.push_back({i});
        if (!lazy) shrink(slots, i, i, b, p, r.evict_row);
        const std::vector<double> z = score_row(q, k, rules, b, 0, i);
        for (Slot& s : slots) {
          f(i - begin, s.position) = s.carry;
          s.carry += vote(z[static_cast<std::size_t>(s.position)], i, s.position, {});
        }
      }

      // Then all rows and heads, under the mask.
      for (Index i = begin; i < end; ++i)
        for (Index h = 0; h < H; ++h) {
          std::vector<double> z = score_row(q, k, rules, b, h, i);
          for (Index j = 0; j < N; ++j)
            z[static_cast<std::size_t>(j)] = double(i) < r.evict_row(b, j)
                                                 ? z[static_cast<std::size_t>(j)] - f(i - begin, j)
                                                 : -infinity;
          const Row row = finish_row(std::move(z), v, rules, b, h, H);
          r.lse(b, h, i) = row.lse;
          for (Index d = 0; d < Dv; ++d) r.out(b, h, i, d) = row.out[static_cast<std::size_t>(d)];
        }
      if (lazy) shrink(slots, end - 1, end, b, p, r.evict_row);
    }
    r.final_slots.push_back(std::move(slots));
  }
  return r;
}

}  // namespace reference
