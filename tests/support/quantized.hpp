// SPDX-License-Identifier: MIT
/// @file Keys and values in few bits, through forward() and through a KvBuffer, against the oracle,
/// which reads the same bytes by the definition of their format.
#pragma once

#include "heed/engine/quantize.hpp"
#include "heed/kv/kv_buffer.hpp"
#include "support/calls.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace heed::test {

/// A tensor stored as S.
template <class T, class S>
struct StoredTensor {
  Tensor<S> numbers;                                  // [B, G, N, units]
  Tensor<T, int(heed::detail::scale_rank<S>)> scale;  // [B, G, N] or [B, G, N, groups]
  Index dim;

  explicit StoredTensor(const Tensor<T>& x)
      : numbers(x.dimension(0), x.dimension(1), x.dimension(2), simd::units<S>(x.dimension(3))),
        dim(x.dimension(3)) {
    if constexpr (simd::has_groups<S>)
      scale.resize(x.dimension(0), x.dimension(1), x.dimension(2), simd::scales<S>(dim));
    else
      scale.resize(x.dimension(0), x.dimension(1), x.dimension(2));
    quantize(x, numbers, scale);
  }
  Quantized<T, S> argument() const { return {numbers, scale, dim}; }

  Index tokens() const {
    return numbers.dimension(0) * numbers.dimension(1) * numbers.dimension(2);
  }
  /// Unit u of a token, all heads' counted through.
  S& unit(Index token, Index u) { return numbers.data()[token * numbers.dimension(3) + u]; }
  /// A token's scales.
  T* scales(Index token) { return scale.data() + token * simd::scales<S>(dim); }

  /// What is stored: number_of(units of a token, d) · scale, `group` numbers with one scale.
  template <class NumberOf>
  reference::Array read(NumberOf&& number_of, Index group) {
    reference::Array x({numbers.dimension(0), numbers.dimension(1), numbers.dimension(2), dim});
    for (Index token = 0; token < tokens(); ++token)
      for (Index d = 0; d < dim; ++d)
        x.values[std::size_t(token * dim + d)] =
            number_of(&unit(token, 0), d) * double(scales(token)[d / group]);
    return x;
  }
};

/// Both sides of a register, of a group and of a panel.
constexpr Index stored_dims[] = {1, 31, 32, 33, 64, 100};

/// forward() of keys and values stored as S, for few queries, which read them as they are stored,
/// and for many, which have them widened.
template <class S, class T, class NumberOf>
void expect_forward(NumberOf&& number_of, Index group) {
  for (const Index dim : stored_dims)
    for (const Index queries : {1, 2, 5, 20}) {
      const Shape s{2, 4, 2, queries, 45, dim, 101 - dim};
      SCOPED_TRACE(describe(s));
      const Inputs<T> in = inputs<T>(s, 5);
      StoredTensor<T, S> k(in.k), v(in.v);
      Outputs<T> got{Tensor<T>(2, 4, queries, 101 - dim), Tensor<T, 3>(2, 4, queries), {}};
      forward(in.q, k.argument(), v.argument(), standard, got.out, got.lse);
      const reference::Attention want =
          reference::attention(array(in.q), k.read(number_of, group), v.read(number_of, group), {});
      EXPECT_TRUE(close(got.out, want.out));
      EXPECT_TRUE(close(got.lse, want.lse));
    }
}

/// A KvBuffer that forgets nothing and stores as S: some tokens in one step, then one by one.
template <class S, class T, class NumberOf>
void expect_buffer(NumberOf&& number_of, Index group) {
  for (const Index dim : stored_dims) {
    constexpr Index count = 70, together = 62;
    Shape s = tokens(count, dim, 4, 2, 2);
    s.value_dim = 101 - dim;
    SCOPED_TRACE(describe(s));
    const Inputs<T> in = inputs<T>(s, 6);
    StoredTensor<T, S> k(in.k), v(in.v);
    KvOptions options;
    options.select.reset();
    KvBuffer<T, S> buffer({2, 4, 2, dim, s.value_dim}, options);
    reference::Rules rules;
    rules.visible = reference::causal();
    const reference::Array want =
        reference::attention(array(in.q), k.read(number_of, group), v.read(number_of, group), rules)
            .out;
    for (Index first = 0, last = together; first < count; first = last++) {
      const Index rows = last - first;
      const auto rows_of = [&](const Tensor<T>& x) {
        const Index heads = x.dimension(1), width = x.dimension(3);
        return View<const T, 4>(x.data() + first * width, {2, heads, rows, width},
                                {heads * count * width, count * width, width, 1});
      };
      Tensor<T> out(2, 4, rows, s.value_dim);
      buffer.step(rows_of(in.q), rows_of(in.k), rows_of(in.v), standard, out);
      reference::Array part({2, 4, rows, s.value_dim});
      for (Index b = 0; b < 2; ++b)
        for (Index h = 0; h < 4; ++h)
          for (Index i = 0; i < rows; ++i)
            for (Index d = 0; d < s.value_dim; ++d) part(b, h, i, d) = want(b, h, first + i, d);
      EXPECT_TRUE(close(out, part)) << "row " << first;
    }
  }
}

/// Token 3 of 8 is spoilt by spoil(k, v): rows before it give what they give without it, the others
/// are NaN in column `column`.
template <class S, class Spoil>
void expect_no_leak(Index column, Spoil&& spoil) {
  for (const Index queries : {8, 30}) {
    SCOPED_TRACE(std::to_string(queries) + " queries");
    constexpr Index dim = 40, bad = 3;
    const Inputs<float> in = inputs<float>({1, 1, 1, queries, queries, dim, dim}, 8);
    StoredTensor<float, S> k(in.k), v(in.v);
    Tensor<float> want(1, 1, queries, dim), got(1, 1, queries, dim);
    forward(in.q, k.argument(), v.argument(), causally, want);
    spoil(k, v, bad);
    forward(in.q, k.argument(), v.argument(), causally, got);
    for (Index i = 0; i < queries; ++i)
      if (i < bad)
        for (Index d = 0; d < dim; ++d)
          EXPECT_NEAR(got(0, 0, i, d), want(0, 0, i, d), 1e-6) << "row " << i;
      else
        EXPECT_TRUE(std::isnan(got(0, 0, i, column))) << "row " << i;
  }
}

}  // namespace heed::test
