// SPDX-License-Identifier: MIT
// No bit of a result depends on how many threads computed it.

#include "heed/core/thread_pool.hpp"
#include "heed/engine/backward.hpp"
#include "heed/engine/forward.hpp"
#include "heed/kv/kv_buffer.hpp"
#include "heed/score/causal.hpp"
#include "heed/score/query_offset.hpp"
#include "heed/score/score_rule.hpp"
#include "heed/score/selective.hpp"
#include "heed/score/standard.hpp"
#include "heed/score/window.hpp"
#include "support/buffers.hpp"
#include "support/calls.hpp"
#include "support/gradients.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <limits>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace heed::test {
namespace {

/// Of q, k and v, by a variant as short as a user would write it.
template <class T, class Variant>
Gradients<T> gradients_of(const Inputs<T>& in, const Variant& variant, const Outputs<T>& known,
                          const Options& options = {}) {
  Gradients<T> to;
  to.q = in.q.constant(std::numeric_limits<T>::quiet_NaN());
  to.k = in.k.constant(std::numeric_limits<T>::quiet_NaN());
  to.v = in.v.constant(std::numeric_limits<T>::quiet_NaN());
  backward(in.q, in.k, in.v, variant, known.out, known.lse, cotangent(in, 8), to.q, to.k, to.v,
           options);
  return to;
}

/// All tokens through a buffer, some at a time.
template <class T>
Buffered<T> buffered(const Inputs<T>& in, const KvOptions& o, const Executor& executor = {}) {
  KvBuffer<T> buffer = buffer_for(in, o);
  Buffered<T> answers = answers_to(in);
  const Index tokens = in.q.dimension(2), some = 13;
  const auto plain = [](Index, Index) { return standard; };
  for (Index from = 0; from < tokens; from += some)
    step(buffer, in, from, std::min(from + some, tokens), plain, answers, executor);
  return answers;
}

const KvOptions pruned{.budget = 40, .chunk = 4};

template <class T>
class Threads : public testing::Test {
 protected:
  template <class Variant>
  void expect_same_for_any_number(const Inputs<T>& in, const Variant& variant) {
    const Outputs<T> one = attend(in, variant);
    for (const int workers : {1, 2, 3, 7}) {
      SCOPED_TRACE(std::to_string(workers) + " threads");
      Eigen::ThreadPool pool(workers);
      const Outputs<T> many = attend(in, variant, {.executor = executor(pool)});
      expect_same_bits(one, many);
    }
  }
};
TYPED_TEST_SUITE(Threads, Scalars, ScalarName);

TYPED_TEST(Threads, DoNotChangeABitOfStandardAttention) {
  for (const Shape& s : {tokens(1, 16), tokens(5, 16, 3, 3), tokens(97, 16), tokens(300, 16),
                         tokens(130, 24, 4, 2, 3), tokens(33, 8, 1, 1, 7),
                         Shape{1, 8, 1, 1, 900, 16, 16}, Shape{2, 2, 2, 40, 513, 8, 24}}) {
    SCOPED_TRACE(describe(s));
    const auto in = inputs<TypeParam>(s, 1);
    for (const Index left : {Index(30), unbounded})
      for (const Index right : {Index(0), unbounded})
        this->expect_same_for_any_number(
            in, query_offset(s.keys - s.queries) | standard | window(left, right));
  }
}

TYPED_TEST(Threads, DoNotChangeABitOfSelectiveAttention) {
  for (const Shape& s : {tokens(1, 16), tokens(97, 16), tokens(300, 16, 2, 1),
                         tokens(130, 24, 4, 2, 3), tokens(40, 8, 8, 8, 2), tokens(1500, 8, 3, 3)}) {
    SCOPED_TRACE(describe(s));
    this->expect_same_for_any_number(inputs<TypeParam>(s, 3), standard | causal | selective);
  }
}

/// The selecting head in each share of the heads.
TYPED_TEST(Threads, DoNotChangeABitWhereAnotherHeadSelects) {
  const auto in = inputs<TypeParam>(tokens(700, 8, 4, 2), 3);
  for (Index head = 0; head < 4; ++head)
    this->expect_same_for_any_number(in, standard | causal | selecting({.head = head}));
}

TYPED_TEST(Threads, DoNotChangeABitOfTheGradients) {
  using T = TypeParam;
  const auto expect = [](const Inputs<T>& in, const auto& variant) {
    const Outputs<T> known = attend(in, variant);
    const Gradients<T> one = gradients_of(in, variant, known);
    for (const int workers : {1, 2, 3, 7}) {
      SCOPED_TRACE(std::to_string(workers) + " threads");
      Eigen::ThreadPool pool(workers);
      expect_same_bits(one, gradients_of(in, variant, known, {.executor = executor(pool)}));
    }
  };
  for (const Shape& s : {tokens(97, 16), tokens(130, 24, 2, 2), tokens(130, 24, 4, 2, 3),
                         tokens(300, 16, 3, 1), tokens(33, 8, 1, 1, 7), tokens(5, 8, 4, 4, 2)}) {
    SCOPED_TRACE(describe(s));
    const Inputs<T> in = inputs<T>(s, 7);
    expect(in, standard | causal);
    expect(in, standard | causal | selective);
  }
}

TYPED_TEST(Threads, DoNotChangeABitOfWhatABufferAnswers) {
  using T = TypeParam;
  for (const Shape& s : {tokens(130, 24, 4, 2, 3), tokens(97, 16, 2, 2), tokens(60, 8, 1, 1, 7)}) {
    SCOPED_TRACE(describe(s));
    const Inputs<T> in = inputs<T>(s, 9);
    const Buffered<T> one = buffered(in, pruned);
    for (const int workers : {1, 2, 3, 7}) {
      SCOPED_TRACE(std::to_string(workers) + " threads");
      Eigen::ThreadPool pool(workers);
      expect_same_bits(one, buffered(in, pruned, executor(pool)));
    }
  }
}

/// Every other task in this thread, and the rest in another.
Executor two_threads() {
  return {nullptr, 2, [](void*, Index tasks, Executor::Body body, void* context) {
            std::thread other([=] {
              for (Index task = 1; task < tasks; task += 2) body(context, task, 1);
            });
            for (Index task = 0; task < tasks; task += 2) body(context, task, 0);
            other.join();
          }};
}

/// The thread without the selecting head takes its scores from the other, if that is ahead; here
/// both begin together, and then it is made to be, by two blocks.
TYPED_TEST(Threads, WorkOutTheSelectingHeadsScoresOnce) {
  using T = TypeParam;
  const auto in = inputs<T>(tokens(700, 8, 2, 2), 5);
  constexpr Index two_blocks = 2 * 96 * 128 / simd::width<T>;
  const auto too_late = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  Index all = 0;  // the rule's calls for a head, where one thread works
  std::mutex mutex;
  std::map<std::thread::id, std::array<Index, 2>> calls;
  const auto may_go_on = [&](Index head) {
    if (all == 0 || std::chrono::steady_clock::now() > too_late) return true;
    if (calls.size() < 2) return false;
    Index first = 0;
    for (const auto& [thread, count] : calls) first = std::max(first, count[0]);
    return head == 0 || first >= std::min(all, calls[std::this_thread::get_id()][1] + two_blocks);
  };
  const auto counted = [&](auto s, const auto& at) {
    std::unique_lock lock(mutex);
    ++calls[std::this_thread::get_id()][std::size_t(at.head)];
    while (!may_go_on(at.head)) {
      lock.unlock();
      std::this_thread::yield();
      lock.lock();
    }
    return s;
  };
  const auto variant = standard | score_rule(counted) | causal | selective;
  attend(in, variant);
  all = std::exchange(calls, {}).begin()->second[0];
  attend(in, variant, {.executor = two_threads()});
  ASSERT_EQ(calls.size(), 2u);
  calls.erase(std::this_thread::get_id());  // which has the selecting head
  EXPECT_GT(calls.begin()->second[1], 0);
  EXPECT_LT(calls.begin()->second[0], all / 4);
}

/// What the stage writes is complete, and the same.
TYPED_TEST(Threads, DoNotChangeABitOfTheCarry) {
  using T = TypeParam;
  const Inputs<T> in = inputs<T>(tokens(210, 16, 4, 4, 3), 4);
  Tensor<T, 2> alone(3, 210), together(3, 210), use(3, 210), use_together(3, 210);
  attend(in, standard | causal | selective.carry_out(alone).memory(use));
  Eigen::ThreadPool pool(3);
  attend(in, standard | causal | selective.carry_out(together).memory(use_together),
         {.executor = executor(pool)});
  EXPECT_TRUE(same_bits(alone, together));
  EXPECT_TRUE(same_bits(use, use_together));
}

TYPED_TEST(Threads, ManyCallsShareOnePoolAndOneWorkspace) {
  using T = TypeParam;
  Eigen::ThreadPool pool(3);
  const Inputs<T> in = inputs<T>(tokens(64, 16, 4, 4, 2), 5),
                  other = inputs<T>(tokens(90, 48, 3, 3), 6, 50);
  const auto variant = standard | causal | selective;
  const Outputs<T> one = attend(in, variant), two = attend(other, variant);
  Workspace workspace;
  const Options options{.executor = executor(pool), .workspace = &workspace};
  for (int call = 0; call < 30; ++call) {
    expect_same_bits(one, attend(in, variant, options));
    expect_same_bits(two, attend(other, variant, options));
  }
}

/// Calls of all kinds, on the threads of one pool.
TYPED_TEST(Threads, SeveralMayCallAtOnce) {
  using T = TypeParam;
  const auto variant = standard | causal | selective;
  std::vector<Inputs<T>> in;
  std::vector<Outputs<T>> out;
  std::vector<Gradients<T>> grads;
  std::vector<Buffered<T>> answers;
  for (const Shape& s : {tokens(130, 16, 4, 2, 2), tokens(210, 8, 3, 3), tokens(40, 24, 2, 2, 3)}) {
    in.push_back(inputs<T>(s, 11 + in.size()));
    out.push_back(attend(in.back(), variant));
    grads.push_back(gradients_of(in.back(), variant, out.back()));
    answers.push_back(buffered(in.back(), pruned));
  }
  for (const int workers : {2, 3}) {
    SCOPED_TRACE(std::to_string(workers) + " threads");
    Eigen::ThreadPool pool(workers);
    std::vector<std::thread> callers;
    for (std::size_t c = 0; c < in.size(); ++c)
      callers.emplace_back([&, c] {
        Workspace workspace;
        const Options options{.executor = executor(pool), .workspace = &workspace};
        for (int call = 0; call < 5; ++call) {
          expect_same_bits(out[c], attend(in[c], variant, options));
          expect_same_bits(grads[c], gradients_of(in[c], variant, out[c], options));
          expect_same_bits(answers[c], buffered(in[c], pruned, options.executor));
        }
      });
    for (std::thread& caller : callers) caller.join();
  }
}

/// A call made on a thread of its own pool: were it to wait for the others, and they for it,
/// neither would end.
TYPED_TEST(Threads, MayThemselvesMakeCallsOnTheirPool) {
  using T = TypeParam;
  const auto variant = standard | causal | selective;
  const Inputs<T> in = inputs<T>(tokens(130, 16, 4, 4, 3), 7);
  const Outputs<T> alone = attend(in, variant);
  for (int trial = 0; trial < 20; ++trial) {
    std::array<Outputs<T>, 2> got;
    Eigen::ThreadPool pool(2);
    Eigen::Barrier both_are_there(2), done(2);
    for (Outputs<T>& to : got)
      pool.Schedule([&] {
        both_are_there.Notify();
        both_are_there.Wait();
        to = attend(in, variant, {.executor = executor(pool)});
        done.Notify();
      });
    done.Wait();
    for (const Outputs<T>& each : got) expect_same_bits(each, alone);
  }
}

}  // namespace
}  // namespace heed::test
