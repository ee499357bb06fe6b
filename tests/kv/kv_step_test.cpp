// SPDX-License-Identifier: MIT
// A step through the buffer: with every stage that may stand in it, beside the forward pass that
// keeps everything; by any number of threads; with texts of any lengths; and what it refuses.

#include "heed/kv/kv_step.hpp"

#include "heed/core/thread_pool.hpp"
#include "heed/engine/forward.hpp"
#include "heed/score/alibi.hpp"
#include "heed/score/alive.hpp"
#include "heed/score/causal.hpp"
#include "heed/score/position_temperature.hpp"
#include "heed/score/query_offset.hpp"
#include "heed/score/score_rule.hpp"
#include "heed/score/selective.hpp"
#include "heed/score/sinks.hpp"
#include "heed/score/softcap.hpp"
#include "heed/score/standard.hpp"
#include "heed/score/when.hpp"
#include "reference/temperature.hpp"
#include "support/buffers.hpp"

#include <gtest/gtest.h>

#include <array>
#include <bitset>
#include <cmath>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <vector>

namespace heed::test {
namespace {

/// Distant keys count for less, by a curve of the caller's.
struct Fading {
  template <class B, class At>
  B operator()(const B& s, const At& at) const {
    using T = typename B::value_type;
    const B distance = at.distance() * B(T(0.03125));
    return s - distance * distance * B(T(0.125));
  }
};

/// Every stage a buffer takes, each on or off, so that one type serves all tests.
template <class T>
class Stages {
 public:
  enum Kind {
    query_temperatures,
    position_temperatures,
    other_scale,
    caps,
    a_slope_a_head,
    own_rule,
    learned_sinks,
    kinds
  };
  using Chosen = std::bitset<kinds>;

  Stages(const Shape& s, Chosen chosen)
      : on(chosen),
        tau(normal<T>(91, s.batch, s.heads, s.queries)),
        slopes(uniform<T>(92, s.heads)),
        logits(normal<T>(93, s.heads)) {
    slopes = slopes * slopes.constant(T(0.02));
  }

  /// For rows [from, to) of the text.
  auto operator()(Index from, Index to) const {
    const Index H = tau.dimension(1), N = tau.dimension(2);
    const View<const T, 3> rows(tau.data() + from, {tau.dimension(0), H, to - from}, {H * N, N, 1});
    return when(on[query_temperatures], query_temperature(rows)) |
           when(on[position_temperatures], position_temperature({Gain::sigmoid, 0.5})) |
           when(!on[other_scale], standard) | when(on[other_scale], scaled(0.7)) |
           when(on[caps], softcap(2)) | when(on[a_slope_a_head], alibi(slopes)) |
           when(on[own_rule], score_rule(Fading{})) | when(on[learned_sinks], sinks(logits));
  }

  reference::Rules rules() const {
    const Index H = tau.dimension(1), N = tau.dimension(2);
    reference::Rules r;
    r.tau_q = reference::Array({tau.dimension(0), H, N}, 1);
    for (Index i = 0; i < r.tau_q.size(); ++i) {
      double& x = r.tau_q.values[std::size_t(i)];
      if (on[query_temperatures]) x *= double(tau.data()[i]);
      if (on[position_temperatures])
        x *= reference::position_temperature(reference::Gain::sigmoid, 0.5, i % N);
    }
    if (on[other_scale]) r.scale = 0.7;
    if (on[caps]) r.softcap = 2;
    if (on[a_slope_a_head]) r.slopes = array(slopes);
    if (on[own_rule])
      r.score = [](double s, const reference::Pair& p) {
        const double distance = double(p.key - p.position) / 32;
        return s - distance * distance / 8;
      };
    if (on[learned_sinks]) r.sinks = array(logits);
    return r;
  }

  Chosen on;
  Tensor<T, 3> tau;
  Tensor<T, 1> slopes, logits;
};

template <class T>
class Steps : public testing::Test {
 protected:
  /// The plain stages, where which they are does not matter.
  static auto plain(const Inputs<T>& in) { return Stages<T>(shape_of(in), 0); }

  static Shape shape_of(const Inputs<T>& in) {
    return {.batch = in.q.dimension(0),
            .heads = in.q.dimension(1),
            .key_heads = in.k.dimension(1),
            .queries = in.q.dimension(2),
            .keys = in.q.dimension(2),
            .dim = in.q.dimension(3),
            .value_dim = in.v.dimension(3)};
  }

