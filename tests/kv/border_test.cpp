// SPDX-License-Identifier: MIT
// Buffers and steps that cannot be right: refused before anything changes, by a message that names
// the value and the rule.
#include "support/border.hpp"

#include "heed/kv/kv_buffer.hpp"
#include "heed/score/standard.hpp"

#include <gtest/gtest.h>

#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <vector>

namespace heed::test {
namespace {

template <class S>
class BufferBorder : public testing::Test {
 protected:
  static std::string refusal(const KvShape& shape, const KvOptions& options) {
    return message_of<ValueError>([&] { KvBuffer<float, S>(shape, options); });
  }
};
using Storages = testing::Types<float, std::int8_t>;
TYPED_TEST_SUITE(BufferBorder, Storages);

TYPED_TEST(BufferBorder, RefusesWhatNoMemoryHolds) {
  const std::vector<KvShape> shapes{
      {.batch = largest},
      {.heads = largest},
      {.heads = power_of_two(61), .key_heads = power_of_two(61)},
      {.dim = largest},
      {.dim = power_of_two(60)},
      {.heads = power_of_two(6), .key_heads = power_of_two(6), .dim = power_of_two(58)},
      {.value_dim = largest},
      {.batch = power_of_two(31), .dim = power_of_two(31)}};
  for (const KvShape& shape : shapes)
    for (const std::optional<Index> budget : {std::optional<Index>(), std::optional<Index>(8)}) {
      const std::string said = this->refusal(shape, {.budget = budget});
      EXPECT_NE(said.find("which no memory holds"), std::string::npos) << said;
      EXPECT_NE(said.find("batch " + std::to_string(shape.batch)), std::string::npos) << said;
      EXPECT_NE(said.find("dim " + std::to_string(shape.dim)), std::string::npos) << said;
    }
  for (const Index budget : {largest, power_of_two(62), power_of_two(56)})
    for (const Index dim : {1, 4, 64}) {
      const std::string said = this->refusal({.dim = dim}, {.budget = budget});
      EXPECT_NE(said.find("budget " + std::to_string(budget) + " take more than"),
                std::string::npos)
          << said;
    }
}

TYPED_TEST(BufferBorder, RefusesRulesThatDoNotExist) {
  for (const int name : {9, -1})
    EXPECT_EQ(
        message_of<ValueError>([&] { this->refusal({}, {.evict = static_cast<Evict>(name)}); }),
        "evict is " + std::to_string(name) + ", must be most_masked, least_attended or oldest");
  EXPECT_EQ(this->refusal({}, {.when = static_cast<EvictWhen>(3)}),
            "when is 3, must be before_row, after_row or chunk_end");
  const std::string said = this->refusal({}, {.budget = 8, .recent = largest});
  EXPECT_NE(said.find("recent keeps 9223372036854775807"), std::string::npos) << said;
  EXPECT_EQ(this->refusal({}, {.recent = largest}), "nothing was thrown");  // none is to go
}

/// A buffer of two heads that holds three tokens, and a step of two more.
struct StepCall {
  static constexpr Index H = 2, N = 2, D = 8;
  std::vector<float> memory = std::vector<float>(1000, 0.25f);
  std::vector<std::int64_t> log = std::vector<std::int64_t>(20, 77);
  KvBuffer<float> buffer{{.heads = H, .key_heads = H, .dim = D, .value_dim = D}, {.budget = 3}};
  View<float, 4> q = at(100), k = at(200), v = at(300), out = at(400);
  View<float, 3> lse{memory.data() + 500, {1, H, N}};
  View<const std::int64_t, 1> tokens{};
  View<std::int64_t, 2> evict_row{log.data(), {1, 8}};
  double scale = 1;
  Executor executor{};

