// SPDX-License-Identifier: MIT
// Parameters and tensors of stages that cannot be right: refused before a byte is written, by a
// message that names the value and the rule.
#include "support/border.hpp"

#include "heed/engine/backward.hpp"
#include "heed/score/alibi.hpp"
#include "heed/score/alive.hpp"
#include "heed/score/bias.hpp"
#include "heed/score/block_span.hpp"
#include "heed/score/boolean_mask.hpp"
#include "heed/score/causal.hpp"
#include "heed/score/documents.hpp"
#include "heed/score/dropout.hpp"
#include "heed/score/lengths.hpp"
#include "heed/score/prefix_lm.hpp"
#include "heed/score/query_offset.hpp"
#include "heed/score/selective.hpp"
#include "heed/score/sinks.hpp"
#include "heed/score/softcap.hpp"
#include "heed/score/standard.hpp"
#include "heed/score/temperatures.hpp"
#include "heed/score/window.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

namespace heed::test {
namespace {

constexpr double nan = std::numeric_limits<double>::quiet_NaN(),
                 inf = std::numeric_limits<double>::infinity();

constexpr Index H = 2, N = 6, D = 8;

/// What each stage is made of, and memory that shows where anything was written.
struct StageCall {
  std::vector<float> memory = std::vector<float>(3000, 0.25f);
  std::vector<std::int64_t> numbers = std::vector<std::int64_t>(100, N);
  std::vector<std::uint8_t> flags = std::vector<std::uint8_t>(100, 1);
  std::vector<double> alpha{7};  ///< where the gradient of a gain goes

  View<float, 4> q = at(0), k = at(100), v = at(200), out = at(300);
  View<float, 3> lse{memory.data() + 400, {1, H, N}};
  Index offset = 0;
  Gain gain{Gain::linear, 0.1};
  View<float, 3> tau{memory.data() + 500, {1, H, N}}, grad_tau{memory.data() + 600, {1, H, N}};
  double scale = 0.5, cap = 30;
  View<float, 4> values{memory.data() + 700, {1, 1, N, N}},
      grad_values{memory.data() + 800, {1, 1, N, N}};
  View<float, 1> slopes{memory.data() + 900, {H}}, grad_slopes{memory.data() + 910, {H}};
  Index size = 4, previous = 1, left = 5, prefix = 0;
  View<std::int64_t, 1> length{numbers.data(), {1}};
  View<std::int64_t, 2> id{numbers.data() + 10, {1, N}}, evict_row{numbers.data() + 20, {1, N}};
  View<std::uint8_t, 4> mask{flags.data(), {1, 1, 1, N}};
  View<float, 1> logits{memory.data() + 920, {H}}, grad_logits{memory.data() + 930, {H}};
  View<float, 2> used{memory.data() + 1000, {1, N}}, grad_used{memory.data() + 1100, {1, N}};
  double memory_tau = 1;
  View<float, 2> grad_carry{memory.data() + 1200, {1, N}};
  double probability = 0.25;

