// SPDX-License-Identifier: MIT
// Calls that cannot be right, by sizes, strides, pointers and numbers: each is refused before a
// byte is written, by a message that names the value and the rule. Their nearest neighbours that
// are right give what they should.
#include "support/border.hpp"

#include "heed/engine/backward.hpp"
#include "heed/engine/merge.hpp"
#include "heed/engine/quantize.hpp"
#include "heed/engine/weights.hpp"
#include "heed/score/causal.hpp"
#include "heed/score/selective.hpp"
#include "heed/score/standard.hpp"
#include "heed/score/when.hpp"
#include "support/sanitizers.hpp"

#include <gtest/gtest.h>

#include <cstdint>
#include <limits>
#include <new>
#include <string>
#include <vector>

namespace heed::test {
namespace {

/// One variant for all, so that it is compiled once.
auto rows_from(Index offset, bool selects = false, View<float, 2> carry_in = {},
               View<float, 2> carry_out = {}) {
  return standard | causal_at(offset) |
         when(selects, selective.carry_in(carry_in).carry_out(carry_out));
}

constexpr Index B = 1, H = 2, N = 6, D = 8;

/// A call of two heads, and memory that shows where anything was written.
struct Call {
  std::vector<float> memory = std::vector<float>(4000, 0.25f);
  View<float, 4> q = at(500), k = at(700), v = at(900), out = at(1500);
  View<float, 3> lse{memory.data() + 2000, {B, H, N}};
  View<float, 2> carry_in, carry_out;
  Index offset = 0;
  bool selects = false;
  Options options{};

