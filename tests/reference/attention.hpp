// SPDX-License-Identifier: MIT
/// @file
/// Scaled dot-product attention written out densely:
///
///     z[b,h,i,j] = cap(s · τq[b,h,i] τk[b,g,j] q[b,h,i] · k[b,g,j]) + bias(b,h,i,j), −∞ if masked
///     lse[b,h,i] = log(exp(sink[h]) + Σ_j exp(z[b,h,i,j]))
///     w[b,h,i,j] = exp(z[b,h,i,j] − lse[b,h,i])
///     out[b,h,i] = Σ_j w[b,h,i,j] τv[b,g,j] v[b,g,j]
///
/// with g = h / (H / G). A masked pair is never read. A row that sees no key is zero, and its
/// lse is −∞ (or the sink).
#pragma once

#include "reference/array.hpp"
#include "reference/masks.hpp"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <optional>
#include <utility>
#include <vector>

namespace reference {

constexpr double infinity = std::numeric_limits<double>::infinity();

/// Everything that may happen between q · k and the softmax. Left alone: nothing but 1/√D.
struct Rules {
  std::optional<double> scale;                       // 1/√D
  Index offset = 0;                                  // row i sits at position offset + i
  Array tau_q, tau_k, tau_v;                         // [B, heads or 1, N]
  std::optional<double> softcap;                     // c tanh(z / c)
  Array bias;                                        // [B, H, Nq, Nk], sizes of one repeat
  Array slopes;                                      // [H], ALiBi: slope · (key − position)
  std::function<double(double, const Pair&)> score;  // anything else, after the biases
  Visible visible;                                   // all
  std::function<Index(Index, Index)> first_key;      // of (batch, position): 0
  Array sinks;                                       // [H]
};

struct Attention {
  Array out, lse, weights;
};

inline Index key_head(Index head, Index heads, Index key_heads) {
  return head / (heads / key_heads);
}

/// The first key of the sequence to which a position belongs.
inline Index first_of(const Rules& rules, Index batch, Index position) {
  return rules.first_key ? rules.first_key(batch, position) : 0;
}

/// The pair (row i, key j).
inline Pair pair_of(const Rules& rules, Index b, Index h, Index i, Index j) {
  return {b, h, i, rules.offset + i, j, first_of(rules, b, rules.offset + i)};
}

/// The scores of one row, −∞ where masked.
inline std::vector<double> score_row(const Array& q, const Array& k, const Rules& rules, Index b,
                                     Index h, Index i) {
  const Index H = q.dim(1), D = q.dim(3), G = k.dim(1), Nk = k.dim(2);
  const Index g = key_head(h, H, G);
  const double scale = rules.scale.value_or(1 / std::sqrt(double(D)));
  std::vector<double> z(static_cast<std::size_t>(Nk), -infinity);
  for (Index j = 0; j < Nk; ++j) {
    const Pair pair = pair_of(rules, b, h, i, j);
    if (rules.visible && !rules.visible(pair)) continue;
    double bias = 0;
    if (!rules.bias.empty()) bias = rules.bias.broadcast(b, h, i, j);
    if (bias == -infinity) continue;
    double x = scale * dot(q.row(b, h, i), k.row(b, g, j), D);
    if (!rules.tau_q.empty()) x *= rules.tau_q.broadcast(b, h, i);
    if (!rules.tau_k.empty()) x *= rules.tau_k.broadcast(b, g, j);
    if (rules.softcap) x = *rules.softcap * std::tanh(x / *rules.softcap);
    x += bias;
    if (!rules.slopes.empty()) x += rules.slopes(h) * double(j - pair.position);
    if (rules.score) x = rules.score(x, pair);
    z[static_cast<std::size_t>(j)] = x;
  }
  return z;
}

/// Turns the scores of a row into weights; returns log(exp(sink) + Σ exp z).
inline double softmax(std::vector<double>& z, double sink = -infinity) {
  double largest = sink;
  for (const double x : z) largest = std::max(largest, x);
  if (largest == -infinity) {
    for (double& x : z) x = 0;
    return -infinity;
  }
  double sum = std::exp(sink - largest);
  for (double& x : z) sum += x = std::exp(x - largest);
  for (double& x : z) x /= sum;
  return largest + std::log(sum);
}

/// Σ_j w[j] τv[j] v[j] for one row; a key of no weight is not looked at.
inline std::vector<double> weighted_values(const std::vector<double>& w, const Array& v,
                                           const Array& tau_v, Index b, Index g) {
  std::vector<double> out(static_cast<std::size_t>(v.dim(3)));
  if (out.empty()) return out;
  for (Index j = 0; j < v.dim(2); ++j) {
    const double weight = w[static_cast<std::size_t>(j)];
    if (weight == 0) continue;
    const double tau = tau_v.empty() ? 1 : tau_v.broadcast(b, g, j);
    const double* value = v.row(b, g, j);
    for (std::size_t d = 0; d < out.size(); ++d) out[d] += weight * tau * value[d];
  }
  return out;
}

/// One row of attention, for sizes at which all of them would take too long.
struct Row {
  std::vector<double> out, weights;
  double lse;
};

inline Row finish_row(std::vector<double> z, const Array& v, const Rules& rules, Index b, Index h,
                      Index heads) {
  Row row;
  row.lse = softmax(z, rules.sinks.empty() ? -infinity : rules.sinks(h));
  row.out = weighted_values(z, v, rules.tau_v, b, key_head(h, heads, v.dim(1)));
  row.weights = std::move(z);
  return row;
}

inline Row attention_row(const Array& q, const Array& k, const Array& v, const Rules& rules,
                         Index b, Index h, Index i) {
  return finish_row(score_row(q, k, rules, b, h, i), v, rules, b, h, q.dim(1));
}

/// All rows of any such function row(b, h, i).
template <class RowOf>
Attention every_row(const Array& q, const Array& k, const Array& v, RowOf row_of) {
  const Index B = q.dim(0), H = q.dim(1), Nq = q.dim(2), Nk = k.dim(2), Dv = v.dim(3);
  Attention a{Array({B, H, Nq, Dv}), Array({B, H, Nq}), Array({B, H, Nq, Nk})};
  for (Index b = 0; b < B; ++b)
    for (Index h = 0; h < H; ++h)
      for (Index i = 0; i < Nq; ++i) {
        const Row row = row_of(b, h, i);
        a.lse(b, h, i) = row.lse;
        for (Index d = 0; d < Dv; ++d) a.out(b, h, i, d) = row.out[static_cast<std::size_t>(d)];
        for (Index j = 0; j < Nk; ++j)
          a.weights(b, h, i, j) = row.weights[static_cast<std::size_t>(j)];
      }
  return a;
}

inline Attention attention(const Array& q, const Array& k, const Array& v,
                           const Rules& rules = {}) {
  return every_row(
      q, k, v, [&](Index b, Index h, Index i) { return attention_row(q, k, v, rules, b, h, i); });
}

}  // namespace reference
