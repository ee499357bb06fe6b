// SPDX-License-Identifier: MIT
// What cannot be seen from Python; the rest is in the Python files beside it.
#include "attention.hpp"

#include "composed.hpp"
#include "threads.hpp"

#include <gtest/gtest.h>

#include <ATen/ATen.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/record_function.h>
#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <set>
#include <string>
#include <torch/csrc/autograd/autograd.h>
#include <vector>

namespace heed_torch {
namespace {

/// Names of the operators that were called while it lived.
class Calls {
 public:
  Calls()
      : handle_(at::addThreadLocalCallback(at::RecordFunctionCallback(
            [](const at::RecordFunction& f) -> std::unique_ptr<at::ObserverContext> {
              names().insert(f.name());
              return nullptr;
            }))) {
    names().clear();
  }
  ~Calls() { at::removeCallback(handle_); }
  std::size_t count(const std::string& name) const { return names().count(name); }

 private:
  static std::multiset<std::string>& names() {
    static std::multiset<std::string> all;
    return all;
  }
  at::CallbackHandle handle_;
};

at::Tensor normal(at::IntArrayRef sizes, at::ScalarType type = at::kFloat) {
  return at::randn(sizes, at::TensorOptions().dtype(type)).requires_grad_();
}

Settings causal_selective() {
  Settings s;
  s.causal = s.selective = true;
  return s;
}

at::Tensor selective(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v) {
  Tensors in;
  in.q = q, in.k = k, in.v = v;
  return attention(in, causal_selective()).out;
}

class AttentionOf : public testing::TestWithParam<at::ScalarType> {};
INSTANTIATE_TEST_SUITE_P(Numbers, AttentionOf, testing::Values(at::kFloat, at::kDouble));

TEST_P(AttentionOf, AgreesWithTheComposition) {
  const double tolerance = GetParam() == at::kFloat ? 1e-5 : 1e-10;
  at::manual_seed(1);
  const at::Tensor q = normal({2, 3, 150, 16}, GetParam()), k = normal({2, 3, 150, 16}, GetParam()),
                   v = normal({2, 3, 150, 8}, GetParam()),
                   weights = at::randn({2, 3, 150, 8}, v.options());
  const at::Tensor out = selective(q, k, v), wanted = composed_selective_attention(q, k, v);
  EXPECT_LT((out - wanted).abs().max().item<double>(), tolerance);

  const auto grads = torch::autograd::grad({(out * weights).sum()}, {q, k, v});
  const auto wanted_grads = torch::autograd::grad({(wanted * weights).sum()}, {q, k, v});
  for (std::size_t i = 0; i < 3; ++i) {
    const double largest = std::max(1., wanted_grads[i].abs().max().item<double>());
    EXPECT_LT((grads[i] - wanted_grads[i]).abs().max().item<double>(), tolerance * largest) << i;
  }
}

/// What is copied in a forward and a backward pass.
std::size_t copies_of(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v) {
  const Calls calls;
  const at::Tensor out = selective(q, k, v);
  torch::autograd::grad({out}, {q, k, v}, {at::ones_like(out)});
  return calls.count("aten::copy_") + calls.count("aten::contiguous");
}

TEST(Attention, CopiesNothingThatIsContiguous) {
  EXPECT_EQ(copies_of(normal({2, 3, 20, 8}), normal({2, 3, 20, 8}), normal({2, 3, 20, 8})), 0u);
}

TEST(Attention, CopiesNothingWhereTokensComeFirst) {
  const auto turned = [] { return normal({2, 20, 3, 8}).transpose(1, 2); };
  EXPECT_EQ(copies_of(turned(), turned(), turned()), 0u);
}

TEST(Attention, CopiesWhatHasNoContiguousRows) {
  EXPECT_EQ(copies_of(normal({2, 3, 8, 20}).transpose(2, 3), normal({2, 3, 20, 8}),
                      normal({2, 3, 20, 8})),
            1u);
}

TEST(Attention, LeavesItsResultInTheMemoryOrderOfTheQueries) {
  const at::Tensor kv = normal({2, 3, 20, 8});
  EXPECT_TRUE(selective(normal({2, 3, 20, 8}), kv, kv).is_contiguous());
  EXPECT_TRUE(
      selective(normal({2, 20, 3, 8}).transpose(1, 2), kv, kv).transpose(1, 2).is_contiguous());
}

TEST(Attention, PassesOnWhatHeedSays) {
  try {
    selective(normal({1, 2, 5, 8}), normal({1, 2, 4, 8}), normal({1, 2, 4, 8}));
    FAIL() << "did not throw";
  } catch (const c10::Error& error) {
    EXPECT_NE(std::string(error.what_without_backtrace()).find("q has 5 rows, k has 4"),
              std::string::npos)
        << error.what_without_backtrace();
  }
}

TEST(Attention, GivesWhatIsAskedFor) {
  Tensors in;
  in.q = in.k = in.v = normal({2, 3, 20, 8});
  Settings settings = causal_selective();
  EXPECT_FALSE(attention(in, settings).memory.defined());
  settings.returns_memory = true;
  const Outputs outputs = attention(in, settings);
  EXPECT_FALSE(outputs.carry_out.defined());
  EXPECT_EQ(outputs.memory.sizes(), at::IntArrayRef({2, 20}));
  EXPECT_TRUE(outputs.memory.requires_grad());
}

TEST(Attention, CarriesNothingUnlessItIsSelective) {
  Tensors in;
  in.q = in.k = in.v = normal({2, 3, 20, 8});
  in.carry_in = normal({2, 20});
  EXPECT_THROW(attention(in, {}), c10::Error);
}

TEST(Operators, AreFoundByName) {
  const auto op = c10::Dispatcher::singleton().findSchemaOrThrow("heed::selective_attention", "");
  const at::Tensor q = normal({1, 2, 9, 4}), k = normal({1, 2, 9, 4}), v = normal({1, 2, 9, 4});
  torch::jit::Stack stack{q, k, v};
  for (std::size_t i = 3; i < op.schema().arguments().size(); ++i)
    stack.push_back(*op.schema().arguments()[i].default_value());
  op.callBoxed(&stack);
  ASSERT_EQ(stack.size(), 1u);
  EXPECT_TRUE(at::equal(stack[0].toTensor(), selective(q, k, v)));
}

TEST(Threads, RunEveryTaskOnceAndNoWorkerTwiceAtOnce) {
  for (const int count : {1, 2, 5}) {
    at::set_num_threads(count);
    const heed::Executor executor = threads();
    EXPECT_EQ(executor.workers(), count);
    std::vector<std::atomic<int>> ran(100), busy(std::size_t(count) + 1);
    std::atomic<int> clashes{0};
    executor(100, [&](heed::Index task, heed::Index worker) {
      clashes += busy[std::size_t(worker)]++;
      ++ran[std::size_t(task)];
      --busy[std::size_t(worker)];
    });
    EXPECT_EQ(clashes, 0);
    for (const auto& times : ran) EXPECT_EQ(times, 1);
  }
  at::set_num_threads(1);
}

TEST(Threads, StayAloneInsideAParallelRegion) {
  at::set_num_threads(2);
  at::parallel_for(0, 2, 1, [](std::int64_t, std::int64_t) { EXPECT_EQ(threads().workers(), 1); });
  at::set_num_threads(1);
}

}  // namespace
}  // namespace heed_torch