  StepCall() {
    run(), run();
    log.assign(log.size(), 77);
  }
  View<float, 4> at(Index place) { return {memory.data() + place, {1, H, N, D}}; }
  /// The buffer's too.
  std::string written() const {
    const KvSlots<float>& s = buffer.sequence(0).slots();
    return bytes_of(memory, log, std::vector<Index>{buffer.sequence(0).next(), s.slots, s.count});
  }
  void run() {
    buffer.step(q, k, v, scaled(scale), out,
                {.lse = lse, .tokens = tokens, .evict_row = evict_row, .executor = executor});
  }
};

TEST(StepBorder, RefusesTensorsThatCannotBe) {
  const auto shape = [](const char* words, auto spoil) {
    expect_refused_call<StepCall, ShapeError>(words, spoil);
  };
  const auto value = [](const char* words, auto spoil) {
    expect_refused_call<StepCall, ValueError>(words, spoil);
  };
  using C = StepCall;
  shape("q is [1, 2, -3, 8]: no size may be negative", [](C& c) {
    for (View<float, 4>* x : {&c.q, &c.k, &c.v, &c.out}) *x = {x->data(), {1, C::H, -3, C::D}};
    c.lse = {c.lse.data(), {1, C::H, -3}};
  });
  shape("which no memory holds", [](C& c) {
    for (View<float, 4>* x : {&c.q, &c.k, &c.v, &c.out})
      *x = {x->data(), {1, C::H, largest, C::D}, {0, 0, 0, 1}};
    c.lse = {};
  });
  shape("out overlaps q", [](C& c) { c.out = c.q; });
  shape("out overlaps v", [](C& c) { c.out = moved(c.out, c.v.data() + 9); });
  shape("lse overlaps out", [](C& c) { c.lse = moved(c.lse, c.out.data()); });
  shape("out is [1, 2, 2, 8] with strides [32, 0, 8, 1]: its own", [](C& c) {
    c.out = {c.out.data(), c.out.dims(), {32, 0, 8, 1}};
  });
  shape("evict_row overlaps tokens", [](C& c) {
    c.tokens = {c.log.data() + 3, {1}}, c.log[3] = 2;
  });
  value("q is [1, 2, 2, 8], but its data is null", [](C& c) { c.q = nowhere(c.q); });
  value("k is [1, 2, 2, 8], but its data is null", [](C& c) { c.k = nowhere(c.k); });
  value("v is [1, 2, 2, 8], but its data is null", [](C& c) { c.v = nowhere(c.v); });
  value("out is [1, 2, 2, 8], but its data is null", [](C& c) { c.out = nowhere(c.out); });
  value("lse is [1, 2, 2], but its data is null", [](C& c) { c.lse = nowhere(c.lse); });
  value("tokens is [1], but its data is null", [](C& c) { c.tokens = {nullptr, {1}}; });
  value("evict_row is [1, 8], but its data is null", [](C& c) { c.evict_row = {nullptr, {1, 8}}; });
  value("k begins 1 bytes behind a multiple of 4", [](C& c) { c.k = misaligned(c.k); });
  value("scaled is nan", [](C& c) { c.scale = std::numeric_limits<double>::quiet_NaN(); });
}

TEST(StepBorder, TakesTheNearestThatIsRight) {
  using C = StepCall;
  expect_taken<C>("all of it", [](C&) {});
  expect_taken<C>("without what is optional", [](C& c) { c.lse = {}, c.evict_row = {}; });
  expect_taken<C>("q is k is v", [](C& c) { c.k = c.v = c.q; });
  expect_taken<C>("no rows, at no place", [](C& c) {
    for (View<float, 4>* x : {&c.q, &c.k, &c.v, &c.out}) *x = {nullptr, {1, C::H, 0, C::D}};
    c.lse = {nullptr, {1, C::H, 0}};
  });
  expect_taken<C>("packed", [](C& c) {
    const auto slice = [&](Index which) {
      return View<float, 4>(c.memory.data() + which * C::H * C::D, {1, C::H, C::N, C::D},
                            {0, C::D, 4 * C::H * C::D, 1});
    };
    c.q = slice(0), c.k = slice(1), c.v = slice(2), c.out = slice(3);
  });
}

/// Scratch is taken for as many workers as there are tasks.
TEST(StepBorder, TakesWorkersWithoutEnd) {
  StepCall alone, shared;
  shared.executor = endless_workers();
  alone.run(), shared.run();
  EXPECT_EQ(alone.memory, shared.memory);
  EXPECT_EQ(alone.log, shared.log);
}

}  // namespace
}  // namespace heed::test
