// SPDX-License-Identifier: MIT
// Where a sequence begins: a document inside a pack, and a sequence behind its padding, give what
// they give alone, there and back.

#include "heed/score/query_offset.hpp"
#include "heed/score/starts.hpp"
#include "support/mixtures.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <limits>
#include <vector>

namespace heed::test {
namespace {

/// Some tokens of one batch entry.
struct Part {
  Index batch, first, last;
};

/// Along dimension `d`, the entries [from, to); the whole of it if it broadcasts.
template <class X>
X cut(const X& x, int d, Index from, Index to) {
  if (x.size() == 0 || x.dimension(d) == 1) return x;
  Eigen::array<Index, std::size_t(X::NumDimensions)> start{}, extent;
  for (int i = 0; i < X::NumDimensions; ++i) extent[std::size_t(i)] = x.dimension(i);
  start[std::size_t(d)] = from, extent[std::size_t(d)] = to - from;
  return X(x.slice(start, extent));
}

template <class T>
Inputs<T> cut(const Inputs<T>& in, const Part& p) {
  const auto part = [&](const Tensor<T>& x) {
    return cut(cut(x, 0, p.batch, p.batch + 1), 2, p.first, p.last);
  };
  return {part(in.q), part(in.k), part(in.v)};
}

/// The part of every tensor of the mixture; where a sequence begins is not said, since it begins at
/// the first token.
template <class T>
Mixture<T> cut(const Mixture<T>& whole, const Part& p) {
  Mixture<T> m = whole;
  m.documents = {}, m.start = {}, m.length = {};
  const auto tokens = [&](auto& x, int d) {
    x = cut(cut(x, 0, p.batch, p.batch + 1), d, p.first, p.last);
  };
  tokens(m.tau_q, 2), tokens(m.tau_k, 2), tokens(m.tau_v, 2);
  tokens(m.bias, 2), tokens(m.bias, 3), tokens(m.mask, 2), tokens(m.mask, 3);
  tokens(m.carry_in, 1), tokens(m.sel_q, 1), tokens(m.sel_k, 1);
  tokens(m.grad_lse, 2), tokens(m.grad_carry_out, 1), tokens(m.grad_memory, 1),
      tokens(m.evict_row, 1);
  if (m.evict_row.size() > 0) m.evict_row = m.evict_row - m.evict_row.constant(p.first);
  return m;
}

/// Sums up what the parts' gradients of a shared tensor are.
template <class X>
void add(X& sum, const X& term) {
  if (sum.size() == 0)
    sum = term;
  else
    sum = sum + term;
}

/// A mixture without what would name tokens across sequences.
template <class T>
Mixture<T> any_mixture(const Shape& s, std::uint64_t seed) {
  Mixture<T> m = Mixer<T>(s, seed).any();
  m.documents = {}, m.length = {}, m.start = {};
  m.offset = 0;
  if (m.bias.size() > 0 && (m.bias.dimension(2) == 1 || m.bias.dimension(3) == 1))
    m.bias = {};  // its gradient sums over tokens of all parts
  if (m.bias.size() > 0 && m.bias.dimension(0) == 1 && s.batch > 1) m.bias = {};
  // Without accumulation a row that casts no vote clears F: rows of padding do, and other
  // documents'.
  if (!m.select.accumulate) m.carry_in = m.grad_carry_out = {};
  m.prefix = m.causal ? -1 : Index(seed % 23);
  return m;
}

/// The parts of the pack against the same tokens alone, forward and backward.
template <class T>
void expect_parts_as_alone(const Inputs<T>& in, const Mixture<T>& pack,
                           const std::vector<Part>& parts, std::uint64_t seed) {
  const Tensor<T> grad_out = cotangent(in, seed);
  const Mixed<T> together = attend(in, pack);
  const Gradients<T> back = pack.backward(in, together, grad_out);
  Tensor<T, 1> slopes, sinks;
  double alpha = 0;
  for (const Part& p : parts) {
    if (p.first == p.last) continue;
    SCOPED_TRACE(testing::Message()
                 << "batch " << p.batch << ", tokens " << p.first << " … " << p.last - 1);
    const Inputs<T> own = cut(in, p);
    const Mixture<T> alone = cut(pack, p);
    const auto rows = [&](const auto& x, int d) {
      return cut(cut(x, 0, p.batch, p.batch + 1), d, p.first, p.last);
    };
    const Tensor<T> own_grad = rows(grad_out, 2);
    const Mixed<T> want = attend(own, alone);
    EXPECT_TRUE(close(rows(together.out, 2), want.out)) << "out";
    EXPECT_TRUE(close(rows(together.lse, 2), want.lse)) << "lse";
    if (pack.selects) {
      if (pack.select.accumulate) {
        EXPECT_TRUE(close(rows(together.carry, 1), want.carry)) << "F behind the last row";
      }
      EXPECT_TRUE(close(rows(together.memory, 1), want.memory)) << "M";
    }
    const Gradients<T> grad = alone.backward(own, want, own_grad);
    EXPECT_TRUE(close(rows(back.q, 2), grad.q)) << "grad_q";
    EXPECT_TRUE(close(rows(back.k, 2), grad.k)) << "grad_k";
    EXPECT_TRUE(close(rows(back.v, 2), grad.v)) << "grad_v";
    EXPECT_TRUE(close(rows(back.tau_q, 2), grad.tau_q)) << "grad of τq";
    EXPECT_TRUE(close(rows(back.tau_k, 2), grad.tau_k)) << "grad of τk";
    EXPECT_TRUE(close(rows(back.tau_v, 2), grad.tau_v)) << "grad of τv";
    EXPECT_TRUE(close(rows(back.carry_in, 1), grad.carry_in)) << "grad of carry_in";
    EXPECT_TRUE(close(rows(back.sel_q, 1), grad.sel_q)) << "grad of the projection's queries";
    EXPECT_TRUE(close(rows(back.sel_k, 1), grad.sel_k)) << "grad of the projection's keys";
    add(slopes, grad.slopes), add(sinks, grad.sinks);
    alpha += grad.alpha;
  }
  const double allowed = 20 * tolerance<T>;  // sums over all pairs, of either sign
  EXPECT_TRUE(close(back.slopes, slopes, allowed)) << "grad of the slopes";
  EXPECT_TRUE(close(back.sinks, sinks, allowed)) << "grad of the sinks";
  EXPECT_NEAR(back.alpha, alpha, 1e3 * tolerance<T> * (1 + std::abs(alpha))) << "grad of α";
}

/// One or two key heads, one or two query heads to each, 2 … 179 tokens.
Shape any_shape(Random& random) {
  const Index G = random.integer(1, 3), n = random.integer(2, 180);
  Shape s = tokens(n, random.integer(1, 24), G * random.integer(1, 3), G, random.integer(1, 4));
  s.value_dim = random.integer(1, 24);
  return s;
}

template <class T>
class Sequences : public testing::Test {};
TYPED_TEST_SUITE(Sequences, Scalars, ScalarName);

TYPED_TEST(Sequences, InAPackGiveWhatTheyGiveAlone) {
  using T = TypeParam;
  Random random(1);
  for (std::uint64_t trial = 0; trial < 25; ++trial) {
    const Shape s = any_shape(random);
    const Index n = s.keys;
    SCOPED_TRACE(testing::Message() << "trial " << trial << ": " << describe(s));
    Mixture<T> pack = any_mixture<T>(s, 100 * trial);
    pack.documents = Tensor<std::int64_t, 2>(s.batch, n);
    std::vector<Part> parts;
    for (Index b = 0; b < s.batch; ++b)
      for (Index first = 0, id = random.integer(0, 5); first < n; id += random.integer(1, 3)) {
        const Index last = std::min(n, first + random.integer(1, 70));
        parts.push_back({b, first, last});
        for (; first < last; ++first) pack.documents(b, first) = id;
      }
    expect_parts_as_alone(inputs<T>(s, trial), pack, parts, trial);
  }
}

TYPED_TEST(Sequences, BehindPaddingGiveWhatTheyGiveAlone) {
  using T = TypeParam;
  Random random(2);
  for (std::uint64_t trial = 0; trial < 25; ++trial) {
    const Shape s = any_shape(random);
    const Index G = s.key_heads, n = s.keys;
    SCOPED_TRACE(testing::Message() << "trial " << trial << ": " << describe(s));
    Mixture<T> padded = any_mixture<T>(s, 50 + 100 * trial);
    padded.start = Tensor<std::int64_t, 1>(s.batch);
    std::vector<Part> parts;
    Inputs<T> in = inputs<T>(s, trial);
    const T nan = std::numeric_limits<T>::quiet_NaN();
    for (Index b = 0; b < s.batch; ++b) {
      padded.start(b) = random.integer(0, n + 1);
      parts.push_back({b, padded.start(b), n});
      // A row of padding sees its sink alone, whose log-sum-exp would have a gradient.
      for (Index h = 0; h < s.heads && padded.grad_lse.size() > 0; ++h)
        for (Index i = 0; i < padded.start(b); ++i) padded.grad_lse(b, h, i) = T(0);
      // What stands in the padding does not matter.
      for (Tensor<T>* x : {&in.k, &in.v})
        for (Index h = 0; h < G; ++h)
          for (Index j = 0; j < padded.start(b); ++j)
            for (Index d = 0; d < x->dimension(3); ++d) (*x)(b, h, j, d) = nan;
    }
    expect_parts_as_alone(in, padded, parts, trial);

    const Mixed<T> got = attend(in, padded);
    for (Index b = 0; b < s.batch && (padded.causal || padded.prefix >= 0); ++b)
      for (Index h = 0; h < s.heads; ++h)
        for (Index i = 0; i < padded.start(b); ++i) EXPECT_EQ(got.out(b, h, i, 0), T(0));
  }
}

/// Documents behind padding, in chunks of rows that go on where the last one ended.
TYPED_TEST(Sequences, CutIntoChunksGiveWhatTheyGiveWhole) {
  using T = TypeParam;
  const Shape s = tokens(150, 16, 4, 2, 2);
  const Inputs<T> in = inputs<T>(s, 7);
  Mixture<T> m;
  m.causal = m.selects = true;
  m.position = Gain{Gain::sigmoid, 0.5};
  m.block = 40, m.previous = 1;
  m.documents = Tensor<std::int64_t, 2>(2, 150);
  m.start = Tensor<std::int64_t, 1>(2);
  m.start(0) = 13, m.start(1) = 60;
  for (Index b = 0; b < 2; ++b)
    for (Index j = 0; j < 150; ++j) m.documents(b, j) = (j + 20 * b) / 47;
  const Mixed<T> whole = attend(in, m);
  for (const Index chunk : {1, 7, 64}) {
    SCOPED_TRACE(chunk);
    Tensor<T, 2> carry(2, 150);
    carry.setZero();
    for (Index row = 0; row < 150; row += chunk) {
      const Index last = std::min<Index>(row + chunk, 150);
      Mixture<T> part = m;
      part.offset = row, part.carry_in = carry;
      const Mixed<T> got = attend(Inputs<T>{slice(in.q, row, last), in.k, in.v}, part);
      ASSERT_TRUE(close(got.out, slice(whole.out, row, last))) << "rows from " << row;
      ASSERT_TRUE(close(got.memory, cut(whole.memory, 1, row, last)));
      carry = got.carry;
    }
    EXPECT_TRUE(close(carry, whole.carry));
  }
}

/// Sequences of different lengths, a row or some of each: one offset a batch entry.
TYPED_TEST(Sequences, DecodedTogetherSitWhereTheirOwnOffsetsSay) {
  using T = TypeParam;
  const Index offsets[] = {0, 5, 63, 90}, rows = 10;
  const Shape s{4, 2, 1, rows, 100, 8, 8};
  const Inputs<T> in = inputs<T>(s, 8);
  const auto gain = position_temperature({Gain::sigmoid, 0.4});
  Tensor<std::int64_t, 1> each(4);
  for (Index b = 0; b < 4; ++b) each(b) = offsets[b];
  const View<const std::int64_t, 1> own(each.data(), {4});
  const Outputs<T> got = attend(in, query_offset(own) | gain | standard | causal | selective);
  for (Index b = 0; b < 4; ++b) {
    SCOPED_TRACE(b);
    const auto entry = [&](const Tensor<T>& x) { return cut(x, 0, b, b + 1); };
    const Outputs<T> want = attend(Inputs<T>{entry(in.q), entry(in.k), entry(in.v)},
                                   query_offset(offsets[b]) | gain | standard | causal | selective);
    EXPECT_TRUE(close(entry(got.out), want.out));
  }
  each(2) = -1;
  expect_refusal<ValueError>(in, query_offset(own) | standard | causal, "query_offset is -1");
  expect_refusal<ShapeError>(
      in, query_offset(View<const std::int64_t, 1>(each.data(), {3})) | standard | causal, "[3]");
  expect_refusal<ValueError>(in, query_offset(own) | standard | causal_at(3), "elsewhere");
}

TYPED_TEST(Sequences, AreRefusedWhereTheyCannotBegin) {
  const auto in = inputs<TypeParam>(tokens(4, 8, 1, 1, 2), 1);
  const auto at = [](std::vector<std::int64_t>& x) {
    return View<const std::int64_t, 1>(x.data(), {Index(x.size())});
  };
  std::vector<std::int64_t> negative{0, -1}, beyond{5, 0}, one{0}, good{0, 4};
  const auto refuse = [&]<class Error>(std::type_identity<Error>, auto& x, const char* words) {
    expect_refusal<Error>(in, standard | causal | starts(at(x)), words);
  };
  refuse(std::type_identity<ValueError>(), negative, "starts[1] is -1");
  refuse(std::type_identity<ValueError>(), beyond, "starts[0] is 5");
  refuse(std::type_identity<ShapeError>(), one, "one start per batch entry");
  expect_refusal<ValueError>(in, standard | causal | starts(at(good)) | starts(at(good)),
                             "two stages say where sequences begin");
}

}  // namespace
}  // namespace heed::test
