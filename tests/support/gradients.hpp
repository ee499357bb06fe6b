// SPDX-License-Identifier: MIT
/// @file
/// Any mixture of stages there and back again, for the library and for the oracle. Compiled
/// once, in gradients_float.cpp and gradients_double.cpp: every type of variant costs seconds.
#pragma once

#include "heed/engine/backward.hpp"
#include "heed/score/selective.hpp"
#include "heed/score/temperatures.hpp"
#include "heed/score/window.hpp"
#include "reference/backward.hpp"
#include "support/calls.hpp"

#include <cmath>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace heed::test {

/// Of everything that went in.
template <class T>
struct Gradients {
  Tensor<T> q, k, v;
  Tensor<T, 3> tau_q, tau_k, tau_v;
  double alpha = 0;
  Tensor<T> bias;
  Tensor<T, 1> slopes, sinks;
  Tensor<T, 2> carry_in;
  Tensor<T, 3> sel_q, sel_k;
  WorkStats visited;
};

/// The tensors of two sets of gradients, pair by pair with a name: each(name, of a, of b).
template <class A, class B, class Each>
void each_gradient(A& a, B& b, Each&& each) {
  each("q", a.q, b.q), each("k", a.k, b.k), each("v", a.v, b.v);
  each("tau_q", a.tau_q, b.tau_q), each("tau_k", a.tau_k, b.tau_k);
  each("tau_v", a.tau_v, b.tau_v), each("bias", a.bias, b.bias);
  each("slopes", a.slopes, b.slopes), each("sinks", a.sinks, b.sinks);
  each("carry_in", a.carry_in, b.carry_in);
  each("sel_q", a.sel_q, b.sel_q), each("sel_k", a.sel_k, b.sel_k);
}

/// What comes out of the way there, beside the attention.
template <class T>
struct Mixed : Outputs<T> {
  Tensor<T, 2> carry, memory;  ///< if something selects
};

/// What stands between q · k and the softmax; what is empty or left at its default is not there.
template <class T>
struct Mixture {
  Index offset = 0;
  std::optional<Gain> position;
  Tensor<T, 3> tau_q, tau_k, tau_v;
  std::optional<double> scale;
  double cap = 0;
  Tensor<T> bias;
  Tensor<T, 1> slopes, sinks;
  bool curved = false;  ///< a score_rule of the caller's: s + s² / 8

  bool causal = false;
  Index left = unbounded, right = unbounded;  ///< of a window
  Index block = 0, previous = 0;
  Index prefix = -1;  ///< in place of causal
  Tensor<std::int64_t, 2> documents, evict_row;
  Tensor<std::int64_t, 1> length, start;
  Tensor<bool> mask;

  bool selects = false;
  SelectOptions select;
  Tensor<T, 2> carry_in;
  Tensor<T, 3> sel_q, sel_k;

  double dropped = 0;  ///< a share of the weights, which only the library knows

  // What else the loss depends on.
  Tensor<T, 2> grad_carry_out, grad_memory;
  Tensor<T, 3> grad_lse;
  double memory_tau = 1;

  Mixed<T> attend(const Inputs<T>& in, const Options& options = {}) const;
  /// From these tensors to those, and to the stages' own in `stages`. Some mixtures are compiled as
  /// variants of their own, in the library's blocks; all can run `in_tiny_blocks`, of three rows by
  /// three registers of keys, and the rest do.
  void backward(const heed::detail::BackwardTensors<T>& tensors, Gradients<T>& stages,
                const Options& options = {}, bool in_tiny_blocks = false) const;
  /// What it leaves unwritten is NaN.
  Gradients<T> backward(const Inputs<T>& in, const Outputs<T>& known, const Tensor<T>& grad_out,
                        const Options& options = {}, bool in_tiny_blocks = false) const {
    Gradients<T> to = unwritten(in);
    heed::detail::BackwardTensors<T> tensors{in.q,      in.k, in.v, known.out, grad_out,
                                             known.lse, to.q, to.k, to.v};
    if (grad_lse.size() > 0) tensors.grad_lse = grad_lse;
    backward(tensors, to, options, in_tiny_blocks);
    return to;
  }
  /// Tensors of the dimensions of what goes in, all NaN.
  Gradients<T> unwritten(const Inputs<T>& in) const;

