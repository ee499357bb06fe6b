// SPDX-License-Identifier: MIT
// What must hold of gradients whatever the numbers.

#include "support/mixtures.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

namespace heed::test {
namespace {

template <class T>
class BackwardProperties : public testing::Test {
 protected:
  static Mixture<T> causally(bool selects) {
    Mixture<T> m;
    m.causal = true;
    m.selects = selects;
    return m;
  }
  /// All is zero for tokens [from, to).
  static testing::AssertionResult zero(const Tensor<T>& x, Index from, Index to) {
    for (Index b = 0; b < x.dimension(0); ++b)
      for (Index h = 0; h < x.dimension(1); ++h)
        for (Index i = from; i < to; ++i)
          for (Index d = 0; d < x.dimension(3); ++d)
            if (x(b, h, i, d) != T(0))
              return testing::AssertionFailure()
                     << x(b, h, i, d) << " at [" << b << ", " << h << ", " << i << ", " << d << "]";
    return testing::AssertionSuccess();
  }
};
TYPED_TEST_SUITE(BackwardProperties, Scalars, ScalarName);

TYPED_TEST(BackwardProperties, IsLinearInTheGradientOfTheOutput) {
  using T = TypeParam;
  const Shape s = tokens(97, 12, 4, 2, 2);
  const Inputs<T> in = inputs<T>(s, 1);
  Mixture<T> m = this->causally(true);
  Mixer<T> mixer(s, 2);
  mixer.bias(m, 3), mixer.sinks(m), mixer.taus(m, true);
  const Mixed<T> known = attend(in, m);
  const Tensor<T> one = cotangent(in, 3), other = cotangent(in, 4);
  const Tensor<T> sum = one + other * other.constant(T(2));
  const Gradients<T> a = m.backward(in, known, one), b = m.backward(in, known, other),
                     both = m.backward(in, known, sum);
  Gradients<T> want = a;
  each_gradient(want, b, [](const char*, auto& x, const auto& y) {
    if (x.size() > 0) x = x + y * y.constant(T(2));
  });
  expect_close(both, want);
}

/// Weights add up to one whatever F is, so moving all of F moves nothing.
TYPED_TEST(BackwardProperties, TheGradientOfFAddsUpToZero) {
  using T = TypeParam;
  const Index n = 130;
  const Inputs<T> in = inputs<T>(tokens(n, 12, 2, 1, 2), 5);
  Mixture<T> m = this->causally(true);
  m.carry_in = zeros<T, 2>({2, n});
  const Gradients<T> got = gradients(in, m, cotangent(in, 6));
  for (Index b = 0; b < 2; ++b) {
    double sum = 0, size = 0;
    for (Index j = 0; j < n; ++j) {
      sum += got.carry_in(b, j);
      size += std::abs(got.carry_in(b, j));
    }
    EXPECT_GT(size, 10);  // or there was nothing to see
    EXPECT_LT(std::abs(sum), tolerance<T> * size);
  }
}

TYPED_TEST(BackwardProperties, RowsNobodyAsksOfTakeNoGradient) {
  using T = TypeParam;
  const Index n = 140;
  const Inputs<T> in = inputs<T>(tokens(n, 12, 2, 1), 7);
  for (const bool selects : {false, true})
    for (const Index from : {1, 12, 95, 96, 97, 139}) {
      Tensor<T> grad_out = cotangent(in, 8);
      for (Index i = from; i < n; ++i) grad_out.chip(i, 2).setZero();
      const Gradients<T> got = gradients(in, this->causally(selects), grad_out);
      EXPECT_TRUE(this->zero(got.q, from, n)) << "q from " << from;
      EXPECT_TRUE(this->zero(got.k, from, n)) << "k from " << from;
      EXPECT_TRUE(this->zero(got.v, from, n)) << "v from " << from;
      EXPECT_FALSE(this->zero(got.v, 0, from));
    }
}

/// To the values, the other heads and the selecting head's last row, F is a bias like any other.
TYPED_TEST(BackwardProperties, WhoDoesNotSelectTakesFForABias) {
  using T = TypeParam;
  const Index n = 100;
  const Inputs<T> in = inputs<T>(tokens(n, 12, 3, 3), 9);
  const Tensor<T> grad_out = cotangent(in, 10);
  const reference::Array f = votes(array(in.q), array(in.k), seeing(reference::causal()), {}).f;
  Mixture<T> biased = this->causally(false);
  biased.bias = Tensor<T>(1, 1, n, n);
  for (Index i = 0; i < n; ++i)
    for (Index j = 0; j < n; ++j) biased.bias(0, 0, i, j) = T(-f(0, i, j));
  const Gradients<T> selective = gradients(in, this->causally(true), grad_out),
                     plain = gradients(in, biased, grad_out);
  EXPECT_TRUE(close(selective.v, plain.v));
  for (const Index h : {1, 2})
    for (Index i = 0; i < n; ++i)
      for (Index d = 0; d < 12; ++d) {
        ASSERT_NEAR(selective.q(0, h, i, d), plain.q(0, h, i, d), 2 * tolerance<T>);
        ASSERT_NEAR(selective.k(0, h, i, d), plain.k(0, h, i, d), 2 * tolerance<T>);
      }
  T most = 0;
  for (Index i = 0; i < n; ++i)
    for (Index d = 0; d < 12; ++d) {
      const T difference = std::abs(selective.q(0, 0, i, d) - plain.q(0, 0, i, d));
      if (i == n - 1) {
        EXPECT_LT(difference, 2 * tolerance<T>);
      }
      most = std::max(most, difference);
    }
  EXPECT_GT(most, T(0.01));  // there were votes
}

TYPED_TEST(BackwardProperties, WhereNobodyVotesSelectionChangesNothing) {
  using T = TypeParam;
  Inputs<T> in = inputs<T>(tokens(110, 12, 2, 2), 11);
  for (Index i = 0; i < 110; ++i)
    for (Index d = 0; d < 12; ++d) {
      in.q(0, 0, i, d) = -std::abs(in.q(0, 0, i, d));
      in.k(0, 0, i, d) = std::abs(in.k(0, 0, i, d));
    }
  const Tensor<T> grad_out = cotangent(in, 12);
  expect_close(gradients(in, this->causally(true), grad_out),
               gradients(in, this->causally(false), grad_out));
}

/// τ and what it scales enter as a product: ∂τ τ = ∂x · x.
TYPED_TEST(BackwardProperties, TemperaturesAndWhatTheyScaleShareTheirGradient) {
  using T = TypeParam;
  const Shape s = tokens(60, 12, 4, 2, 2);
  const Inputs<T> in = inputs<T>(s, 13);
  for (const bool selects : {false, true}) {
    Mixture<T> m = this->causally(selects);
    Mixer<T>(s, 14).taus(m, false);
    const Gradients<T> got = gradients(in, m, cotangent(in, 15));
    const auto expect = [](const Tensor<T>& x, const Tensor<T>& grad, const Tensor<T, 3>& tau,
                           const Tensor<T, 3>& grad_tau) {
      for (Index b = 0; b < tau.dimension(0); ++b)
        for (Index h = 0; h < tau.dimension(1); ++h)
          for (Index i = 0; i < tau.dimension(2); ++i) {
            double dot = 0, size = 1;
            for (Index d = 0; d < x.dimension(3); ++d) {
              const double term = double(x(b, h, i, d)) * double(grad(b, h, i, d));
              dot += term;
              size += std::abs(term);
            }
            ASSERT_NEAR(double(grad_tau(b, h, i)) * double(tau(b, h, i)), dot, tolerance<T> * size)
                << b << ' ' << h << ' ' << i;
          }
    };
    expect(in.q, got.q, m.tau_q, got.tau_q);
    expect(in.k, got.k, m.tau_k, got.tau_k);
    expect(in.v, got.v, m.tau_v, got.tau_v);
  }
}

TYPED_TEST(BackwardProperties, ScalingTheQueriesOrTheirTemperaturesIsTheSame) {
  using T = TypeParam;
  const Shape s = tokens(60, 12, 2, 1);
  Inputs<T> in = inputs<T>(s, 16);
  Mixture<T> m = this->causally(true);
  Mixer<T>(s, 17).taus(m, false);
  const Tensor<T> grad_out = cotangent(in, 18);
  const Gradients<T> one = gradients(in, m, grad_out);
  in.q = in.q * in.q.constant(T(4));
  m.tau_q = m.tau_q * m.tau_q.constant(T(0.25));
  Gradients<T> other = gradients(in, m, grad_out);
  other.q = other.q * other.q.constant(T(4));
  other.tau_q = other.tau_q * other.tau_q.constant(T(0.25));
  expect_close(one, other);
}

// ---- chunks

/// Training on a text chunk by chunk: F goes on from each to the next, its gradient comes back.
TYPED_TEST(BackwardProperties, InChunksIsOnePass) {
  using T = TypeParam;
  const Index n = 130, B = 2, H = 4, G = 2, D = 12;
  const Inputs<T> in = inputs<T>(tokens(n, D, H, G, B), 19);
  const Tensor<T> grad_out = cotangent(in, 20);
  for (const bool projects : {false, true}) {
    Mixture<T> whole = this->causally(true);
    if (projects) whole.sel_q = normal<T>(21, B, n, 7), whole.sel_k = normal<T>(22, B, n, 7);
    const Gradients<T> want = gradients(in, whole, grad_out);
    for (const std::vector<Index>& ends :
         {std::vector<Index>{1, n}, {50, n}, {96, n}, {7, 30, 97, n}}) {
      SCOPED_TRACE(testing::PrintToString(ends));
      const auto rows = [](const auto& x, Index from, Index to) {
        return Tensor<T, 3>(
            x.slice(Eigen::array<Index, 3>{0, from, 0},
                    Eigen::array<Index, 3>{x.dimension(0), to - from, x.dimension(2)}));
      };
      struct Chunk {
        Mixture<T> m;
        Inputs<T> in;
        Mixed<T> known;
        Index from, to;
      };
      std::vector<Chunk> chunks;
      for (std::size_t c = 0; c < ends.size(); ++c) {
        Chunk chunk;
        chunk.from = c == 0 ? 0 : ends[c - 1], chunk.to = ends[c];
        chunk.m = whole;
        chunk.m.offset = chunk.from;
        chunk.m.carry_in = zeros<T, 2>({B, chunk.to});
        for (Index b = 0; c > 0 && b < B; ++b)
          for (Index j = 0; j < chunk.from; ++j)
            chunk.m.carry_in(b, j) = chunks.back().known.carry(b, j);
        if (projects) {
          chunk.m.sel_q = rows(whole.sel_q, chunk.from, chunk.to);
          chunk.m.sel_k = rows(whole.sel_k, 0, chunk.to);
        }
        chunk.in = {slice(in.q, chunk.from, chunk.to), slice(in.k, 0, chunk.to),
                    slice(in.v, 0, chunk.to)};
        chunk.known = chunk.m.attend(chunk.in);
        chunks.push_back(chunk);
      }

      Gradients<T> sum = whole.unwritten(in);
      sum.k.setZero(), sum.v.setZero(), sum.sel_k.setZero();
      Tensor<T, 2> behind;
      for (std::size_t c = chunks.size(); c-- > 0;) {
        Chunk& chunk = chunks[c];
        if (behind.size() > 0)
          chunk.m.grad_carry_out =
              behind.slice(Eigen::array<Index, 2>{0, 0}, Eigen::array<Index, 2>{B, chunk.to});
        const Gradients<T> got =
            chunk.m.backward(chunk.in, chunk.known, slice(grad_out, chunk.from, chunk.to));
        behind = got.carry_in;
        const Eigen::array<Index, 4> rows_at{0, 0, chunk.from, 0}, start{0, 0, 0, 0};
        sum.q.slice(rows_at, got.q.dimensions()) = got.q;
        sum.k.slice(start, got.k.dimensions()) += got.k;
        sum.v.slice(start, got.v.dimensions()) += got.v;
        if (!projects) continue;
        const Eigen::array<Index, 3> queries_at{0, chunk.from, 0}, keys_at{0, 0, 0};
        sum.sel_q.slice(queries_at, got.sel_q.dimensions()) = got.sel_q;
        sum.sel_k.slice(keys_at, got.sel_k.dimensions()) += got.sel_k;
      }
      expect_close(sum, want);
    }
  }
}

// ---- batches

TYPED_TEST(BackwardProperties, OfAPaddedBatchIsThatOfEachTextAlone) {
  using T = TypeParam;
  const Index n = 70;
  const Inputs<T> in = inputs<T>(tokens(n, 12, 2, 1, 3), 23);
  const Tensor<T> grad_out = cotangent(in, 24);
  for (const bool selects : {false, true}) {
    Mixture<T> padded = this->causally(selects);
    padded.length = Tensor<std::int64_t, 1>(3);
    padded.length.setValues({37, 0, 70});
    const Gradients<T> got = gradients(in, padded, grad_out);
    for (Index b = 0; b < 3; ++b) {
      const Index length = Index(padded.length(b));
      const auto alone = [&](const Tensor<T>& x) {
        const Eigen::array<Index, 4> at{b, 0, 0, 0},
            size{1, x.dimension(1), length, x.dimension(3)};
        return Tensor<T>(x.slice(at, size));
      };
      for (const Tensor<T>* x : {&got.q, &got.k, &got.v}) {
        const Tensor<T> entry =
            x->slice(Eigen::array<Index, 4>{b, 0, 0, 0},
                     Eigen::array<Index, 4>{1, x->dimension(1), x->dimension(2), x->dimension(3)});
        EXPECT_TRUE(this->zero(entry, length, n)) << b;
      }
      if (length == 0) continue;
      const Inputs<T> text{alone(in.q), alone(in.k), alone(in.v)};
      const Gradients<T> want = gradients(text, this->causally(selects), alone(grad_out));
      EXPECT_TRUE(close(alone(got.q), want.q));
      EXPECT_TRUE(close(alone(got.k), want.k));
      EXPECT_TRUE(close(alone(got.v), want.v));
    }
  }
}

}  // namespace
}  // namespace heed::test