  View<float, 4> at(Index place) { return {memory.data() + place, {1, H, N, D}}; }
  auto variant() {
    return query_offset(offset) | position_temperature(gain).grad(alpha.data()) |
           query_temperature(tau).grad(grad_tau) | scaled(scale) | softcap(cap) |
           bias(values).grad(grad_values) | alibi(slopes).grad(grad_slopes) | causal |
           window(left, 0) | block_span(size, previous) | documents(id) | prefix_lm(prefix) |
           lengths(length) | boolean_mask(mask) | alive(evict_row) |
           sinks(logits).grad(grad_logits) |
           selective.memory(used, memory_tau)
               .grad_memory(grad_used, memory_tau)
               .grad_carry_in(grad_carry) |
           dropout(probability, 3);
  }
  std::string written() const { return bytes_of(memory, alpha, numbers); }
  void run() { forward(q, k, v, variant(), out, lse); }
};

template <class Spoil>
void expect_value_refused(const std::string& words, Spoil&& spoil) {
  expect_refused_call<StageCall, ValueError>(words, spoil);
}
template <class Spoil>
void expect_shape_refused(const std::string& words, Spoil&& spoil) {
  expect_refused_call<StageCall, ShapeError>(words, spoil);
}
using C = StageCall;

TEST(StageBorder, RefusesNumbersOutOfTheirDomain) {
  for (const double x : {nan, inf, -inf, 1e300, -1e300, 1e38, 1.1e30})
    expect_value_refused("scaled is " + std::string(std::isnan(x) ? "nan" : ""),
                         [&](C& c) { c.scale = x; });
  for (const double x : {nan, inf, -inf, 1e300, 1.1e30})
    expect_value_refused("position_temperature: g(alpha) is", [&](C& c) { c.gain.alpha = x; });
  expect_value_refused("position_temperature: g(alpha) is", [](C& c) {
    c.gain = {Gain::sigmoid, nan};
  });
  expect_value_refused("position_temperature: the slope of g(alpha) is", [](C& c) {
    c.gain = {Gain::gompertz, 1e300};
  });
  for (const double x : {nan, inf, 0., -1., 1e-300, 1e-31, 1e31, 1e300})
    expect_value_refused("selective: tau is", [&](C& c) { c.memory_tau = x; });
  for (const double x : {nan, inf, 0., -1., 1e300})
    expect_value_refused("softcap is", [&](C& c) { c.cap = x; });
  for (const double x : {nan, inf, -inf, 1., -0.1})
    expect_value_refused("dropout of", [&](C& c) { c.probability = x; });
  for (const double x : {nan, inf, -inf, 2e18, -1e38})
    expect_value_refused("a slope of alibi is", [&](C& c) { c.slopes(1) = float(x); });
  for (const double x : {nan, inf, 1e38}) {
    expect_value_refused("sinks[1] is", [&](C& c) { c.logits(1) = float(x); });
    expect_value_refused("sinks[0] is", [&](C& c) { c.logits(0) = float(x); });
  }
  for (const Index x : {largest, largest - 4, power_of_two(61)})
    expect_value_refused("the position of row 0 is " + std::to_string(x),
                         [&](C& c) { c.offset = x; });
  expect_value_refused("query_offset is -1", [](C& c) { c.offset = -1; });
  for (const Index x : {Index(0), Index(-1), smallest})
    expect_value_refused("block_span size is " + std::to_string(x), [&](C& c) { c.size = x; });
  expect_value_refused("block_span previous is -1", [](C& c) { c.previous = -1; });
  expect_value_refused("window is (-1, 0)", [](C& c) { c.left = -1; });
  expect_value_refused("prefix_lm is -1", [](C& c) { c.prefix = -1; });
  for (const std::int64_t x : {std::int64_t(-1), std::int64_t(N + 1), std::int64_t(largest)})
    expect_value_refused("lengths[0] is " + std::to_string(x), [&](C& c) { c.length(0) = x; });
}

TEST(StageBorder, TakesTheNearestNumbersThatAreRight) {
  expect_taken<C>("all of it", [](C&) {});
  for (const double x : {0., -1e30, 1e30}) expect_taken<C>("scale", [&](C& c) { c.scale = x; });
  for (const double x : {0., -1e30, 1e30}) expect_taken<C>("gain", [&](C& c) { c.gain.alpha = x; });
  for (const double x : {1e-30, 1e30}) expect_taken<C>("tau", [&](C& c) { c.memory_tau = x; });
  for (const double x : {1e-30, 1e30}) expect_taken<C>("cap", [&](C& c) { c.cap = x; });
  for (const double x : {0., 0.999}) expect_taken<C>("dropout", [&](C& c) { c.probability = x; });
  for (const double x : {0., -1e18, 1e18})
    expect_taken<C>("slope", [&](C& c) { c.slopes(0) = float(x); });
  for (const double x : {-inf, -3e38, 1e36})
    expect_taken<C>("sink", [&](C& c) { c.logits(0) = float(x); });
  for (const Index x : {Index(1), largest}) expect_taken<C>("size", [&](C& c) { c.size = x; });
  expect_taken<C>("previous", [](C& c) { c.previous = largest; });
  expect_taken<C>("window", [](C& c) { c.left = largest; });
  expect_taken<C>("prefix", [](C& c) { c.prefix = largest; });
  expect_taken<C>("length", [](C& c) { c.length(0) = 0; });
  expect_taken<C>("rows evicted before they come", [](C& c) { c.evict_row(0, 2) = smallest; });
  expect_taken<C>("rows evicted at the end of time", [](C& c) { c.evict_row(0, 2) = largest; });
}

/// Whatever its sign, a distance times a slope that is taken stays a number.
TEST(StageBorder, KeepsScoresFiniteAtTheLargestSlopesAndPositions) {
  const Inputs<float> in = inputs<float>(tokens(N, D, H, H), 1);
  Tensor<float, 1> slopes(2);
  for (const float slope : {1e18f, -1e18f})
    for (const Index offset : {Index(0), power_of_two(61) - N - 1}) {
      slopes.setConstant(slope);
      const Outputs<float> got = attend(
          in, query_offset(offset) | scaled(1) | alibi(slopes) | window(unbounded, unbounded));
      EXPECT_TRUE(finite(got.out));
      EXPECT_TRUE(finite(got.lse));
    }
}

TEST(StageBorder, RefusesTensorsThatCannotBe) {
  const auto null = [](const char* name, auto spoil) {
    expect_value_refused(std::string(name) + " is [", spoil);
  };
  null("query_temperature", [](C& c) { c.tau = nowhere(c.tau); });
  null("bias", [&](C& c) { c.values = nowhere(c.values); });
  null("alibi", [&](C& c) { c.slopes = nowhere(c.slopes); });
  null("documents", [&](C& c) { c.id = nowhere(c.id); });
  null("lengths", [&](C& c) { c.length = nowhere(c.length); });
  null("mask", [&](C& c) { c.mask = nowhere(c.mask); });
  null("evict_row", [&](C& c) { c.evict_row = nowhere(c.evict_row); });
  null("sinks", [&](C& c) { c.logits = nowhere(c.logits); });
  null("memory", [&](C& c) { c.used = nowhere(c.used); });
  const auto off = [](const char* name, auto spoil) {
    expect_value_refused(std::string(name) + " begins 1 bytes behind a multiple of", spoil);
  };
  off("query_temperature", [](C& c) { c.tau = misaligned(c.tau); });
  off("bias", [](C& c) { c.values = misaligned(c.values); });
  off("alibi", [](C& c) { c.slopes = misaligned(c.slopes); });
  off("documents", [](C& c) { c.id = misaligned(c.id); });
  off("lengths", [](C& c) { c.length = misaligned(c.length); });
  off("evict_row", [](C& c) { c.evict_row = misaligned(c.evict_row); });
  off("sinks", [](C& c) { c.logits = misaligned(c.logits); });
  off("memory", [](C& c) { c.used = misaligned(c.used); });
  expect_shape_refused("reach beyond the address space", [](C& c) {
    c.values = {c.values.data(), c.values.dims(), {0, 0, power_of_two(61), 1}};
  });
}

TEST(StageBorder, RefusesOutputsThatOverlapWhatStagesReadOrWrite) {
  const auto refuse = [](const char* words, auto spoil) { expect_shape_refused(words, spoil); };
  refuse("out overlaps bias", [](C& c) { c.values = {c.out.data() + 3, c.values.dims()}; });
  refuse("out overlaps alibi", [](C& c) { c.slopes = {c.out.data() + 3, {H}}; });
  refuse("out overlaps sinks", [](C& c) { c.logits = {c.out.data() + 3, {H}}; });
  refuse("out overlaps query_temperature", [](C& c) { c.tau = {c.out.data() + 3, {1, H, N}}; });
  refuse("lse overlaps memory", [](C& c) { c.used = {c.lse.data() + 3, {1, N}}; });
  refuse("memory overlaps q", [](C& c) { c.used = {c.q.data() + 3, {1, N}}; });
  refuse("memory overlaps bias", [](C& c) { c.used = {c.values.data() + 3, {1, N}}; });
  refuse("memory is [1, 6] with strides [6, 0]: its own", [](C& c) {
    c.used = {c.used.data(), {1, N}, {N, 0}};
  });
  // forward() writes no gradients.
  expect_taken<C>("a gradient inside of out", [](C& c) { c.grad_slopes = {c.out.data(), {H}}; });
  expect_taken<C>("a bias that is a slice of q", [](C& c) {
    c.values = {c.q.data(), {1, 1, N, N}};
  });
  expect_taken<C>("a broadcast bias", [](C& c) {
    c.values = {c.values.data(), {1, 1, N, N}, {0, 0, 0, 0}};
  });
}

// ---- backward

struct StageBackwardCall : StageCall {
  View<float, 4> grad_out = at(1300), grad_q = at(1400), grad_k = at(1500), grad_v = at(1600);

