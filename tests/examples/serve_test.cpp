// SPDX-License-Identifier: MIT
#include "lm/budgets.hpp"
#include "serve/server.hpp"
#include "serve/summary.hpp"

#include <gtest/gtest.h>

#include <numeric>
#include <random>

namespace serve {
namespace {

constexpr std::size_t prefix_tokens = 64;

/// A model whose numbers are random, large enough for its scores to matter.
const lm::Model& model() {
  static const lm::Model made = [] {
    lm::Checkpoint checkpoint;
    lm::Config& c = checkpoint.config;
    c.layers = 2, c.heads = 2, c.dim = 16, c.head_dim = 8, c.hidden = 12, c.context = 64;
    c.selective = true;
    std::mt19937 random(1);
    std::normal_distribution<float> normal;
    for (const lm::Parameter& p : parameters(c))
      for (std::int64_t i = 0; i < p.size(); ++i)
        checkpoint.values[p.name].push_back(
            p.kind == lm::Parameter::Kind::norm ? 1 : normal(random) / 2);
    return lm::Model(checkpoint);
  }();
  return made;
}

std::vector<std::uint8_t> text() {
  std::mt19937 random(2);
  std::vector<std::uint8_t> bytes(2000);
  for (std::uint8_t& byte : bytes) byte = std::uint8_t(random() % 256);
  return bytes;
}

lm::Forgetting keeping(const std::string& budgets) {
  return {lm::budgets_of(budgets, 2)};
}

const Traffic traffic{
    .requests = 40, .rate = 0.5, .prompt = {1, 50}, .tokens = {5, 90}, .cancelled = 0.3, .seed = 3};
const ServerOptions greedy{.piece = 24, .temperature = 0};

/// Bytes of so many pages, or one or two more: how large one is depends on the registers.
std::size_t bytes_of(std::int64_t pages) {
  const heed::KvPool<float> pool(8, 8, {.page = lm::page_tokens});
  return std::size_t(pages + 4) * pool.page_bytes();
}

/// Requests in a memory of so many pages.
struct Served {
  std::vector<std::uint8_t> bytes = text();
  std::vector<Request> requests;
  lm::SharedMemory memory;
  Server server;

  Served(const std::string& budgets, std::int64_t pages, const ServerOptions& options = greedy,
         const Traffic& of = traffic)
      : requests(requests_of(lm::Bytes(bytes).subspan(prefix_tokens), of)),
        memory(model().config(), keeping(budgets), bytes_of(pages)),
        server(model(), memory, lm::Bytes(bytes).first(prefix_tokens), requests, options) {}