  /// The text through a buffer, `at_once` tokens a step.
  static Buffered<T> run(KvBuffer<T>& buffer, const Inputs<T>& in, const Stages<T>& stages,
                         Index at_once, const Executor& executor = {}) {
    Buffered<T> answers = answers_to(in);
    const Index N = in.q.dimension(2);
    for (Index i = 0; i < N; i += at_once)
      step(buffer, in, i, std::min(i + at_once, N), stages, answers, executor);
    return answers;
  }

  /// Compares the buffer with the oracle, in which a mask replaces eviction, and F of the tokens
  /// held.
  static void expect_oracle(const Inputs<T>& in, const Stages<T>& stages, const KvOptions& o,
                            Index at_once) {
    KvBuffer<T> buffer = buffer_for(in, o);
    const Buffered<T> got = run(buffer, in, stages, at_once);
    reference::Rules rules = stages.rules();
    rules.visible = reference::causal();
    const reference::Array q = array(in.q), k = array(in.k), v = array(in.v);
    reference::Votes heard{reference::Array({q.dim(0), q.dim(2), q.dim(2)}),
                           reference::Array({q.dim(0), q.dim(2)})};
    if (o.select) heard = votes(q, k, rules, selection(*o.select));
    rules.visible = rules.visible && reference::alive(array(got.evict_row));
    const reference::Attention want = reference::every_row(q, k, v, [&](Index b, Index h, Index i) {
      return reference::selective_row(q, k, v, rules, heard.f, b, h, i);
    });
    expect_close<T>(got, want);
    for (Index b = 0; b < in.q.dimension(0); ++b)
      for (const auto& [position, f] : held(buffer.sequence(b)))
        EXPECT_NEAR(f, heard.carry_out(b, position), tolerance<T> * (1 + std::abs(f))) << position;
  }
};
TYPED_TEST_SUITE(Steps, Scalars, ScalarName);

// ---- every stage

/// Alone each, and none: with a budget, when slots are in no order but positions are, and without.
TYPED_TEST(Steps, MatchTheOracleWithEveryStage) {
  using T = TypeParam;
  const Inputs<T> in = inputs<T>(tokens(50, 16, 4, 2, 2), 1);
  using Set = typename Stages<T>::Chosen;
  for (std::size_t kind = 0; kind <= Stages<T>::kinds; ++kind)
    for (const std::optional<Index> budget : {std::optional<Index>(11), std::optional<Index>()})
      for (const bool selects : {true, false})
        for (const auto& [chunk, at_once] : {std::array<Index, 2>{1, 1}, {7, 50}, {16, 23}}) {
          KvOptions o{.budget = budget, .chunk = chunk};
          if (!selects) o.select.reset();
          SCOPED_TRACE(testing::Message()
                       << "stage " << kind << ", " << describe(o) << ", steps of " << at_once);
          const Set alone = kind < Stages<T>::kinds ? Set(1u << kind) : Set();
          this->expect_oracle(in, Stages<T>(this->shape_of(in), alone), o, at_once);
        }
}

TYPED_TEST(Steps, MatchTheOracleInRandomCompany) {
  using T = TypeParam;
  Random random(3);
  using Set = typename Stages<T>::Chosen;
  for (int trial = 0; trial < 40; ++trial) {
    const Index G = random.integer(1, 3);
    Shape s = tokens(random.integer(1, 70), random.integer(1, 40), G * random.integer(1, 5), G,
                     random.integer(1, 3));
    s.value_dim = random.integer(1, 40);
    KvOptions o{.budget = random.integer(2, 50), .chunk = random.integer(1, 40)};
    if (random.uniform() < 0.3) o.budget.reset();
    o.when = random.uniform() < 0.5 ? EvictWhen::before_row : EvictWhen::after_row;
    if (random.uniform() < 0.3) {
      o.evict = Evict::least_attended;
      o.chunk = 1;
    }
    o.select = SelectOptions{.head = random.integer(0, s.heads),
                             .relu = random.uniform() < 0.8,
                             .protect_first = random.uniform() < 0.7,
                             .forbid_self = random.uniform() < 0.7,
                             .accumulate = random.uniform() < 0.7,
                             .shift = random.uniform() < 0.7};
    const Stages<T> stages(s, Set(unsigned(random.integer(0, 1 << Stages<T>::kinds))));
    SCOPED_TRACE(testing::Message() << "trial " << trial << ": " << describe(s) << ", "
                                    << describe(o) << ", stages " << stages.on);
    // Boosted without end, scores grow with the text, and with them what rounding does to them.
    this->expect_oracle(inputs<T>(s, std::uint64_t(300 + trial), 0.3), stages, o,
                        random.integer(1, 50));
  }
}

// ---- beside the forward pass

/// Without a budget it is the forward pass, and what is left of F is its carry_out; with one, the
/// forward pass under a mask.
TYPED_TEST(Steps, AreTheForwardPassUnderAMask) {
  using T = TypeParam;
  const Index N = 140;
  const Inputs<T> in = inputs<T>(tokens(N, 16, 4, 2, 2), 4);
  const Stages<T> stages = this->plain(in);
  for (const std::optional<Index> budget : {std::optional<Index>(20), std::optional<Index>()})
    for (const auto& [chunk, at_once] : {std::array<Index, 2>{1, 1}, {7, N}, {96, N}, {16, 23}}) {
      const KvOptions o{.budget = budget, .chunk = chunk};
      SCOPED_TRACE(describe(o) + ", steps of " + std::to_string(at_once));
      KvBuffer<T> buffer = buffer_for(in, o);
      const Buffered<T> got = this->run(buffer, in, stages, at_once);
      const View<const std::int64_t, 2> evict_row(got.evict_row);
      Tensor<T, 2> carry(2, N);
      const Outputs<T> want =
          attend(in, standard | causal | alive(evict_row) | selective.carry_out(carry));
      EXPECT_TRUE(close(got.out, want.out));
      EXPECT_TRUE(close(got.lse, want.lse));
      for (Index b = 0; b < 2; ++b)
        for (const auto& [position, f] : held(buffer.sequence(b)))
          EXPECT_NEAR(f, carry(b, position), tolerance<T> * (1 + f)) << position;
    }
}

// ---- threads and layouts

TYPED_TEST(Steps, GiveTheSameBitsWithAnyNumberOfThreads) {
  using T = TypeParam;
  for (const Shape& s : {tokens(50, 16, 4, 2, 3), tokens(50, 8, 1, 1, 1), tokens(40, 8, 8, 1, 2)}) {
    const Inputs<T> in = inputs<T>(s, 4);
    for (const Evict evict : {Evict::most_masked, Evict::least_attended})
      for (const Index chunk : {1, 9}) {
        if (evict == Evict::least_attended && chunk != 1) continue;
        const KvOptions o{.budget = 12, .evict = evict, .chunk = chunk};
        KvBuffer<T> alone = buffer_for(in, o);
        const Buffered<T> want = this->run(alone, in, this->plain(in), 20);
        for (const int workers : {1, 2, 3}) {
          SCOPED_TRACE(describe(s) + ", " + describe(o) + ", threads " + std::to_string(workers));
          Eigen::ThreadPool pool(workers);
          KvBuffer<T> buffer = buffer_for(in, o);
          expect_same_bits(this->run(buffer, in, this->plain(in), 20, executor(pool)), want);
          for (Index b = 0; b < s.batch; ++b)
            EXPECT_TRUE(same_memory(buffer.sequence(b), alone.sequence(b)));
        }
      }
  }
}

TYPED_TEST(Steps, TakeTensorsInAnyLayout) {
  using T = TypeParam;
  const Index B = 2, N = 30, H = 4, D = 16;
  const Inputs<T> in = inputs<T>(tokens(N, D, H, H, B), 5);
  const KvOptions o{.budget = 9, .chunk = 4};
  KvBuffer<T> one = buffer_for(in, o), other = buffer_for(in, o);
  const Buffered<T> want = this->run(one, in, this->plain(in), N);
  const auto by_token = [&](const Tensor<T>& x) -> Tensor<T> {
    return x.shuffle(Eigen::array<int, 4>{0, 2, 1, 3});
  };
  const Tensor<T> q = by_token(in.q), k = by_token(in.k), v = by_token(in.v);
  Tensor<T> out(B, N, H, D);
  other.step(bnhd(q.data(), B, N, H, D), bnhd(k.data(), B, N, H, D), bnhd(v.data(), B, N, H, D),
             this->plain(in)(0, N), bnhd(out.data(), B, N, H, D));
  EXPECT_TRUE(same_bits(by_token(want.out), out));
}

TYPED_TEST(Steps, LogEvictionsByPositionAndTouchNothingElse) {
  using T = TypeParam;
  const Inputs<T> in = inputs<T>(tokens(30, 8, 2, 1), 6);
  KvBuffer<T> buffer = buffer_for(in, {.budget = 9});
  Tensor<std::int64_t, 2> evict_row(1, 40);
  evict_row.setConstant(-7);
  Tensor<T> out(1, 2, 30, 8);
  buffer.step(in.q, in.k, in.v, this->plain(in)(0, 30), out, {.evict_row = evict_row});
  Index gone = 0;
  for (Index j = 0; j < 40; ++j) {
    if (evict_row(0, j) == -7) continue;
    ++gone;
    EXPECT_LT(j, evict_row(0, j));
    EXPECT_LT(evict_row(0, j), 30);
  }
  EXPECT_EQ(gone, 30 - 9);
}

// ---- texts of different lengths

TYPED_TEST(Steps, OfTextsOfDifferentLengthsAreThoseOfEachAlone) {
  using T = TypeParam;
  const Index B = 3, H = 4;
  // Three steps; how many of its tokens each text brings to each.
  const std::array<std::array<std::int64_t, 3>, 3> brings{{{20, 7, 0}, {0, 20, 3}, {5, 1, 20}}};
  for (const std::optional<Index> budget : {std::optional<Index>(8), std::optional<Index>()})
    for (const Index chunk : {1, 6}) {
      const KvOptions o{.budget = budget, .chunk = chunk};
      SCOPED_TRACE(describe(o));
      KvBuffer<T> together({.batch = B, .heads = H, .key_heads = 2, .dim = 8, .value_dim = 8}, o);
      std::vector<KvBuffer<T>> alone(
          std::size_t(B), {{.batch = 1, .heads = H, .key_heads = 2, .dim = 8, .value_dim = 8}, o});
      for (std::size_t round = 0; round < brings.size(); ++round) {
        Inputs<T> in = inputs<T>(tokens(20, 8, H, 2, B), 10 + round);
        for (Index b = 0; b < B; ++b)  // what is behind a text's last token is not looked at
          for (Tensor<T>* x : {&in.q, &in.k, &in.v})
            for (Index i = brings[round][std::size_t(b)]; i < 20; ++i)
              x->chip(b, 0).chip(i, 1).setConstant(std::numeric_limits<T>::quiet_NaN());
        Buffered<T> got = answers_to(in);
        const View<const std::int64_t, 1> count(brings[round].data(), {B});
        together.step(in.q, in.k, in.v, this->plain(in)(0, 20), got.out,
                      {.lse = got.lse, .tokens = count});
        for (Index b = 0; b < B; ++b) {
          const Index n = Index(brings[round][std::size_t(b)]);
          const auto part = [&](const Tensor<T>& x) -> Tensor<T> {
            return x.slice(Eigen::array<Index, 4>{b, 0, 0, 0},
                           Eigen::array<Index, 4>{1, x.dimension(1), n, x.dimension(3)});
          };
          const Inputs<T> own{part(in.q), part(in.k), part(in.v)};
          KvBuffer<T>& buffer = alone[std::size_t(b)];
          Buffered<T> want = answers_to(own);
          buffer.step(own.q, own.k, own.v, this->plain(own)(0, n), want.out, {.lse = want.lse});
          EXPECT_TRUE(same_bits(part(got.out), want.out)) << "round " << round << ", text " << b;
          EXPECT_EQ(held(buffer.sequence(0)), held(together.sequence(b)));
          EXPECT_EQ(buffer.sequence(0).next(), together.sequence(b).next());
          for (Index h = 0; h < H; ++h)
            for (Index i = n; i < 20; ++i) {
              EXPECT_EQ(got.lse(b, h, i), -std::numeric_limits<T>::infinity());
              for (Index d = 0; d < 8; ++d) EXPECT_EQ(got.out(b, h, i, d), T(0));
            }
        }
      }
    }
}

TYPED_TEST(Steps, OfNoTokensChangeNothing) {
  using T = TypeParam;
  const Inputs<T> in = inputs<T>(tokens(20, 8, 2, 1), 7);
  const Inputs<T> none{slice(in.q, 0, 0), slice(in.k, 0, 0), slice(in.v, 0, 0)};
  for (const std::optional<Index> budget : {std::optional<Index>(5), std::optional<Index>()}) {
    KvBuffer<T> buffer = buffer_for(in, {.budget = budget});
    this->run(buffer, in, this->plain(in), 20);
    const KvSequence<T> before = buffer.sequence(0);
    Tensor<T> out(1, 2, 0, 8);
    buffer.step(none.q, none.k, none.v, this->plain(none)(0, 0), out);
    EXPECT_TRUE(same_memory(before, buffer.sequence(0)));
    const std::int64_t no_tokens = 0;
    Tensor<T> zeros_out(1, 2, 20, 8);
    buffer.step(in.q, in.k, in.v, this->plain(in)(0, 20), zeros_out,
                {.tokens = View<const std::int64_t, 1>(&no_tokens, {1})});
    EXPECT_TRUE(same_memory(before, buffer.sequence(0)));
  }
}

TYPED_TEST(Steps, WithoutTheLogSumExpGiveTheSameOutput) {
  using T = TypeParam;
  const Inputs<T> in = inputs<T>(tokens(30, 8, 2, 1), 8);
  KvBuffer<T> one = buffer_for(in, {.budget = 9}), other = buffer_for(in, {.budget = 9});
  const Buffered<T> want = this->run(one, in, this->plain(in), 30);
  Tensor<T> out(1, 2, 30, 8);
  other.step(in.q, in.k, in.v, this->plain(in)(0, 30), out);
  EXPECT_TRUE(same_bits(out, want.out));
}

// ---- errors

/// Refused with that kind of error, which says `words`; nothing written and nothing appended.
template <class Error, class T, class Variant, class Step>
void expect_step_refused(KvBuffer<T>& buffer, const Inputs<T>& in, const Variant& variant,
                         Tensor<T>& out, const Step& options, const std::string& words) {
  std::vector<KvSequence<T>> before;
  for (Index b = 0; b < buffer.shape().batch; ++b) before.push_back(buffer.sequence(b));
  out.setConstant(T(3));
  const Tensor<T> out_before = out;
  const std::string message =
      message_of<Error>([&] { buffer.step(in.q, in.k, in.v, variant, out, options); });
  EXPECT_NE(message.find(words), std::string::npos) << message;
  EXPECT_TRUE(same_bits(out, out_before)) << "out was written";
  for (Index b = 0; b < buffer.shape().batch; ++b)
    EXPECT_TRUE(same_memory(before[std::size_t(b)], buffer.sequence(b)));
}

TYPED_TEST(Steps, RefuseWhatDoesNotFitBeforeAnythingChanges) {
  using T = TypeParam;
  using Step = typename KvBuffer<T>::Step;
  const Inputs<T> in = inputs<T>(tokens(4, 8, 2, 1, 2), 9);
  KvBuffer<T> buffer = buffer_for(in, {.budget = 3});
  this->run(buffer, in, this->plain(in), 4);
  const Stages<T> stages = this->plain(in);
  const auto variant = stages(0, 4);
  Tensor<T> out(2, 2, 4, 8);
  const auto refused = [&]<class Error>(Error*, const Inputs<T>& bad, Tensor<T>& to,
                                        const Step& options, const std::string& words) {
    expect_step_refused<Error>(buffer, bad, variant, to, options, words);
  };
  ShapeError* shape = nullptr;
  ValueError* value = nullptr;

  const auto with = [&](const Shape& s) { return inputs<T>(s, 9); };
  refused(shape, with(tokens(4, 8, 2, 1, 3)), out, {}, "q is [3, 2, 4, 8], should be [2, 2, 4, 8]");
  refused(shape, with(tokens(4, 8, 3, 1, 2)), out, {}, "q is [2, 3, 4, 8], should be [2, 2, 4, 8]");
  refused(shape, with(tokens(4, 9, 2, 1, 2)), out, {}, "q is [2, 2, 4, 9], should be [2, 2, 4, 8]");
  refused(shape, with(tokens(4, 8, 2, 2, 2)), out, {}, "k is [2, 2, 4, 8], should be [2, 1, 4, 8]");
  refused(shape, with({2, 2, 1, 4, 5, 8, 8}), out, {}, "k is [2, 1, 5, 8], should be [2, 1, 4, 8]");
  refused(shape, with({2, 2, 1, 4, 4, 8, 7}), out, {}, "v is [2, 1, 4, 7], should be [2, 1, 4, 8]");
  refused(shape, {in.q, inputs<T>(tokens(4, 9, 2, 1, 2), 9).k, in.v}, out, {},
          "k is [2, 1, 4, 9], q is [2, 2, 4, 8]");
  refused(shape, {in.q, in.k, inputs<T>(tokens(3, 8, 2, 1, 2), 9).v}, out, {},
          "v is [2, 1, 3, 8], k is [2, 1, 4, 8]");
  Tensor<T> short_out(2, 2, 3, 8), wide_out(2, 2, 4, 9);
  refused(shape, in, short_out, {}, "out is [2, 2, 3, 8], should be [2, 2, 4, 8]");
  refused(shape, in, wide_out, {}, "out is [2, 2, 4, 9], should be [2, 2, 4, 8]");
  Tensor<T, 3> lse(2, 2, 5);
  refused(shape, in, out, {.lse = lse}, "lse is [2, 2, 5], should be [2, 2, 4]");

  const std::array<std::int64_t, 3> three{1, 2, 3}, beyond{4, 5, 0}, negative{-1, 4, 0};
  refused(shape, in, out, {.tokens = View<const std::int64_t, 1>(three.data(), {3})},
          "tokens is [3], should be [2]");
  refused(value, in, out, {.tokens = View<const std::int64_t, 1>(beyond.data(), {2})},
          "tokens[1] is 5, must lie in 0 … 4");
  refused(value, in, out, {.tokens = View<const std::int64_t, 1>(negative.data(), {2})},
          "tokens[0] is -1, must lie in 0 … 4");
  // Four tokens are there, four come: the log must reach position 7.
  Tensor<std::int64_t, 2> log(2, 7), other_batch(1, 8);
  refused(shape, in, out, {.evict_row = log}, "evict_row is [2, 7], needs [2, 8] or wider");
  refused(shape, in, out, {.evict_row = other_batch}, "evict_row is [1, 8], needs [2, 8]");
}

/// Rows come after the tokens in the buffer; no stage may place them elsewhere.
TYPED_TEST(Steps, RefuseToBePlacedByAStage) {
  using T = TypeParam;
  using Step = typename KvBuffer<T>::Step;
  const Inputs<T> in = inputs<T>(tokens(4, 8, 2, 1), 11);
  KvBuffer<T> buffer = buffer_for(in, {.budget = 3});
  this->run(buffer, in, this->plain(in), 4);
  Tensor<T> out(1, 2, 4, 8);
  for (const Index offset : {0, 4, 7})
    expect_step_refused<ValueError>(buffer, in, query_offset(offset) | standard, out, Step{},
                                    "a stage puts row 0 at position " + std::to_string(offset));
}

/// To leave it out is to give none.
TYPED_TEST(Steps, RefuseTensorsThatWereNeverAllocated) {
  using T = TypeParam;
  const Inputs<T> in = inputs<T>(tokens(4, 8, 2, 1), 12);
  KvBuffer<T> buffer = buffer_for(in, {.budget = 3});
  Tensor<T> out(1, 2, 4, 8);
  Tensor<T, 3> no_lse;
  Tensor<std::int64_t, 2> no_log;
  const Stages<T> stages = this->plain(in);
  using Step = typename KvBuffer<T>::Step;
  expect_step_refused<ShapeError>(buffer, in, stages(0, 4), out, Step{.lse = no_lse},
                                  "lse is [0, 0, 0]");
  expect_step_refused<ShapeError>(buffer, in, stages(0, 4), out, Step{.evict_row = no_log},
                                  "evict_row is [0, 0]");
}

TYPED_TEST(Steps, RefuseWhatAStageRefusesBeforeAnythingChanges) {
  using T = TypeParam;
  using Step = typename KvBuffer<T>::Step;
  const Inputs<T> in = inputs<T>(tokens(4, 8, 2, 1), 10);
  KvBuffer<T> buffer = buffer_for(in, {.budget = 3});
  this->run(buffer, in, this->plain(in), 4);
  Tensor<T> out(1, 2, 4, 8);
  using Kinds = Stages<T>;
  const auto refused = [&](const Stages<T>& stages, const std::string& words) {
    expect_step_refused<ShapeError>(buffer, in, stages(0, 4), out, Step{}, words);
  };
  const Shape three_heads = tokens(4, 8, 3, 1);
  refused(Stages<T>(three_heads, 1u << Kinds::learned_sinks), "sinks is [3], should be [2]");
  refused(Stages<T>(three_heads, 1u << Kinds::a_slope_a_head), "alibi is [3], should be [2]");
  refused(Stages<T>(three_heads, 1u << Kinds::query_temperatures),
          "query_temperature is [1, 3, 4], should be [1, 2, 4]");
}

}  // namespace
}  // namespace heed::test