  void run() { backward(q, k, v, variant(), out, lse, grad_out, grad_q, grad_k, grad_v); }
};

TEST(StageBorder, RefusesGradientsThatOverlap) {
  using G = StageBackwardCall;
  const auto refuse = [](const char* words, auto spoil) {
    expect_refused_call<G, ShapeError>(words, spoil);
  };
  refuse("bias' gradient overlaps bias", [](G& c) { c.grad_values = c.values; });
  refuse("alibi's gradient overlaps alibi", [](G& c) { c.grad_slopes = c.slopes; });
  refuse("sinks' gradient overlaps alibi's gradient", [](G& c) { c.grad_logits = c.grad_slopes; });
  refuse("query_temperature's gradient overlaps query_temperature",
         [](G& c) { c.grad_tau = c.tau; });
  refuse("grad_carry_in overlaps grad_memory", [](G& c) { c.grad_carry = c.grad_used; });
  refuse("grad_q overlaps bias' gradient", [](G& c) {
    c.grad_values = {c.grad_q.data(), {1, 1, N, N}};
  });
  refuse("bias' gradient is [1, 1, 6, 6] with strides [0, 0, 0, 1]: its own", [](G& c) {
    c.grad_values = {c.grad_values.data(), {1, 1, N, N}, {0, 0, 0, 1}};
  });
  refuse("position_temperature's gradient overlaps", [](G& c) {
    c.logits = {reinterpret_cast<float*>(c.alpha.data()), {H}};
  });
  expect_refused_call<G, ValueError>("alibi's gradient is [2], but its data is null", [](G& c) {
    c.grad_slopes = {nullptr, {H}};
  });
  expect_taken<G>("all of it", [](G&) {});
  // backward() does not count the memory again.
  expect_taken<G>("memory where grad_memory is", [](G& c) { c.used = c.grad_used; });
}

// ---- functions beside the stages

TEST(TemperatureBorder, RefusesWhatCannotBe) {
  std::vector<float> memory(300, 0.5f);
  const std::vector<float> before = memory;
  const auto at = [&](Index place) { return View<float, 3>(memory.data() + place, {1, H, N}); };
  const View<float, 3> none(nullptr, {1, H, N});
  const auto value = [&](const std::string& words, auto call) {
    const std::string message = message_of<ValueError>(call);
    EXPECT_NE(message.find(words), std::string::npos) << message;
  };
  const auto shape = [&](const std::string& words, auto call) {
    const std::string message = message_of<ShapeError>(call);
    EXPECT_NE(message.find(words), std::string::npos) << message;
  };
  const TemperatureRule rule{.position = Gain{Gain::linear, nan}};
  value("temperatures: g(alpha) is nan", [&] { temperatures(at(0), rule, at(100)); });
  value("temperatures: g(alpha) is nan",
        [&] { temperatures_backward(at(0), rule, at(100), at(200)); });
  value("temperatures: offset is 9223372036854775807",
        [&] { temperatures(at(0), {.position = {}, .offset = largest}, at(100)); });
  value("tau is [1, 2, 6], but its data is null", [&] { temperatures(at(0), {}, none); });
  value("f is [1, 2, 6], but its data is null", [&] { temperatures(none, {}, at(0)); });
  shape("tau overlaps f", [&] { temperatures(at(0), {}, at(1)); });
  shape("grad_f overlaps grad_tau", [&] { temperatures_backward(at(0), {}, at(100), at(101)); });

  const View<float, 4> x(memory.data(), {1, H, 2, 3});
  const View<float, 2> w(memory.data() + 20, {H, 3}), grad_w(memory.data() + 30, {H, 3});
  const View<float, 3> f(memory.data() + 40, {1, H, 2}), in_x(memory.data() + 5, {1, H, 2});
  const View<float, 4> grad_x(memory.data() + 50, {1, H, 2, 3});
  shape("f overlaps x", [&] { token_feature(x, w, in_x); });
  shape("grad_x overlaps x", [&] { token_feature_backward(x, w, f, x, grad_w); });
  shape("grad_w overlaps w", [&] { token_feature_backward(x, w, f, grad_x, w); });
  EXPECT_EQ(memory, before);

  EXPECT_NO_THROW(temperatures(at(0), {}, at(0)));
  EXPECT_NO_THROW(temperatures_backward(at(0), {}, at(100), at(100)));
  EXPECT_NO_THROW(token_feature(x, w, f));
  EXPECT_NO_THROW(token_feature_backward(x, w, f, grad_x, grad_w));
}

}  // namespace
}  // namespace heed::test