  View<float, 4> at(Index place) { return {memory.data() + place, {B, H, N, D}}; }
  /// Sizes of all, no strides: nothing but the sizes is to be found fault with.
  void resize(const Shape& s) {
    const auto sized = [](View<float, 4>& x, const Dims<4>& dims) {
      x = {x.data(), dims, {0, 0, 0, 1}};
    };
    sized(q, {s.batch, s.heads, s.queries, s.dim});
    sized(k, {s.batch, s.key_heads, s.keys, s.dim});
    sized(v, {s.batch, s.key_heads, s.keys, s.value_dim});
    out = {out.data(), {s.batch, s.heads, s.queries, s.value_dim}};
    lse = {lse.data(), {s.batch, s.heads, s.queries}};
  }
  std::string written() const { return bytes_of(memory); }
  void run() {
    forward(q, k, v, rows_from(offset, selects, carry_in, carry_out), out, lse, options);
  }
};

/// What `spoil` makes of a call that is right.
template <class Error, class Spoil>
void expect_refused(const std::string& words, Spoil&& spoil) {
  expect_refused_call<Call, Error>(words, spoil);
}

Shape with(void (*change)(Shape&)) {
  Shape s{B, H, H, N, N, D, D};
  change(s);
  return s;
}

TEST(ForwardBorder, RefusesSizesThatCannotBe) {
  const char *negative = "no size may be negative", *large = "which no memory holds";
  const auto refuse = [&](const char* name, const char* words, void (*change)(Shape&)) {
    SCOPED_TRACE(name);
    for (const bool selects : {false, true})
      expect_refused<ShapeError>(words, [&](Call& c) {
        c.resize(with(change));
        c.selects = selects;
      });
  };
  refuse("negative batch", negative, [](Shape& s) { s.batch = -1; });
  refuse("negative heads", negative, [](Shape& s) { s.heads = s.key_heads = -2; });
  refuse("key heads -1", negative, [](Shape& s) { s.key_heads = -1; });
  refuse("negative queries", negative, [](Shape& s) { s.queries = -3; });
  refuse("negative keys", negative, [](Shape& s) { s.keys = -3; });
  refuse("negative dim", negative, [](Shape& s) { s.dim = -8; });
  refuse("negative value dim", negative, [](Shape& s) { s.value_dim = -8; });
  refuse("2^32 keys x 2^32 dim", large, [](Shape& s) { s.keys = s.dim = power_of_two(32); });
  refuse("2^62 keys", large, [](Shape& s) { s.keys = power_of_two(62); });
  refuse("2^60 keys, 200 rows", large,
         [](Shape& s) { s.keys = power_of_two(60), s.queries = 200; });
  refuse("max keys", large, [](Shape& s) { s.keys = largest; });
  refuse("max keys, 200 rows", large, [](Shape& s) { s.keys = largest, s.queries = 200; });
  refuse("max dim", large, [](Shape& s) { s.dim = largest; });
  refuse("2^58 value dim", large, [](Shape& s) { s.value_dim = power_of_two(58); });
  refuse("2^62 batch, nothing else", large, [](Shape& s) {
    s.batch = power_of_two(62), s.heads = s.key_heads = s.queries = s.keys = 0;
  });
  refuse("2^62 batch, no rows", large, [](Shape& s) { s.batch = power_of_two(62), s.queries = 0; });
}

/// What memory might hold, but this machine's does not, is std::bad_alloc; nothing is written.
TEST(ForwardBorder, SaysThatMemoryIsShortOnlyWhereItIs) {
  if (sanitized) GTEST_SKIP() << "a sanitizer's operator new ends the program";
  Call call;
  const Index rows = 800;  // more than one row block, so that keys are packed in advance
  call.memory.assign(14000, 0.25f);
  call.out = {call.memory.data(), {1, 1, rows, D}};
  call.lse = {call.memory.data() + 6400, {1, 1, rows}};
  call.q = {call.memory.data() + 7200, {1, 1, rows, D}};
  call.k = call.v = {call.memory.data() + 13700, {1, 1, power_of_two(49), D}, {0, 0, 0, 1}};
  const std::vector<float> before = call.memory;
  EXPECT_THROW(call.run(), std::bad_alloc);
  EXPECT_TRUE(before == call.memory) << "something was written";
}

TEST(ForwardBorder, RefusesTensorsThatAreNowhere) {
  const auto refuse = [](const char* words, auto spoil) {
    expect_refused<ValueError>(words, spoil);
  };
  refuse("q is [1, 2, 6, 8], but its data is null", [](Call& c) { c.q = nowhere(c.q); });
  refuse("k is [1, 2, 6, 8], but its data is null", [](Call& c) { c.k = nowhere(c.k); });
  refuse("v is [1, 2, 6, 8], but its data is null", [](Call& c) { c.v = nowhere(c.v); });
  refuse("out is [1, 2, 6, 8], but its data is null", [](Call& c) { c.out = nowhere(c.out); });
  refuse("lse is [1, 2, 6], but its data is null", [](Call& c) { c.lse = nowhere(c.lse); });
  refuse("q begins 1 bytes behind a multiple of 4", [](Call& c) { c.q = misaligned(c.q); });
  refuse("k begins 1 bytes behind a multiple of 4", [](Call& c) { c.k = misaligned(c.k); });
  refuse("v begins 1 bytes behind a multiple of 4", [](Call& c) { c.v = misaligned(c.v); });
  refuse("out begins 1 bytes behind a multiple of 4", [](Call& c) { c.out = misaligned(c.out); });
  refuse("lse begins 1 bytes behind a multiple of 4", [](Call& c) { c.lse = misaligned(c.lse); });
}

TEST(ForwardBorder, RefusesStridesThatReachTooFar) {
  const auto refuse = [](const char* words, auto spoil) {
    expect_refused<ShapeError>(words, spoil);
  };
  refuse("q is [1, 2, 6, 8] with strides [96, 48, 9223372036854775807, 1]: they reach beyond",
         [](Call& c) { c.q = strided(c.q, 2, largest); });
  refuse("k is [1, 2, 6, 8] with strides [96, -9223372036854775808, 8, 1]: they reach beyond",
         [](Call& c) { c.k = strided(c.k, 1, smallest); });
  refuse("v is [1, 2, 6, 8] with strides [96, 18014398509481984, 8, 1]: they reach beyond",
         [](Call& c) { c.v = strided(c.v, 1, power_of_two(54)); });
  refuse("out is [1, 2, 6, 8] with strides [96, 48, 4611686018427387904, 1]: they reach beyond",
         [](Call& c) { c.out = strided(c.out, 2, power_of_two(62)); });
}

TEST(ForwardBorder, RefusesOutputsThatOverlap) {
  const auto refuse = [](const char* words, auto spoil) {
    expect_refused<ShapeError>(words, spoil);
  };
  refuse("out overlaps q: out is [1, 2, 6, 8]", [](Call& c) { c.out = c.q; });
  refuse("out overlaps k: out is [1, 2, 6, 8]", [](Call& c) { c.out = c.k; });
  refuse("out overlaps v: out is [1, 2, 6, 8]", [](Call& c) { c.out = c.v; });
  refuse(
      "out overlaps q: out is [1, 2, 6, 8] with strides [96, 48, 8, 1], q is [1, 2, 6, 8] with "
      "strides [96, 48, 8, 1], -192 bytes from it",
      [](Call& c) { c.out = moved(c.out, c.q.data() + 48); });
  refuse("with strides [96, 0, 8, 1]: its own numbers overlap",
         [](Call& c) { c.out = strided(c.out, 1, 0); });
  refuse("with strides [96, 48, 2, 1]: its own numbers overlap",
         [](Call& c) { c.out = strided(c.out, 2, 2); });
  refuse("lse overlaps out", [](Call& c) { c.lse = moved(c.lse, c.out.data() + 5); });
  refuse("lse is [1, 2, 6] with strides [12, 6, 0]: its own",
         [](Call& c) { c.lse = strided(c.lse, 2, 0); });
  const auto carry_out = [](Call& c, float* place) {
    c.selects = true, c.carry_out = {place, {B, N}};
  };
  refuse("out overlaps carry_out", [&](Call& c) { carry_out(c, c.out.data() + 90); });
  refuse("carry_out overlaps k", [&](Call& c) { carry_out(c, c.k.data()); });
  refuse("carry_out overlaps carry_in", [&](Call& c) {
    carry_out(c, c.memory.data() + 3001);
    c.carry_in = {c.memory.data() + 3000, {B, N}};
  });
}

TEST(ForwardBorder, RefusesRowsThatSitTooFarAway) {
  const auto refuse = [](const char* words, Index offset) {
    expect_refused<ValueError>(words, [&](Call& c) { c.offset = offset; });
  };
  const char* rule = "6 rows: positions lie in -2305843009213693951 … 2305843009213693951";
  for (const Index offset : {largest, largest - 4, smallest, power_of_two(61), -power_of_two(61)})
    refuse(rule, offset);
  refuse("the position of row 0 is 9223372036854775807 and there are", largest);
}

TEST(ForwardBorder, RefusesOptionsThatDoNotExist) {
  const auto by = [](int number) {
    expect_refused<ValueError>("bfloat16 is " + std::to_string(number), [&](Call& c) {
      c.options.bfloat16 = static_cast<Bfloat16>(number);
    });
  };
  by(77), by(-1), by(3);
  const auto run = [](void*, Index, Executor::Body, void*) {};
  EXPECT_EQ(message_of<ValueError>([] { Executor(nullptr, 3, nullptr); }).substr(0, 37),
            "Executor: workers are 3, run is null:");
  EXPECT_EQ(message_of<ValueError>([&] { Executor(nullptr, -1, run); }).substr(0, 38),
            "Executor: workers are -1, run is given");
  EXPECT_NO_THROW(Executor(nullptr, 1, nullptr));
  EXPECT_NO_THROW(Executor(nullptr, 0, run));
}

TEST(ForwardBorder, TakesTheNearestThatIsRight) {
  expect_taken<Call>("all of it", [](Call&) {});
  expect_taken<Call>("lse left out", [](Call& c) { c.lse = {}; });
  expect_taken<Call>("q is k is v", [](Call& c) { c.k = c.v = c.q; });
  expect_taken<Call>("broadcast keys and values", [](Call& c) {
    c.k = strided(c.k, 1, 0), c.v = strided(strided(c.v, 2, 0), 1, 0);
  });
  expect_taken<Call>("strides of sizes of 1", [](Call& c) {
    for (View<float, 4>* x : {&c.q, &c.k, &c.v, &c.out}) *x = strided(*x, 0, 0);
    c.lse = strided(c.lse, 0, largest);
    c.out = strided(c.out, 0, smallest);
  });
  expect_taken<Call>("rows backwards",
                     [](Call& c) { c.out = strided(moved(c.out, c.out.data() + 5 * D), 2, -D); });
  expect_taken<Call>("nothing, at no place", [](Call& c) {
    for (View<float, 4>* x : {&c.q, &c.out}) *x = {nullptr, {B, H, 0, D}};
    c.lse = {nullptr, {B, H, 0}};
  });
  expect_taken<Call>("no keys, at no place", [](Call& c) { c.k = c.v = {nullptr, {B, H, 0, D}}; });
  expect_taken<Call>("empty output inside of q", [](Call& c) {
    c.v = {c.v.data(), {B, H, N, 0}}, c.out = {c.q.data(), {B, H, N, 0}};
  });
  expect_taken<Call>("lse in the gaps of out", [](Call& c) {
    c.out = {c.out.data(), {B, H, N, D}, {0, N * (D + 1), D + 1, 1}};
    c.lse = {c.out.data() + D, {B, H, N}, {0, N * (D + 1), D + 1}};
  });
  expect_taken<Call>("carry_out is carry_in", [](Call& c) {
    c.selects = true, c.carry_out = c.carry_in = {c.memory.data() + 3000, {B, N}};
  });
  for (const Index offset : {Index(-1), -N, power_of_two(61) - N - 1, -(power_of_two(61) - 1)})
    expect_taken<Call>("far away", [&](Call& c) { c.offset = offset; });
}

/// Rows before the first key see nothing.
TEST(ForwardBorder, PutsRowsBeforeTheFirstKey) {
  const Inputs<float> in = inputs<float>(tokens(N, D, H, H), 1);
  const Outputs<float> shifted = attend(in, standard | causal_at(-1)),
                       plain = attend(in, standard | causal_at(0));
  for (Index h = 0; h < H; ++h) {
    EXPECT_EQ(shifted.lse(0, h, 0), -std::numeric_limits<float>::infinity());
    for (Index d = 0; d < D; ++d) EXPECT_EQ(shifted.out(0, h, 0, d), 0);
    EXPECT_NE(shifted.lse(0, h, 1), plain.lse(0, h, 1));
  }
}

/// q, k, v and out are slices of one [B, N, 4, H, D] buffer.
TEST(ForwardBorder, TakesSlicesOfOnePackedTensor) {
  const Inputs<float> in = inputs<float>(tokens(N, D, H, H), 1);
  std::vector<float> packed(std::size_t(N * 4 * H * D), 7);
  const auto slice = [&](Index which) {
    return View<float, 4>(packed.data() + which * H * D, {1, H, N, D},
                          {N * 4 * H * D, D, 4 * H * D, 1});
  };
  const View<float, 4> q = slice(0), k = slice(1), v = slice(2), out = slice(3);
  for (Index h = 0; h < H; ++h)
    for (Index i = 0; i < N; ++i)
      for (Index d = 0; d < D; ++d) {
        q(0, h, i, d) = in.q(0, h, i, d), k(0, h, i, d) = in.k(0, h, i, d);
        v(0, h, i, d) = in.v(0, h, i, d);
      }
  forward(q, k, v, causally, out);
  const Outputs<float> want = attend(in, causally);
  for (Index h = 0; h < H; ++h)
    for (Index i = 0; i < N; ++i)
      for (Index d = 0; d < D; ++d) ASSERT_EQ(out(0, h, i, d), want.out(0, h, i, d));
}

/// Scratch is taken for as many workers as there are tasks, and tasks are told of no other.
TEST(ForwardBorder, TakesWorkersWithoutEnd) {
  for (const Index n : {Index(5), Index(300)})
    for (const bool selects : {false, true}) {
      const Inputs<float> in = inputs<float>(tokens(n, D, H, 1, 2), 3);
      const auto variant = rows_from(0, selects);
      const Outputs<float> want = attend(in, variant);
      expect_same_bits(attend(in, variant, {.executor = endless_workers()}), want);
      const Tensor<float> grad_out = normal<float>(4, 2, H, n, D);
      const auto gradients = [&](const Options& options) {
        Inputs<float> to = in;
        backward(in.q, in.k, in.v, variant, want.out, want.lse, grad_out, to.q, to.k, to.v,
                 options);
        return to;
      };
      const Inputs<float> alone = gradients({}),
                          shared = gradients({.executor = endless_workers()});
      EXPECT_TRUE(same_bits(alone.q, shared.q));
      EXPECT_TRUE(same_bits(alone.k, shared.k));
      EXPECT_TRUE(same_bits(alone.v, shared.v));
    }
}

// ---- backward

struct BackwardCall : Call {
  View<float, 4> grad_out = at(2100), grad_q = at(2300), grad_k = at(2500), grad_v = at(2700);

