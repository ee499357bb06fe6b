// SPDX-License-Identifier: MIT
// What a backward call promises beside its numbers: threads, layouts, NaN that stays where it is,
// errors.

#include "heed/core/thread_pool.hpp"
#include "support/mixtures.hpp"

#include <gtest/gtest.h>

#include <array>
#include <cstdint>
#include <cstring>
#include <functional>
#include <limits>
#include <string>

namespace heed::test {
namespace {

template <class T>
class BackwardCalls : public testing::Test {
 protected:
  static constexpr T nan = std::numeric_limits<T>::quiet_NaN();
  static constexpr T infinity = std::numeric_limits<T>::infinity();

  static Mixture<T> causally(bool selects) {
    Mixture<T> m;
    m.causal = true;
    m.selects = selects;
    return m;
  }
  /// All is zero at one token.
  static bool is_zero(const Tensor<T>& x, Index token) {
    for (Index b = 0; b < x.dimension(0); ++b)
      for (Index h = 0; h < x.dimension(1); ++h)
        for (Index d = 0; d < x.dimension(3); ++d)
          if (x(b, h, token, d) != T(0)) return false;
    return true;
  }
  /// All the stages that own tensors.
  static Mixture<T> laden(const Shape& s, bool selects, bool shared) {
    Mixture<T> m = causally(selects);
    Mixer<T> mixer(s, 70);
    mixer.taus(m, shared), mixer.bias(m, shared ? 15 : 0), mixer.slopes(m), mixer.sinks(m);
    m.position = Gain{Gain::sigmoid, 0.3};
    m.cap = 2;
    if (selects) mixer.selection(m, 31, false);
    return m;
  }
};
TYPED_TEST_SUITE(BackwardCalls, Scalars, ScalarName);

// ---- threads and memory

TYPED_TEST(BackwardCalls, DoNotDependOnTheNumberOfThreads) {
  using T = TypeParam;
  for (const Shape& s : {tokens(130, 20, 4, 2, 3), tokens(97, 8, 6, 6), tokens(5, 8, 4, 4, 2)}) {
    SCOPED_TRACE(describe(s));
    const Inputs<T> in = inputs<T>(s, 1);
    const Tensor<T> grad_out = cotangent(in, 2);
    for (const Mixture<T>& m :
         {this->causally(false), this->causally(true), this->laden(s, false, false),
          this->laden(s, false, true), this->laden(s, true, false), this->laden(s, true, true)}) {
      const Mixed<T> known = attend(in, m);
      const Gradients<T> alone = m.backward(in, known, grad_out);
      for (const int workers : {1, 2, 3, 7}) {
        SCOPED_TRACE(std::to_string(workers) + " threads");
        Eigen::ThreadPool pool(workers);
        for (int call = 0; call < 3; ++call)
          expect_same_bits(m.backward(in, known, grad_out, {.executor = executor(pool)}), alone);
      }
    }
  }
}

/// Threads may take tasks in any order; an executor that runs them backwards shows it every time.
TYPED_TEST(BackwardCalls, DoNotDependOnTheOrderOfTasks) {
  using T = TypeParam;
  const Executor backwards(nullptr, 2, [](void*, Index tasks, Executor::Body body, void* context) {
    for (Index task = tasks; task-- > 0;) body(context, task, task % 2);
  });
  const Shape s = tokens(60, 12, 6, 3, 2);
  const Inputs<T> in = inputs<T>(s, 1);
  const Tensor<T> grad_out = cotangent(in, 2);
  Mixture<T> by_position = this->causally(false), by_token = by_position;
  by_position.position = Gain{Gain::linear, 0.3};
  Mixer<T>(s, 72).taus(by_token, true);
  int which = 0;
  for (const Mixture<T>& m : {this->causally(false), this->causally(true), by_position, by_token,
                              this->laden(s, false, true), this->laden(s, true, true)}) {
    SCOPED_TRACE(which++);
    const Mixed<T> known = attend(in, m);
    expect_same_bits(m.backward(in, known, grad_out, {.executor = backwards}),
                     m.backward(in, known, grad_out));
  }
}

TYPED_TEST(BackwardCalls, DoNotSeeWhatTheWorkspaceHeldBefore) {
  using T = TypeParam;
  const Shape s = tokens(101, 11, 4, 2, 2);
  const Inputs<T> in = inputs<T>(s, 3);
  const Tensor<T> grad_out = cotangent(in, 4);
  Mixture<T> projecting = this->causally(true);
  Mixer<T>(s, 71).selection(projecting, 31, true);
  for (const Mixture<T>& m : {this->causally(false), this->causally(true), projecting,
                              this->laden(s, false, true), this->laden(s, true, false)}) {
    const Mixed<T> known = attend(in, m);
    Workspace workspace;
    const Gradients<T> fresh = m.backward(in, known, grad_out, {.workspace = &workspace});
    for (const int byte : {0xFF, 0x7F, 0x40}) {
      std::memset(static_cast<void*>(workspace.reserve(0)), byte, workspace.bytes());
      expect_same_bits(m.backward(in, known, grad_out, {.workspace = &workspace}), fresh);
    }
  }
}

// ---- layouts

TYPED_TEST(BackwardCalls, ReadAndWriteTokensBeforeHeads) {
  using T = TypeParam;
  const Index B = 2, H = 4, G = 2, N = 50, D = 12;
  const Inputs<T> in = inputs<T>(tokens(N, D, H, G, B), 5);
  const Tensor<T> grad_out = cotangent(in, 6);
  const Eigen::array<int, 4> swap{0, 2, 1, 3};
  const auto swapped = [&](const Tensor<T>& x) { return Tensor<T>(x.shuffle(swap)); };
  for (const bool selects : {false, true}) {
    const Mixture<T> m = this->causally(selects);
    const Mixed<T> known = attend(in, m);
    const Gradients<T> want = m.backward(in, known, grad_out);
    const Tensor<T> q = swapped(in.q), k = swapped(in.k), v = swapped(in.v),
                    out = swapped(known.out), grad = swapped(grad_out);
    Tensor<T> grad_q = q, grad_k = k, grad_v = v;
    const auto view = [&](auto& x, Index heads) { return bnhd(x.data(), B, N, heads, D); };
    Gradients<T> stages;
    m.backward({view(q, H), view(k, G), view(v, G), view(out, H), view(grad, H), known.lse,
                view(grad_q, H), view(grad_k, G), view(grad_v, G)},
               stages);
    EXPECT_TRUE(same_bits(swapped(grad_q), want.q));
    EXPECT_TRUE(same_bits(swapped(grad_k), want.k));
    EXPECT_TRUE(same_bits(swapped(grad_v), want.v));
  }
}

TYPED_TEST(BackwardCalls, LeaveTheGapsBetweenRowsAlone) {
  using T = TypeParam;
  const Index N = 40, D = 10, wide = 13;
  const Inputs<T> in = inputs<T>(tokens(N, D, 2, 2), 7);
  const Tensor<T> grad_out = cotangent(in, 8);
  const Mixture<T> m = this->causally(true);
  const Mixed<T> known = attend(in, m);
  const Gradients<T> want = m.backward(in, known, grad_out);
  const auto spread = [&](const Tensor<T>& x) {
    Tensor<T> y(1, 2, N, wide);
    y.setConstant(this->nan);
    y.slice(Eigen::array<Index, 4>{0, 0, 0, 0}, x.dimensions()) = x;
    return y;
  };
  const auto view = [&](auto& x) {
    using Number = std::remove_pointer_t<decltype(x.data())>;
    return View<Number, 4>(x.data(), {1, 2, N, D}, {2 * N * wide, N * wide, wide, 1});
  };
  const Tensor<T> q = spread(in.q), k = spread(in.k), v = spread(in.v), out = spread(known.out),
                  grad = spread(grad_out);
  Tensor<T> grad_q(1, 2, N, wide);
  grad_q.setConstant(T(-7));
  Tensor<T> grad_k = grad_q, grad_v = grad_q;
  Gradients<T> stages;
  m.backward({view(q), view(k), view(v), view(out), view(grad), known.lse, view(grad_q),
              view(grad_k), view(grad_v)},
             stages);
  const auto expect = [&](const Tensor<T>& got, const Tensor<T>& wanted) {
    for (Index h = 0; h < 2; ++h)
      for (Index i = 0; i < N; ++i)
        for (Index d = 0; d < wide; ++d)
          ASSERT_EQ(got(0, h, i, d), d < D ? wanted(0, h, i, d) : T(-7)) << h << ' ' << i;
  };
  expect(grad_q, want.q), expect(grad_k, want.k), expect(grad_v, want.v);
}

// ---- what must not leak

/// A key that is masked in every row may hold anything, and so may what belongs to it. Its own
/// gradients are zero.
TYPED_TEST(BackwardCalls, AHiddenKeyMayHoldAnything) {
  using T = TypeParam;
  const Shape s = tokens(60, 12, 4, 2, 2);
  const Index hidden_key = 21;
  for (const bool selects : {false, true}) {
    Mixture<T> m = this->laden(s, selects, false);
    m.curved = true;
    m.mask = Tensor<bool>(1, 1, 1, 60);
    m.mask.setConstant(true);
    m.mask(0, 0, 0, hidden_key) = false;
    const Inputs<T> in = inputs<T>(s, 9, 0.5);
    const Tensor<T> grad_out = cotangent(in, 10);
    const Gradients<T> clean = gradients(in, m, grad_out);
    for (const T poison : {this->nan, this->infinity, -this->infinity})
      for (const char* where : {"k", "v", "tau_k", "tau_v"}) {
        SCOPED_TRACE(testing::Message() << poison << " in " << where << ", selects " << selects);
        Inputs<T> bad = in;
        Mixture<T> with = m;
        const std::string name = where;
        if (name == "k") bad.k.chip(hidden_key, 2).setConstant(poison);
        if (name == "v") bad.v.chip(hidden_key, 2).setConstant(poison);
        if (name == "tau_k") with.tau_k.chip(hidden_key, 2).setConstant(poison);
        if (name == "tau_v") with.tau_v.chip(hidden_key, 2).setConstant(poison);
        expect_close(gradients(bad, with, grad_out), clean);
      }
    EXPECT_TRUE(this->is_zero(clean.k, hidden_key));
    EXPECT_TRUE(this->is_zero(clean.v, hidden_key));
  }
}

/// A row that sees nothing: neither its query nor the gradient of its output is looked at.
TYPED_TEST(BackwardCalls, ARowThatSeesNothingMayHoldAnything) {
  using T = TypeParam;
  const Shape s = tokens(60, 12, 4, 2, 2);
  const Index dead = 33;
  for (const bool selects : {false, true})
    for (const bool has_sinks : {false, true}) {
      Mixture<T> m = this->laden(s, selects, false);
      if (!has_sinks) m.sinks = {};
      m.mask = Tensor<bool>(1, 1, 60, 1);
      m.mask.setConstant(true);
      m.mask(0, 0, dead, 0) = false;
      const Inputs<T> in = inputs<T>(s, 11);
      const Tensor<T> grad_out = cotangent(in, 12);
      const Mixed<T> known = attend(in, m);
      const Gradients<T> clean = m.backward(in, known, grad_out);
      const auto check = [&](const char* where, const Inputs<T>& bad, const Mixture<T>& with,
                             const Tensor<T>& grad) {
        SCOPED_TRACE(testing::Message()
                     << "in " << where << ", selects " << selects << ", sinks " << has_sinks);
        expect_close(with.backward(bad, attend(bad, with), grad), clean);
      };
      for (const T poison : {this->nan, this->infinity}) {
        Tensor<T> grad = grad_out;
        grad.chip(dead, 2).setConstant(poison);
        check("grad_out", in, m, grad);
        Inputs<T> bad = in;
        bad.q.chip(dead, 2).setConstant(poison);
        check("q", bad, m, grad_out);
        Mixture<T> with = m;
        with.tau_q.chip(dead, 2).setConstant(poison);
        check("tau_q", in, with, grad_out);
      }
      EXPECT_TRUE(this->is_zero(clean.q, dead));
    }
}

TYPED_TEST(BackwardCalls, PaddingMayHoldAnything) {
  using T = TypeParam;
  const Shape s = tokens(75, 8, 2, 1, 3);
  for (const bool selects : {false, true}) {
    Mixture<T> m = this->causally(selects);
    m.length = Tensor<std::int64_t, 1>(3);
    m.length.setValues({0, 33, 70});
    const Inputs<T> in = inputs<T>(s, 13);
    const Tensor<T> grad_out = cotangent(in, 14);
    const Gradients<T> clean = gradients(in, m, grad_out);
    for (const T poison : {this->nan, this->infinity}) {
      Inputs<T> bad = in;
      Tensor<T> grad = grad_out;
      for (Index b = 0; b < 3; ++b)
        for (Index i = m.length(b); i < 75; ++i)
          for (Tensor<T>* x : {&bad.q, &bad.k, &bad.v, &grad})
            for (Index h = 0; h < x->dimension(1); ++h)
              for (Index d = 0; d < 8; ++d) (*x)(b, h, i, d) = poison;
      expect_same_bits(gradients(bad, m, grad), clean);
    }
  }
}

/// Without a selection, what comes back to a later row reaches no earlier query.
TYPED_TEST(BackwardCalls, ANaNComingBackStaysInItsRow) {
  using T = TypeParam;
  const Inputs<T> in = inputs<T>(tokens(140, 12, 2, 1), 15);
  const Tensor<T> grad_out = cotangent(in, 16);
  const Gradients<T> clean = gradients(in, this->causally(false), grad_out);
  for (const Index row : {1, 12, 95, 96, 139}) {
    Tensor<T> bad = grad_out;
    bad.chip(row, 2).setConstant(this->nan);
    const Gradients<T> got = gradients(in, this->causally(false), bad);
    EXPECT_TRUE(close(slice(got.q, 0, row), slice(clean.q, 0, row)));
    EXPECT_TRUE(close(slice(got.q, row + 1, 140), slice(clean.q, row + 1, 140)));
    EXPECT_TRUE(close(slice(got.k, row + 1, 140), slice(clean.k, row + 1, 140)));
    EXPECT_TRUE(close(slice(got.v, row + 1, 140), slice(clean.v, row + 1, 140)));
  }
}

// ---- errors

TYPED_TEST(BackwardCalls, NameWhatDoesNotFitAndWriteNothing) {
  using T = TypeParam;
  const Shape s = tokens(6, 8, 4, 2, 2);
  const Inputs<T> in = inputs<T>(s, 17);
  const Tensor<T> grad_out = cotangent(in, 18), wrong = normal<T>(19, 2, 4, 5, 8);
  const Tensor<T, 3> short_lse = normal<T>(20, 2, 4, 5);
  const Mixture<T> m = this->laden(s, true, false);
  const Mixed<T> known = attend(in, m);

  // A call that would do, but for one thing.
  struct Call {
    Mixture<T> mixture;
    Inputs<T> in;
    Tensor<T> out, grad_out;
    Tensor<T, 3> lse;
    Gradients<T> to;
  };
  const auto expect = [&](const std::string& words, const std::function<void(Call&)>& spoil) {
    Call c{m, in, known.out, grad_out, known.lse, m.unwritten(in)};
    each_gradient(c.to, c.to, [](const char*, auto& x, auto&) { x.setConstant(T(3)); });
    spoil(c);
    const Gradients<T> before = c.to;
    const std::string message = message_of<ShapeError>([&] {
      c.mixture.backward({c.in.q, c.in.k, c.in.v, c.out, c.grad_out, c.lse, c.to.q, c.to.k, c.to.v},
                         c.to);
    });
    EXPECT_NE(message.find(words), std::string::npos) << message;
    expect_same_bits(c.to, before);
  };
  expect("k is [2, 2, 6, 9], q is [2, 4, 6, 8]",
         [](Call& c) { c.in.k = normal<T>(1, 2, 2, 6, 9); });
  expect("out is [2, 4, 5, 8]", [&](Call& c) { c.out = wrong; });
  expect("lse is [2, 4, 5], should be [2, 4, 6]", [&](Call& c) { c.lse = short_lse; });
  expect("grad_out is [2, 4, 5, 8], should be [2, 4, 6, 8]", [&](Call& c) { c.grad_out = wrong; });
  expect("grad_q is [2, 4, 5, 8], should be [2, 4, 6, 8]", [&](Call& c) { c.to.q = wrong; });
  expect("grad_k is [2, 4, 5, 8], should be [2, 2, 6, 8]", [&](Call& c) { c.to.k = wrong; });
  expect("grad_v is [2, 4, 5, 8], should be [2, 2, 6, 8]", [&](Call& c) { c.to.v = wrong; });
  expect("query_temperature's gradient is [2, 4, 5]", [&](Call& c) { c.to.tau_q = short_lse; });
  expect("key_temperature's gradient is [2, 4, 5]", [&](Call& c) { c.to.tau_k = short_lse; });
  expect("value_temperature's gradient is [2, 4, 5]", [&](Call& c) { c.to.tau_v = short_lse; });
  expect("bias' gradient is [2, 4, 5, 8]", [&](Call& c) { c.to.bias = wrong; });
  expect("gradient is [3]", [&](Call& c) { c.to.slopes = Tensor<T, 1>(3).setZero(); });
  expect("sinks' gradient is [3]", [&](Call& c) { c.to.sinks = Tensor<T, 1>(3).setZero(); });
  expect("grad_carry_in is [2, 5]", [&](Call& c) { c.to.carry_in = zeros<T, 2>({2, 5}); });
  expect("grad_carry_out is [2, 5]", [&](Call& c) {
    c.mixture.grad_carry_out = zeros<T, 2>({2, 5});
  });
  expect("grad_memory is [2, 5]", [&](Call& c) { c.mixture.grad_memory = zeros<T, 2>({2, 5}); });
  expect("grad_projection's queries is [2, 6, 4]", [&](Call& c) {
    c.mixture.sel_q = c.mixture.sel_k = c.to.sel_k = zeros<T, 3>({2, 6, 3});
    c.to.sel_q = zeros<T, 3>({2, 6, 4});
  });
}

TYPED_TEST(BackwardCalls, RefuseRowsWithGapsBetweenNumbers) {
  using T = TypeParam;
  Tensor<T> x = normal<T>(1, 1, 1, 4, 16);
  const Tensor<T, 3> lse = zeros<T, 3>({1, 1, 4});
  const Dims<4> dims{1, 1, 4, 8}, dense{64, 64, 16, 1}, gaps{64, 64, 16, 2};
  for (int which = 0; which < 8; ++which) {
    const auto view = [&](int n) { return View<T, 4>(x.data(), dims, n == which ? gaps : dense); };
    Gradients<T> stages;
    EXPECT_THROW(
        this->causally(false).backward(
            {view(0), view(1), view(2), view(3), view(4), lse, view(5), view(6), view(7)}, stages),
        ShapeError)
        << which;
  }
}

}  // namespace
}  // namespace heed::test