  Index held() const { return memory.pool().pages_held(); }
  void finish() {
    while (server.step()) {
    }
  }
};

/// What the model says to a request by itself, in a memory of its own.
std::string alone(const Served& run, std::size_t id, const std::string& budgets) {
  lm::Memory memory(model().config(), keeping(budgets));
  std::vector<std::uint8_t> prompt(run.bytes.begin(), run.bytes.begin() + prefix_tokens);
  prompt.insert(prompt.end(), run.requests[id].prompt.begin(), run.requests[id].prompt.end());
  lm::Matrix logits = model().forward(prompt, memory);
  lm::Sampler sampler(0, 1);
  std::string said;
  const std::int64_t tokens = run.requests[id].leaves.value_or(run.requests[id].tokens);
  while (std::int64_t(said.size()) < tokens) {
    const std::uint8_t next = sampler.draw(logits.row(logits.rows() - 1));
    said.push_back(char(next));
    logits = model().forward({&next, 1}, memory);
  }
  return said;
}

class ServeTest : public testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(Budgets, ServeTest, testing::Values("all", "32", "40,17", "all,16"));

TEST_P(ServeTest, GivesEachRequestWhatItGetsAlone) {
  Served run(GetParam(), 200);
  run.finish();
  std::int64_t most_in_flight = 0;
  for (const Moment& m : run.server.moments())
    most_in_flight = std::max(most_in_flight, m.in_flight);
  EXPECT_GT(most_in_flight, 3);
  for (std::size_t id = 0; id < run.requests.size(); ++id)
    EXPECT_EQ(run.server.outcomes()[id].text, alone(run, id, GetParam())) << id;
}

TEST_P(ServeTest, ReturnsAllPagesButThePrefixs) {
  Served run(GetParam(), 200);
  const Index prefix = run.held();
  EXPECT_GT(prefix, 0);
  run.finish();
  EXPECT_EQ(run.held(), prefix);
  EXPECT_EQ(run.server.admission().promised(), run.server.admission().base());
  const auto& outcomes = run.server.outcomes();
  EXPECT_GT(std::ranges::count_if(outcomes, &Outcome::cancelled), 3);
  for (std::size_t id = 0; id < outcomes.size(); ++id) {
    const Request& request = run.requests[id];
    EXPECT_EQ(outcomes[id].cancelled, request.leaves.has_value());
    EXPECT_EQ(std::int64_t(outcomes[id].text.size()), request.leaves.value_or(request.tokens));
  }
}

TEST_P(ServeTest, PromisesNoMoreThanThePoolHasAndKeepsIt) {
  Served run(GetParam(), 70);
  run.finish();
  const Index pages = *run.memory.pool().most_pages();
  std::int64_t most_waiting = 0;
  for (const Moment& m : run.server.moments()) {
    EXPECT_LE(m.pages_held, pages);
    EXPECT_LE(m.pages_promised, pages);
    most_waiting = std::max(most_waiting, m.waiting);
  }
  EXPECT_GT(most_waiting, 0) << "the pool was never full";
  for (const Outcome& outcome : run.server.outcomes()) EXPECT_EQ(outcome.put_back, 0);
}

TEST_P(ServeTest, IsTheSameAgainForASeed) {
  const ServerOptions drawn{.piece = 24, .temperature = 1, .seed = 5};
  Served a(GetParam(), 100, drawn), b(GetParam(), 100, drawn);
  a.finish(), b.finish();
  ASSERT_EQ(a.server.moments().size(), b.server.moments().size());
  for (std::size_t i = 0; i < a.server.moments().size(); ++i) {
    const Moment &x = a.server.moments()[i], &y = b.server.moments()[i];
    EXPECT_EQ(std::tuple(x.step, x.in_flight, x.waiting, x.generated, x.pages_held),
              std::tuple(y.step, y.in_flight, y.waiting, y.generated, y.pages_held));
  }
  for (std::size_t id = 0; id < a.requests.size(); ++id)
    EXPECT_EQ(a.server.outcomes()[id].text, b.server.outcomes()[id].text);
}

TEST(Serve, RequestsThatRanOutOfPagesComeToTheSameEnd) {
  ServerOptions overbooked = greedy;
  overbooked.overbook = 4;
  Served run("all", 70, overbooked);
  const Index prefix = run.held();
  run.finish();
  std::int64_t put_back = 0;
  for (std::size_t id = 0; id < run.requests.size(); ++id) {
    put_back += run.server.outcomes()[id].put_back;
    EXPECT_EQ(run.server.outcomes()[id].text, alone(run, id, "all")) << id;
  }
  EXPECT_GT(put_back, 0);
  EXPECT_EQ(run.held(), prefix);
}

TEST(Serve, RefusesAPoolTooSmallForOneRequestWithBothNumbers) {
  const Traffic one{.requests = 1, .prompt = {40, 40}, .tokens = {57, 57}, .cancelled = 0};
  const Index there = *lm::SharedMemory(model().config(), {}, bytes_of(20)).pool().most_pages();
  try {
    Served run("all", 20, greedy, one);
    FAIL() << "a pool of " << there << " pages was taken";
  } catch (const lm::ConfigError& error) {
    EXPECT_EQ(std::string(error.what()),
              "a request of 160 tokens needs 26 pages, with the prefix; the pool has " +
                  std::to_string(there));
  }
}

TEST(Serve, ForksOfThePrefixShareItsPages) {
  Traffic two = traffic;
  two.requests = 2, two.rate = 1e6, two.prompt = {1, 1}, two.tokens = {2, 2}, two.cancelled = 0;
  Served run("all", 200, greedy, two);
  EXPECT_EQ(run.held(), 2 * 2 * 2);  // 64 tokens in 2 pages of 2 heads in 2 layers
  run.server.step();
  EXPECT_EQ(run.server.moments().back().in_flight, 2);
  EXPECT_EQ(run.server.moments().back().pages_held, 8 + 2 * 4);
}

TEST(ServeRequests, ArriveAtTheRateAndAreTheSameForASeed) {
  const auto bytes = text();
  Traffic many = traffic;
  many.requests = 4000;
  const auto a = requests_of(bytes, many), b = requests_of(bytes, many);
  EXPECT_NEAR(double(a.back().arrives), 4000 / many.rate, 400);
  std::int64_t leave = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    EXPECT_EQ(std::tie(a[i].arrives, a[i].prompt, a[i].tokens, a[i].leaves),
              std::tie(b[i].arrives, b[i].prompt, b[i].tokens, b[i].leaves));
    EXPECT_TRUE(i == 0 || a[i - 1].arrives <= a[i].arrives);
    EXPECT_TRUE(a[i].tokens >= 5 && a[i].tokens <= 90 && a[i].prompt.size() <= 50);
    EXPECT_TRUE(!a[i].leaves || (*a[i].leaves >= 1 && *a[i].leaves < a[i].tokens));
    leave += a[i].leaves.has_value();
  }
  EXPECT_NEAR(double(leave) / 4000, 0.3, 0.03);
  EXPECT_THROW(requests_of(lm::Bytes(bytes).first(49), traffic), lm::ConfigError);
}

}  // namespace
}  // namespace serve
