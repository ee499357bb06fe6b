// SPDX-License-Identifier: MIT
/// @file
/// Selective attention (Leviathan, Kalman, Matias, arXiv:2410.02703) written out densely:
///
///     R[i,j] = max(0, z[0,i,j]) for 0 < j < i, else 0        the vote of row i against key j
///     F[i,j] = carry_in[j] + Σ_{n<i} R[n,j]                  what row i hears of it
///     P_h    = softmax_j(z[h,i,j] − F[i,j])                  for every head
///     M[i]   = (i + 1) − Σ_{j≤i} min(F[i,j], τ) / τ          the keys row i still holds
///
/// z are the scores as they would enter the softmax; positions are absolute. A masked pair neither
/// attends nor votes.
#pragma once

#include "reference/array.hpp"
#include "reference/attention.hpp"

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

namespace reference {

/// As in the paper unless changed.
struct Selection {
  Index head = 0;
  bool relu = true;           // masking only, never boosting
  bool protect_first = true;  // position 0 cannot be masked
  bool forbid_self = true;    // a token does not mask itself
  bool accumulate = true;     // false: only the row before counts
  bool shift = true;          // false: a row hears its own vote
  Array carry_in;             // [B, Nk]
  Array sel_q, sel_k;         // [B, Nq, Ds], [B, Nk, Ds]: votes of their own, scale 1/√Ds
};

struct Votes {
  Array f, carry_out;  // [B, Nq, Nk], [B, Nk]
};

/// `first` is the first key of the sequence.
inline double vote(double z, Index position, Index key, const Selection& s, Index first = 0) {
  if (z == -infinity) return 0;
  if (s.forbid_self && key == position) return 0;
  if (s.protect_first && key == first) return 0;
  return s.relu ? std::max(z, 0.0) : z;
}

/// The logits that select, one row of them, −∞ where masked.
inline std::vector<double> selecting_row(const Array& q, const Array& k, const Rules& rules,
                                         const Selection& s, Index b, Index i) {
  std::vector<double> z = score_row(q, k, rules, b, s.head, i);
  if (s.sel_q.empty()) return z;
  const Index Ds = s.sel_q.dim(2);
  for (Index j = 0; j < k.dim(2); ++j) {
    double& x = z[static_cast<std::size_t>(j)];
    if (x == -infinity) continue;
    x = dot(s.sel_q.row(b, i), s.sel_k.row(b, j), Ds) / std::sqrt(double(Ds));
  }
  return z;
}

inline Votes votes(const Array& q, const Array& k, const Rules& rules, const Selection& s) {
  const Index B = q.dim(0), Nq = q.dim(2), Nk = k.dim(2);
  Votes result{Array({B, Nq, Nk}), s.carry_in.empty() ? Array({B, Nk}) : s.carry_in};
  Array& carry = result.carry_out;  // what the next row hears
  for (Index b = 0; b < B; ++b)
    for (Index i = 0; i < Nq; ++i) {
      const std::vector<double> z = selecting_row(q, k, rules, s, b, i);
      for (Index j = 0; j < Nk; ++j) {
        const double before = carry(b, j);
        const double own = vote(z[static_cast<std::size_t>(j)], rules.offset + i, j, s,
                                first_of(rules, b, rules.offset + i));
        carry(b, j) = s.accumulate ? before + own : own;
        result.f(b, i, j) = s.shift ? before : carry(b, j);
      }
    }
  return result;
}

inline Row selective_row(const Array& q, const Array& k, const Array& v, const Rules& rules,
                         const Array& f, Index b, Index h, Index i) {
  std::vector<double> z = score_row(q, k, rules, b, h, i);
  for (Index j = 0; j < k.dim(2); ++j) z[static_cast<std::size_t>(j)] -= f(b, i, j);
  return finish_row(std::move(z), v, rules, b, h, q.dim(1));
}

/// τ-clipped: how many keys of its sequence each row still holds. F [B, Nq, Nk], M [B, Nq].
inline Array memory_use(const Array& f, double tau = 1, Index offset = 0, const Rules& rules = {}) {
  Array m({f.dim(0), f.dim(1)});
  for (Index b = 0; b < f.dim(0); ++b)
    for (Index i = 0; i < f.dim(1); ++i) {
      const Index first = first_of(rules, b, offset + i);
      m(b, i) = double(std::max<Index>(offset + i + 1 - first, 0));
      for (Index j = first; j <= offset + i; ++j) m(b, i) -= std::min(f(b, i, j), tau) / tau;
    }
  return m;
}

struct SelectiveAttention : Attention {
  Array f, carry_out;
};

/// @param rules  its `visible` must mask the keys after each row.
inline SelectiveAttention selective_attention(const Array& q, const Array& k, const Array& v,
                                              const Rules& rules, const Selection& selection = {}) {
  Votes heard = votes(q, k, rules, selection);
  Attention a = every_row(q, k, v, [&](Index b, Index h, Index i) {
    return selective_row(q, k, v, rules, heard.f, b, h, i);
  });
  return {std::move(a), std::move(heard.f), std::move(heard.carry_out)};
}

/// Causal and nothing else: the paper.
inline SelectiveAttention selective_attention(const Array& q, const Array& k, const Array& v) {
  Rules rules;
  rules.visible = causal();
  return selective_attention(q, k, v, rules);
}

}  // namespace reference