  void run() {
    backward(q, k, v, rows_from(offset, selects, carry_in, carry_out), out, lse, grad_out, grad_q,
             grad_k, grad_v, options);
  }
};

TEST(BackwardBorder, RefusesWhatForwardRefuses) {
  const auto refuse = [](const char* words, auto spoil) {
    expect_refused_call<BackwardCall, ShapeError>(words, spoil);
  };
  using C = BackwardCall;
  refuse("grad_v overlaps grad_k", [](C& c) { c.grad_v = c.grad_k; });
  refuse("grad_k is [1, 2, 6, 8] with strides [96, 0, 8, 1]: its own numbers overlap",
         [](C& c) { c.k = strided(c.k, 1, 0), c.grad_k = strided(c.grad_k, 1, 0); });
  refuse("grad_q overlaps q", [](C& c) { c.grad_q = c.q; });
  refuse("grad_q overlaps grad_out", [](C& c) { c.grad_q = c.grad_out; });
  refuse("grad_k overlaps out", [](C& c) { c.grad_k = c.out; });
  refuse("grad_k overlaps lse", [](C& c) { c.grad_k = moved(c.grad_k, c.lse.data() - 3); });
  refuse("no size may be negative", [](C& c) { c.q = {c.q.data(), {B, H, -1, D}}; });
  const auto none = [](const char* words, auto spoil) {
    expect_refused_call<C, ValueError>(words, spoil);
  };
  none("grad_q is [1, 2, 6, 8], but its data is null", [](C& c) { c.grad_q = nowhere(c.grad_q); });
  none("lse is [1, 2, 6], but its data is null", [](C& c) { c.lse = nowhere(c.lse); });
  none("out is [1, 2, 6, 8], but its data is null", [](C& c) { c.out = nowhere(c.out); });
  none("grad_out begins 1 bytes", [](C& c) { c.grad_out = misaligned(c.grad_out); });
  none("the position of row 0", [](C& c) { c.offset = largest; });
  none("bfloat16 is 77", [](C& c) { c.options.bfloat16 = static_cast<Bfloat16>(77); });
}

TEST(BackwardBorder, TakesTheNearestThatIsRight) {
  using C = BackwardCall;
  expect_taken<C>("all of it", [](C&) {});
  expect_taken<C>("out is grad_out", [](C& c) { c.grad_out = c.out; });
  expect_taken<C>("broadcast keys", [](C& c) { c.k = c.v = strided(c.k, 1, 0); });
  // carry_out is not written here, and may be where it was.
  expect_taken<C>("carry_out of the pass before", [](C& c) {
    c.selects = true, c.carry_in = {c.memory.data() + 3000, {B, N}};
    c.carry_out = {c.memory.data() + 3001, {B, N}};
  });
  expect_taken<C>("packed", [](C& c) {
    const auto slice = [&](Index which) {
      return View<float, 4>(c.memory.data() + which * H * D, {B, H, N, D},
                            {N * 6 * H * D, D, 6 * H * D, 1});
    };
    c.q = slice(0), c.k = slice(1), c.v = slice(2);
    c.grad_q = slice(3), c.grad_k = slice(4), c.grad_v = slice(5);
  });
}

// ---- the others

struct WeightsCall : Call {
  View<float, 2> shown{memory.data() + 3000, {2, N}};
  WeightsOf of{.row = 1, .rows = 2};

