// SPDX-License-Identifier: MIT
/// @file
/// The gradients of attention and selective attention written out densely. With ∂x short for
/// ∂L/∂x, and z, w, F as in attention.hpp and selective.hpp:
///
///     ∂w[h,i,j]  = ∂out[h,i] · τv[j] v[j],     ∂v[j] = Σ_h Σ_i w[h,i,j] τv[j] ∂out[h,i]
///     ∂z[h,i,j]  = w[h,i,j] (∂w[h,i,j] − ∂out[h,i] · out[h,i])
///     ∂F[i,j]    = −Σ_h ∂z[h,i,j],   less ∂M[i] / τ where F[i,j] < τ and j ≤ the position
///     ∂R[n,j]    = Σ_{i>n} ∂F[i,j] + ∂carry_out[j]
///     ∂z[0,n,j] += ∂R[n,j]           where the vote was counted, and z[0,n,j] > 0
///
/// and then by the chain rule through every step that made z of q · k.
#pragma once

#include "reference/array.hpp"
#include "reference/attention.hpp"
#include "reference/selective.hpp"
#include "reference/temperature.hpp"

#include <cmath>
#include <cstddef>
#include <functional>
#include <vector>

namespace reference {

/// What the gradients start from; an empty array is none.
struct Cotangents {
  Array out;        // [B, H, Nq, Dv]
  Array lse;        // [B, H, Nq]
  Array carry_out;  // [B, Nk]
  Array memory;     // [B, Nq]
  double memory_tau = 1;
  std::function<double(double, const Pair&)> score_slope;  // derivative of Rules::score, if any
};

/// Of everything that went in; empty where nothing did.
struct Gradients {
  Array q, k, v;
  Array tau_q, tau_k, tau_v, bias, slopes, sinks;  // of the dimensions they have in Rules
  Array carry_in, sel_q, sel_k;
  Array f;  // [B, Nq, Nk], of selective attention
};

namespace detail {

inline Array zeros_like(const Array& x) {
  return x.empty() ? Array() : Array(x.dims);
}

/// Σ_d x[d] y[d] of two rows.
inline double dot(const Array& x, Index bx, Index hx, Index i, const Array& y, Index by, Index hy,
                  Index j) {
  double sum = 0;
  for (Index d = 0; d < x.dim(3); ++d) sum += x(bx, hx, i, d) * y(by, hy, j, d);
  return sum;
}

/// The entry of x that repeats where its sizes are one.
template <class... I>
double& repeated(Array& x, I... index) {
  Index at = 0;
  std::size_t axis = 0;
  const auto step = [&](Index i) {
    const Index size = x.dims[axis++];
    at = at * size + (size == 1 ? 0 : i);
  };
  (step(static_cast<Index>(index)), ...);
  return x.values[static_cast<std::size_t>(at)];
}

/// From ∂z of a visible pair to q, k and all that stood between.
inline void through_the_score(const Array& q, const Array& k, const Rules& rules,
                              const Cotangents& given, const Pair& pair, double grad,
                              Gradients& to) {
  const Index b = pair.batch, h = pair.head, i = pair.row, position = pair.position, j = pair.key;
  const Index g = key_head(h, q.dim(1), k.dim(1));
  const double scale = rules.scale.value_or(1 / std::sqrt(double(q.dim(3))));
  const double tau_q = rules.tau_q.empty() ? 1 : rules.tau_q.broadcast(b, h, i);
  const double tau_k = rules.tau_k.empty() ? 1 : rules.tau_k.broadcast(b, g, j);
  const double product = scale * dot(q, b, h, i, k, b, g, j);
  const double raw = product * tau_q * tau_k;
  const double distance = double(j - position);
  if (rules.score) {
    double s = rules.softcap ? *rules.softcap * std::tanh(raw / *rules.softcap) : raw;
    if (!rules.bias.empty()) s += rules.bias.broadcast(b, h, i, j);
    if (!rules.slopes.empty()) s += rules.slopes(h) * distance;
    grad *= given.score_slope(s, pair);
  }
  if (!rules.slopes.empty()) to.slopes(h) += grad * distance;
  if (!rules.bias.empty()) repeated(to.bias, b, h, i, j) += grad;
  if (rules.softcap) {
    const double t = std::tanh(raw / *rules.softcap);
    grad *= 1 - t * t;
  }
  if (!rules.tau_q.empty()) repeated(to.tau_q, b, h, i) += grad * product * tau_k;
  if (!rules.tau_k.empty()) repeated(to.tau_k, b, g, j) += grad * product * tau_q;
  for (Index d = 0; d < q.dim(3); ++d) {
    to.q(b, h, i, d) += grad * scale * tau_q * tau_k * k(b, g, j, d);
    to.k(b, g, j, d) += grad * scale * tau_q * tau_k * q(b, h, i, d);
  }
}

/// ∂z of one row under the softmax alone; gathers ∂v, ∂τv and ∂sink.
inline std::vector<double> row_of_score_gradients(const Array& q, const Array& v,
                                                  const Rules& rules, const Cotangents& given,
                                                  std::vector<double> z, Index b, Index h, Index i,
                                                  Gradients& to) {
  const Array& grad_out = given.out;
  const Index g = key_head(h, q.dim(1), v.dim(1));
  std::vector<bool> seen;
  for (const double x : z) seen.push_back(x != -infinity);
  const double sink = rules.sinks.empty() ? -infinity : rules.sinks(h);
  const double lse = softmax(z, sink);
  std::vector<double> grad(z.size());
  double mean = 0;
  for (Index j = 0; j < v.dim(2); ++j) {
    const std::size_t at = static_cast<std::size_t>(j);
    if (!seen[at]) continue;
    const double tau = rules.tau_v.empty() ? 1 : rules.tau_v.broadcast(b, g, j);
    const double product = dot(grad_out, b, h, i, v, b, g, j);
    if (!rules.tau_v.empty()) repeated(to.tau_v, b, g, j) += z[at] * product;
    for (Index d = 0; d < v.dim(3); ++d) to.v(b, g, j, d) += z[at] * tau * grad_out(b, h, i, d);
    grad[at] = tau * product;
    mean += z[at] * grad[at];
  }
  if (!given.lse.empty()) mean -= given.lse(b, h, i);  // ∂lse/∂z = w
  for (std::size_t at = 0; at < z.size(); ++at) grad[at] = seen[at] ? z[at] * (grad[at] - mean) : 0;
  if (!rules.sinks.empty() && lse != -infinity) to.sinks(h) -= std::exp(sink - lse) * mean;
  return grad;
}

/// The votes' share, rows from the last to the first. `scores` are those that selected, ∂F in
/// `to.f`; calls add(i, j, ∂ score).
template <class Add>
void through_the_votes(const Selection& s, const Array& scores, const Rules& rules,
                       const Cotangents& given, Index b, Gradients& to, Add&& add) {
  const Index rows = to.f.dim(1), keys = to.f.dim(2);
  for (Index j = 0; j < keys; ++j) {
    double below =
        given.carry_out.empty() ? 0 : given.carry_out(b, j);  // ∂ what the next row hears
    for (Index i = rows; i-- > 0;) {
      const double own = to.f(b, i, j), vote = s.shift ? below : below + own;
      const bool counts = !(s.forbid_self && j == rules.offset + i) &&
                          !(s.protect_first && j == first_of(rules, b, rules.offset + i));
      const double z = scores(b, i, j);
      if (z != -infinity && counts && (!s.relu || z > 0)) add(i, j, vote);
      below = (s.accumulate ? vote : 0) + (s.shift ? own : 0);
    }
    if (!s.carry_in.empty()) to.carry_in(b, j) = below;
  }
}

inline Gradients empty_gradients(const Array& q, const Array& k, const Array& v,
                                 const Rules& rules) {
  Gradients to;
  to.q = Array(q.dims), to.k = Array(k.dims), to.v = Array(v.dims);
  to.tau_q = zeros_like(rules.tau_q), to.tau_k = zeros_like(rules.tau_k);
  to.tau_v = zeros_like(rules.tau_v), to.bias = zeros_like(rules.bias);
  to.slopes = zeros_like(rules.slopes), to.sinks = zeros_like(rules.sinks);
  return to;
}

}  // namespace detail

inline Gradients attention_backward(const Array& q, const Array& k, const Array& v,
                                    const Rules& rules, const Cotangents& given) {
  Gradients to = detail::empty_gradients(q, k, v, rules);
  for (Index b = 0; b < q.dim(0); ++b)
    for (Index h = 0; h < q.dim(1); ++h)
      for (Index i = 0; i < q.dim(2); ++i) {
        const std::vector<double> z = score_row(q, k, rules, b, h, i);
        const std::vector<double> grad =
            detail::row_of_score_gradients(q, v, rules, given, z, b, h, i, to);
        for (Index j = 0; j < k.dim(2); ++j)
          if (const std::size_t at = static_cast<std::size_t>(j); z[at] != -infinity)
            detail::through_the_score(q, k, rules, given, pair_of(rules, b, h, i, j), grad[at], to);
      }
  return to;
}

inline Gradients selective_backward(const Array& q, const Array& k, const Array& v,
                                    const Rules& rules, const Selection& s,
                                    const Cotangents& given) {
  const Index B = q.dim(0), H = q.dim(1), Nq = q.dim(2), Nk = k.dim(2);
  Gradients to = detail::empty_gradients(q, k, v, rules);
  to.carry_in = detail::zeros_like(s.carry_in);
  to.sel_q = detail::zeros_like(s.sel_q), to.sel_k = detail::zeros_like(s.sel_k);
  to.f = Array({B, Nq, Nk});
  const Array f = votes(q, k, rules, s).f;

  Array scores({B, Nq, Nk}), grad_z({B, H, Nq, Nk});
  for (Index b = 0; b < B; ++b)
    for (Index i = 0; i < Nq; ++i) {
      const std::vector<double> selecting = selecting_row(q, k, rules, s, b, i);
      for (Index j = 0; j < Nk; ++j) scores(b, i, j) = selecting[static_cast<std::size_t>(j)];
      for (Index h = 0; h < H; ++h) {
        std::vector<double> z = score_row(q, k, rules, b, h, i);
        for (Index j = 0; j < Nk; ++j) z[static_cast<std::size_t>(j)] -= f(b, i, j);
        const std::vector<double> grad =
            detail::row_of_score_gradients(q, v, rules, given, z, b, h, i, to);
        for (Index j = 0; j < Nk; ++j) {
          grad_z(b, h, i, j) = grad[static_cast<std::size_t>(j)];
          to.f(b, i, j) -= grad_z(b, h, i, j);
        }
      }
      for (Index j = first_of(rules, b, rules.offset + i);
           j <= rules.offset + i && !given.memory.empty(); ++j)
        if (f(b, i, j) < given.memory_tau) to.f(b, i, j) -= given.memory(b, i) / given.memory_tau;
    }

  for (Index b = 0; b < B; ++b) {
    const double scale = s.sel_q.empty() ? 0 : 1 / std::sqrt(double(s.sel_q.dim(2)));
    detail::through_the_votes(s, scores, rules, given, b, to, [&](Index i, Index j, double grad) {
      if (s.sel_q.empty()) {
        grad_z(b, s.head, i, j) += grad;
        return;
      }
      for (Index d = 0; d < s.sel_q.dim(2); ++d) {
        to.sel_q(b, i, d) += grad * scale * s.sel_k(b, j, d);
        to.sel_k(b, j, d) += grad * scale * s.sel_q(b, i, d);
      }
    });
    for (Index h = 0; h < H; ++h)
      for (Index i = 0; i < Nq; ++i) {
        const std::vector<double> z = score_row(q, k, rules, b, h, i);
        for (Index j = 0; j < Nk; ++j)
          if (z[static_cast<std::size_t>(j)] != -infinity)
            detail::through_the_score(q, k, rules, given, pair_of(rules, b, h, i, j),
                                      grad_z(b, h, i, j), to);
      }
  }
  return to;
}

// ---- the temperatures' own parameters

struct TemperatureGradients {
  Array f;
  double alpha = 0;
};

/// g′(α).
inline double gain_slope(Gain kind, double alpha) {
  const double g = gain(kind, alpha);
  switch (kind) {
    case Gain::sigmoid:
      return g * (1 - g);
    case Gain::gompertz:
      return -std::exp(alpha) * g;
    case Gain::linear:
      return 1;
    case Gain::none:
      break;
  }
  return 0;
}

/// From ∂τ [B, heads, N] to ∂f and ∂α.
inline TemperatureGradients temperatures_backward(const Array& f, Gain kind, double alpha,
                                                  const Array& grad_tau, Index offset = 0) {
  TemperatureGradients to{Array(grad_tau.dims), 0};
  for (Index b = 0; b < grad_tau.dim(0); ++b)
    for (Index h = 0; h < grad_tau.dim(1); ++h)
      for (Index i = 0; i < grad_tau.dim(2); ++i) {
        const double grad = grad_tau(b, h, i), t = f.empty() ? 0 : std::tanh(f(b, h, i));
        to.f(b, h, i) = grad * (1 - t * t);
        to.alpha += gain_slope(kind, alpha) * grad * std::log(double(offset + i + 1));
      }
  return to;
}

}  // namespace reference
