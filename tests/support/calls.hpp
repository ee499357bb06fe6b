// SPDX-License-Identifier: MIT
/// @file
/// One call of the library, and the same call of the oracle.
#pragma once

#include "heed/core/shape.hpp"
#include "heed/engine/forward.hpp"
#include "heed/score/causal.hpp"
#include "heed/score/standard.hpp"
#include "reference/attention.hpp"
#include "support/compare.hpp"
#include "support/random.hpp"
#include "support/tensors.hpp"

#include <gtest/gtest.h>

#include <cstdint>
#include <limits>
#include <ostream>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace heed::test {

using Scalars = testing::Types<float, double>;

/// Names the types of a typed suite.
struct ScalarName {
  template <class T>
  static std::string GetName(int) {
    return std::is_same_v<T, float> ? "float" : "double";
  }
};

/// One variant for every alignment, so that fewer are compiled.
inline const auto causally = standard | causal_at(0);

inline std::string describe(const Shape& s) {
  return "B " + std::to_string(s.batch) + ", H " + std::to_string(s.heads) + ", G " +
         std::to_string(s.key_heads) + ", Nq " + std::to_string(s.queries) + ", Nk " +
         std::to_string(s.keys) + ", D " + std::to_string(s.dim) + ", Dv " +
         std::to_string(s.value_dim);
}

/// Self-attention of N tokens, one value as wide as its key.
inline Shape tokens(Index n, Index dim, Index heads = 1, Index key_heads = 1, Index batch = 1) {
  return {.batch = batch,
          .heads = heads,
          .key_heads = key_heads,
          .queries = n,
          .keys = n,
          .dim = dim,
          .value_dim = dim};
}

template <class T>
struct Inputs {
  Tensor<T> q, k, v;
};

/// Normal entries; those of q and k are `amplitude` times as large.
template <class T>
Inputs<T> inputs(const Shape& s, std::uint64_t seed, double amplitude = 1) {
  Inputs<T> in{normal<T>(3 * seed, s.batch, s.heads, s.queries, s.dim),
               normal<T>(3 * seed + 1, s.batch, s.key_heads, s.keys, s.dim),
               normal<T>(3 * seed + 2, s.batch, s.key_heads, s.keys, s.value_dim)};
  in.q = in.q * in.q.constant(T(amplitude));
  in.k = in.k * in.k.constant(T(amplitude));
  return in;
}

/// One head with q·k as given, a list of rows, and v the identity, so that the output shows the
/// weights.
template <class T>
Inputs<T> with_scores(const std::vector<std::vector<double>>& scores) {
  const Index rows = Index(scores.size()), keys = Index(scores[0].size());
  Inputs<T> in{Tensor<T>(1, 1, rows, keys), Tensor<T>(1, 1, keys, keys),
               Tensor<T>(1, 1, keys, keys)};
  in.k.setZero();
  for (Index j = 0; j < keys; ++j) in.k(0, 0, j, j) = T(1);
  in.v = in.k;
  for (Index i = 0; i < rows; ++i)
    for (Index j = 0; j < keys; ++j) in.q(0, 0, i, j) = T(scores[std::size_t(i)][std::size_t(j)]);
  return in;
}

template <class T>
struct Outputs {
  Tensor<T> out;
  Tensor<T, 3> lse;
  WorkStats visited;
};

/// The library's answer. What it leaves unwritten is NaN.
template <class T, class Variant>
Outputs<T> attend(const Inputs<T>& in, const Variant& variant, const Options& options = {}) {
  const Index B = in.q.dimension(0), H = in.q.dimension(1), Nq = in.q.dimension(2);
  Outputs<T> result{Tensor<T>(B, H, Nq, in.v.dimension(3)), Tensor<T, 3>(B, H, Nq), {}};
  result.out.setConstant(std::numeric_limits<T>::quiet_NaN());
  result.lse.setConstant(std::numeric_limits<T>::quiet_NaN());
  result.visited = forward(in.q, in.k, in.v, variant, result.out, result.lse, options);
  return result;
}

/// The weights such a call must show.
template <class T>
testing::AssertionResult shows(const Outputs<T>& got,
                               const std::vector<std::vector<double>>& weights) {
  reference::Array want({1, 1, Index(weights.size()), Index(weights[0].size())});
  for (std::size_t i = 0; i < weights.size(); ++i)
    for (std::size_t j = 0; j < weights[i].size(); ++j) want(0, 0, i, j) = weights[i][j];
  return close(got.out, want);
}

/// The oracle's.
template <class T>
reference::Attention oracle(const Inputs<T>& in, const reference::Rules& rules = {}) {
  return reference::attention(array(in.q), array(in.k), array(in.v), rules);
}

template <class T>
void expect_close(const Outputs<T>& got, const reference::Attention& want) {
  EXPECT_TRUE(close(got.out, want.out)) << "out";
  EXPECT_TRUE(close(got.lse, want.lse)) << "lse";
}

template <class T>
void expect_same_bits(const Outputs<T>& a, const Outputs<T>& b) {
  EXPECT_TRUE(same_bits(a.out, b.out)) << "out";
  EXPECT_TRUE(same_bits(a.lse, b.lse)) << "lse";
}

/// Library and oracle agree.
template <class T, class Variant>
void expect_oracle(const Inputs<T>& in, const Variant& variant, const reference::Rules& rules) {
  expect_close(attend(in, variant), oracle(in, rules));
}

/// What a ShapeError or ValueError says; the call must throw one of its kind.
template <class Error, class Call>
std::string message_of(Call&& call) {
  try {
    std::forward<Call>(call)();
  } catch (const Error& e) {
    return e.what();
  }
  return "nothing was thrown";
}

/// The variant is refused with that kind of error, which says `words`, and nothing is written.
template <class Error, class T, class Variant>
void expect_refusal(const Inputs<T>& in, const Variant& variant, const std::string& words) {
  Tensor<T> out(in.q.dimension(0), in.q.dimension(1), in.q.dimension(2), in.v.dimension(3));
  Tensor<T, 3> lse(in.q.dimension(0), in.q.dimension(1), in.q.dimension(2));
  out.setConstant(T(3));
  lse.setConstant(T(3));
  const Tensor<T> out_before = out;
  const Tensor<T, 3> lse_before = lse;
  const std::string message =
      message_of<Error>([&] { forward(in.q, in.k, in.v, variant, out, lse); });
  EXPECT_NE(message.find(words), std::string::npos) << message;
  EXPECT_TRUE(same_bits(out, out_before)) << "out was written";
  EXPECT_TRUE(same_bits(lse, lse_before)) << "lse was written";
}

/// Rules of nothing but a mask.
inline reference::Rules seeing(reference::Visible visible) {
  reference::Rules rules;
  rules.visible = std::move(visible);
  return rules;
}

/// Tokens [from, to) of every batch element and head.
template <class T>
Tensor<T> slice(const Tensor<T>& x, Index from, Index to) {
  const Eigen::array<Index, 4> start{0, 0, from, 0};
  const Eigen::array<Index, 4> extent{x.dimension(0), x.dimension(1), to - from, x.dimension(3)};
  return x.slice(start, extent);
}

template <class T>
Tensor<T, 3> slice(const Tensor<T, 3>& x, Index from, Index to) {
  const Eigen::array<Index, 3> start{0, 0, from};
  const Eigen::array<Index, 3> extent{x.dimension(0), x.dimension(1), to - from};
  return x.slice(start, extent);
}

}  // namespace heed::test