  void run() { weights(q, k, rows_from(offset), lse, of, shown); }
};

TEST(WeightsBorder, RefusesRowsThatDoNotExist) {
  using C = WeightsCall;
  const auto refuse = [](const char* words, auto spoil) {
    expect_refused_call<C, ValueError>(words, spoil);
  };
  refuse("head 0, 9223372036854775807 rows from 1 do not exist: q is [1, 2, 6, 8]",
         [](C& c) { c.of.rows = largest; });
  refuse("2 rows from 5 do not exist", [](C& c) { c.of.row = 5; });
  refuse("2 rows from 9223372036854775807 do not exist", [](C& c) { c.of.row = largest; });
  refuse("-1 rows from 1 do not exist", [](C& c) { c.of.rows = -1; });
  refuse("weights is [2, 6], but its data is null", [](C& c) { c.shown = nowhere(c.shown); });
  refuse("lse is [1, 2, 6], but its data is null", [](C& c) { c.lse = nowhere(c.lse); });
  refuse("q is [1, 2, 6, 8], but its data is null", [](C& c) { c.q = nowhere(c.q); });
  expect_refused_call<C, ShapeError>("weights overlaps k",
                                     [](C& c) { c.shown = moved(c.shown, c.k.data()); });
  expect_refused_call<C, ShapeError>("weights overlaps lse",
                                     [](C& c) { c.shown = moved(c.shown, c.lse.data()); });
  expect_taken<C>("the last rows", [](C& c) { c.of.row = 4; });
  expect_taken<C>("no rows", [](C& c) {
    c.of = {.row = N, .rows = 0}, c.shown = {nullptr, {0, N}};
  });
}

struct MergeCall : Call {
  View<float, 4> a = at(500), b = at(700), to = at(900);
  View<float, 3> lse_a{memory.data() + 2000, {B, H, N}}, lse_b{memory.data() + 2100, {B, H, N}},
      lse_to{memory.data() + 2200, {B, H, N}};