  // The same, for the oracle.
  reference::Rules rules(Index batch, Index queries) const;
  reference::Selection selection() const;
  reference::Cotangents cotangents(const Tensor<T>& grad_out) const;
};

extern template struct Mixture<float>;
extern template struct Mixture<double>;

template <class T>
Mixed<T> attend(const Inputs<T>& in, const Mixture<T>& mixture, const Options& options = {}) {
  return mixture.attend(in, options);
}

/// There and back.
template <class T>
Gradients<T> gradients(const Inputs<T>& in, const Mixture<T>& mixture, const Tensor<T>& grad_out,
                       const Options& options = {}) {
  return mixture.backward(in, mixture.attend(in), grad_out, options);
}

// ---- the oracle's

struct OracleGradients : reference::Gradients {
  double alpha = 0, alpha_terms = 1;  ///< Σ of terms that may cancel, and Σ of their magnitudes
};

template <class T>
OracleGradients oracle_gradients(const Inputs<T>& in, const Mixture<T>& m,
                                 const Tensor<T>& grad_out) {
  const reference::Array q = array(in.q), k = array(in.k), v = array(in.v);
  const reference::Rules rules = m.rules(q.dim(0), q.dim(2));
  OracleGradients to;
  static_cast<reference::Gradients&>(to) =
      m.selects ? selective_backward(q, k, v, rules, m.selection(), m.cotangents(grad_out))
                : attention_backward(q, k, v, rules, m.cotangents(grad_out));
  if (!m.position) return to;
  // Rules know the product of both temperatures of the queries.
  for (Index b = 0; b < to.tau_q.dim(0); ++b)
    for (Index h = 0; h < to.tau_q.dim(1); ++h)
      for (Index i = 0; i < to.tau_q.dim(2); ++i) {
        const double own = m.tau_q.size() > 0 ? double(m.tau_q(b, h, i)) : 1;
        const Index place = std::max<Index>(m.offset + i - first_of(rules, b, m.offset + i), 0);
        const double term =
            to.tau_q(b, h, i) * own * m.position->slope() * std::log(double(place + 1));
        to.alpha += term;
        to.alpha_terms += std::abs(term);
        to.tau_q(b, h, i) *= rules.tau_q(b, h, i) / own;
      }
  return to;
}

template <class T>
void expect_close(const Gradients<T>& got, const OracleGradients& want) {
  each_gradient(got, want, [](const char* name, const auto& x, const reference::Array& y) {
    if (x.size() == 0) return;
    // A slope's gradient sums over all pairs, of either sign.
    const double allowed = std::string(name) == "slopes" ? 4 * tolerance<T> : tolerance<T>;
    EXPECT_TRUE(close(x, y, allowed)) << "gradient of " << name;
  });
  EXPECT_NEAR(got.alpha, want.alpha, tolerance<T> * want.alpha_terms) << "gradient of alpha";
}

template <class T>
void expect_close(const Gradients<T>& a, const Gradients<T>& b) {
  each_gradient(a, b, [](const char* name, const auto& x, const auto& y) {
    EXPECT_TRUE(close(x, y)) << "gradient of " << name;
  });
}

template <class T>
void expect_same_bits(const Gradients<T>& a, const Gradients<T>& b) {
  each_gradient(a, b, [](const char* name, const auto& x, const auto& y) {
    EXPECT_TRUE(same_bits(x, y)) << "gradient of " << name;
  });
  EXPECT_EQ(a.alpha, b.alpha);
}

/// A gradient of the output, as if by chance.
template <class T>
Tensor<T> cotangent(const Inputs<T>& in, std::uint64_t seed) {
  return normal<T>(seed, in.q.dimension(0), in.q.dimension(1), in.q.dimension(2),
                   in.v.dimension(3));
}

/// Library and oracle agree.
template <class T>
void expect_oracle_gradients(const Inputs<T>& in, const Mixture<T>& mixture, std::uint64_t seed) {
  const Tensor<T> grad_out = cotangent(in, seed);
  expect_close(gradients(in, mixture, grad_out), oracle_gradients(in, mixture, grad_out));
}

}  // namespace heed::test