  void run() { merge(a, lse_a, b, lse_b, to, lse_to); }
};

TEST(MergeBorder, WritesIntoItsPartsButNotBesideThem) {
  using C = MergeCall;
  expect_taken<C>("all of it", [](C&) {});
  expect_taken<C>("in place", [](C& c) { c.to = c.a, c.lse_to = c.lse_a; });
  expect_taken<C>("in the other place", [](C& c) { c.to = c.b, c.lse_to = c.lse_b; });
  const auto refuse = [](const char* words, auto spoil) {
    expect_refused_call<C, ShapeError>(words, spoil);
  };
  refuse("out overlaps out_a", [](C& c) { c.to = moved(c.to, c.a.data() + 1); });
  refuse("out overlaps out_b", [](C& c) { c.to = moved(c.to, c.b.data() - 1); });
  refuse("out overlaps lse_b", [](C& c) { c.to = moved(c.to, c.lse_b.data()); });
  refuse("lse overlaps out", [](C& c) { c.lse_to = moved(c.lse_to, c.to.data()); });
  refuse("lse overlaps lse_a", [](C& c) { c.lse_to = moved(c.lse_to, c.lse_a.data() + 1); });
  refuse("no size may be negative", [](C& c) {
    for (View<float, 4>* x : {&c.a, &c.b, &c.to}) *x = {x->data(), {-1, H, N, D}};
    for (View<float, 3>* x : {&c.lse_a, &c.lse_b, &c.lse_to}) *x = {x->data(), {-1, H, N}};
  });
}

struct QuantizeCall : Call {
  std::vector<std::int8_t> room = std::vector<std::int8_t>(1000);
  View<std::int8_t, 4> numbers{room.data(), {B, H, N, D}};

  std::string written() const { return bytes_of(memory, room); }
  void run() { quantize(q, numbers, lse); }
};

TEST(QuantizeBorder, RefusesWhatCannotBe) {
  using C = QuantizeCall;
  expect_taken<C>("all of it", [](C&) {});
  const auto refuse = [](const char* words, auto spoil) {
    expect_refused_call<C, ShapeError>(words, spoil);
  };
  refuse("x is [1, -2, -6, 8]: no size may be negative", [](C& c) {
    const Dims<4> dims{B, -H, -N, D};
    c.q = {c.q.data(), dims}, c.numbers = {c.room.data(), dims};
    c.lse = {c.lse.data(), {B, -H, -N}};
  });
  refuse("scale overlaps x", [](C& c) { c.lse = moved(c.lse, c.q.data() + 3); });
  refuse("numbers is [1, 2, 6, 8] with strides [96, 0, 8, 1]: its own",
         [](C& c) { c.numbers = strided(c.numbers, 1, 0); });
  expect_refused_call<C, ValueError>("numbers is [1, 2, 6, 8], but its data is null",
                                     [](C& c) { c.numbers = nowhere(c.numbers); });
}

}  // namespace
}  // namespace heed::test
