// SPDX-License-Identifier: MIT
#include "lm/budgets.hpp"
#include "lm/model.hpp"
#include "lm/sampler.hpp"
#include "lm/score.hpp"
#include "lm/tasks.hpp"
#include "programs/eviction_rules.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

namespace lm {
namespace {

/// A model whose numbers are random, large enough for its scores to matter.
Checkpoint random_model(bool selective, std::optional<Spans> spans = {}) {
  Checkpoint checkpoint;
  Config& c = checkpoint.config;
  c.layers = 2, c.heads = 2, c.dim = 16, c.head_dim = 8, c.hidden = 12, c.context = 64;
  c.selective = selective, c.spans = std::move(spans);
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  for (const Parameter& p : parameters(c)) {
    auto& values = checkpoint.values[p.name];
    for (std::int64_t i = 0; i < p.size(); ++i)
      values.push_back(p.kind == Parameter::Kind::norm ? 1 : normal(random) / 2);
  }
  return checkpoint;
}

std::vector<std::uint8_t> bytes(std::size_t count) {
  std::mt19937 random(2);
  std::vector<std::uint8_t> text(count);
  for (std::uint8_t& byte : text) byte = std::uint8_t(random() % 256);
  return text;
}

float distance(const Matrix& a, const Matrix& b) {
  return (a - b).cwiseAbs().maxCoeff();
}

Forgetting keeping(const std::string& budgets, const heed::EvictionRule& rule = heed::most_masked) {
  return {budgets_of(budgets, 2), rule, 2};
}

TEST(LmModel, GivesTheSameAtOnceAndInPiecesAndAgain) {
  for (const auto& spans : {std::optional<Spans>(), std::optional(Spans{{0}, 5, {}}),
                            std::optional(Spans{{0}, {}, 7})}) {
    const Model model(random_model(true, spans));
    const auto text = bytes(60);
    const Bytes all = text;
    Memory memory(model.config(), {});
    const Matrix at_once = model.forward(all, memory);
    memory.clear();
    Matrix pieces(60, 256);
    for (std::size_t first = 0, count = 1; first < 60; first += count, count = count % 9 + 1) {
      count = std::min(count, 60 - first);
      pieces.middleRows(Eigen::Index(first), Eigen::Index(count)) =
          model.forward(all.subspan(first, count), memory);
    }
    EXPECT_LT(distance(at_once, pieces), 1e-4);
    EXPECT_EQ(memory.position(), 60);
  }
}

TEST(LmModel, LooksAtNoLaterByte) {
  const Model model(random_model(true));
  auto text = bytes(40);
  Memory memory(model.config(), {});
  const Matrix before = model.forward(text, memory);
  text[30] ^= 1;
  memory.clear();
  const Matrix after = model.forward(text, memory);
  EXPECT_EQ(distance(before.topRows(30), after.topRows(30)), 0);
  EXPECT_GT(distance(before.row(30), after.row(30)), 0.1);
  EXPECT_GT(distance(before.row(39), after.row(39)), 0);
}

TEST(LmModel, KeepsAsManyTokensAsItMay) {
  const Model model(random_model(true));
  const auto text = bytes(40);
  for (const heed::EvictionRule& rule : programs::eviction_rules()) {
    Memory memory(model.config(), keeping("6,9", rule));
    model.forward(text, memory);
    EXPECT_EQ(memory.kept(), (std::vector<std::int64_t>{6, 9})) << rule.name();
  }
}

TEST(LmModel, TakesMemoryInPagesOfItsTokens) {
  const Model model(random_model(true));
  const auto text = bytes(65);
  const auto memory_of = [&](const std::string& budgets) {
    Memory memory(model.config(), keeping(budgets));
    model.forward(text, memory);
    EXPECT_LE(memory.bytes(), memory.most_bytes());
    return memory.bytes();
  };
  // Of two heads of a layer.
  const std::size_t page = 2 * heed::KvPool<float>(8, 8, {.page = page_tokens}).page_bytes();
  const std::size_t one = memory_of("32"), two = memory_of("33"), all = memory_of("all");
  EXPECT_GE(one, 2 * page);
  EXPECT_LT(one, 3 * page);
  EXPECT_GE(two, one + 2 * page);
  EXPECT_GE(all, one + 4 * page);
  EXPECT_LT(memory_of("4"), one + page) << "a part of a page costs a page";
}

TEST(LmModel, ForgetsNothingWithinTheBudgetAndSomethingBeyond) {
  const Model model(random_model(true));
  const auto text = bytes(40);
  Memory whole(model.config(), {});
  const Matrix wanted = model.forward(text, whole);
  const Bytes all = text;
  for (const heed::EvictionRule& rule : programs::eviction_rules()) {
    Memory enough(model.config(), keeping("40", rule)), tight(model.config(), keeping("8", rule));
    EXPECT_LT(distance(model.forward(text, enough), wanted), 1e-4) << rule.name();
    Matrix pruned(40, 256);  // in steps, at whose end snap evicts
    for (Eigen::Index row = 0; row < 40; row += 8)
      pruned.middleRows(row, 8) = model.forward(all.subspan(std::size_t(row), 8), tight);
    EXPECT_LT(distance(pruned.topRows(8), wanted.topRows(8)), 1e-4) << rule.name();
    EXPECT_GT(distance(pruned, wanted), 1e-2) << rule.name();
  }
}

TEST(LmModel, AWindowOfOldestTokensWithoutSinksIsTheSpan) {
  // Both layers see 5 tokens: by the model's span, and by a budget.
  const Checkpoint plain = random_model(false);
  Checkpoint spanned = plain;
  spanned.config.spans = Spans{{}, 5, {}};
  const Model a(plain), b(spanned);
  const auto text = bytes(40);
  Memory budget(a.config(), {budgets_of("5", 2), heed::oldest, 0}), span(b.config(), {});
  EXPECT_LT(distance(a.forward(text, budget), b.forward(text, span)), 1e-5);
}

TEST(LmModel, ABlockBeginsAsIfNothingHadComeBefore) {
  const Model model(random_model(false, Spans{{}, {}, 8}));
  const auto text = bytes(24);
  const Bytes all = text;
  Memory memory(model.config(), {}), fresh(model.config(), {});
  const Matrix whole = model.forward(all, memory);
  // Rotary positions are relative: where a block stands makes no difference.
  EXPECT_LT(distance(model.forward(all.subspan(8, 8), fresh), whole.middleRows(8, 8)), 1e-4);
}

TEST(LmMemory, RefusesWhatTheModelCannot) {
  const auto refusal = [](const Config& c, const Forgetting& forgetting) -> std::string {
    try {
      Memory(c, forgetting);
    } catch (const ConfigError& error) {
      return error.what();
    }
    return "made without complaint";
  };
  EXPECT_EQ(refusal(random_model(false).config, keeping("8")),
            "the model's attention is standard, which selects nothing: most_masked has no F to "
            "decide by");
  EXPECT_EQ(refusal(random_model(true).config, {budgets_of("8", 3), heed::oldest, 2}),
            "there are 3 budgets and 2 layers");
  EXPECT_EQ(refusal(random_model(false).config, keeping("8", heed::oldest)),
            "made without complaint");
  Forgetting apart = keeping("8", heed::heavy_hitters);
  apart.heads = heed::KvHeads::apart;
  EXPECT_EQ(refusal(random_model(true).config, apart),
            "the model's attention is selective: F is of all heads, which then hold the same "
            "tokens");
  EXPECT_EQ(refusal(random_model(false).config, apart), "made without complaint");
}

TEST(LmScore, IsTheMeanOfEachBytesBits) {
  const Model model(random_model(true));
  const auto text = bytes(33);
  const Bytes window = text;
  Memory memory(model.config(), {});
  const Matrix logits = model.forward(window.first(32), memory);
  double sum = 0, late = 0;
  for (Eigen::Index i = 0; i < 32; ++i) {
    const Eigen::ArrayXd p = logits.row(i).transpose().cast<double>().array().exp();
    const double bits = -std::log2(p[text[std::size_t(i) + 1]] / p.sum());
    sum += bits;
    if (i >= 16) late += bits;
  }
  const Bytes twice[] = {window, window};
  const Score result = score(model, {}, twice);
  EXPECT_NEAR(result.loss, sum / 32, 1e-4);
  EXPECT_NEAR(result.late_loss, late / 16, 1e-4);
  EXPECT_EQ(result.bytes, 64);
  EXPECT_EQ(result.kept, 1);
  EXPECT_NEAR(score(model, keeping("8"), twice).kept, 0.25, 1e-12);
}

TEST(LmScore, OfARuleThatActsAtTheEndOfAStepIsUnprunedInTheFirstHalf) {
  const Model model(random_model(true));
  const auto text = bytes(49);
  const Bytes window = text;
  const Score whole = score(model, {}, {&window, 1}),
              pruned = score(model, keeping("8", heed::snap), {&window, 1});
  EXPECT_NEAR(2 * pruned.loss - pruned.late_loss, 2 * whole.loss - whole.late_loss, 1e-4);
  EXPECT_GT(std::abs(pruned.late_loss - whole.late_loss), 1e-3);
  EXPECT_LT(pruned.memory_bytes, whole.memory_bytes);
}

TEST(LmTasks, AreSolvedByWhatTheyAskFor) {
  std::mt19937_64 random(3);
  for (int n = 0; n < 200; ++n) {
    const auto split = [&](Task task) {
      const std::string line = riddle(task, random);
      EXPECT_EQ(line.find('\n'), line.size() - 1);
      const std::size_t at = line.find('>');
      return std::pair(line.substr(0, at), line.substr(at + 1, line.size() - at - 2));
    };
    const auto [copied, copy] = split(Task::copying);
    EXPECT_EQ(copied, copy);
    const auto [bits, sums] = split(Task::parity);
    int sum = 0;
    for (std::size_t i = 0; i < bits.size(); ++i)
      EXPECT_EQ(sums[i] - '0', (sum += bits[i] - '0') % 2);
    for (const Task task : {Task::assignment, Task::needle}) {
      const auto [question, value] = split(task);
      const std::string asked = question.substr(question.size() - 2, 1);
      const std::size_t last = question.rfind(asked + "=");
      ASSERT_NE(last, std::string::npos);
      EXPECT_EQ(question.substr(last + 2, 1), value);
    }
  }
}

TEST(LmTasks, AnswersAreThoseOfWholeLines) {
  const std::string text = "cut>x\nab>ab\nnone\n>\nq?>7\nx>cu";
  const auto found = answers_in({reinterpret_cast<const std::uint8_t*>(text.data()), text.size()});
  ASSERT_EQ(found.size(), 2u);
  EXPECT_EQ(text.substr(found[0].first, found[0].last - found[0].first), "ab");
  EXPECT_EQ(text.substr(found[1].first, found[1].last - found[1].first), "7");
}

TEST(LmScore, CountsAnswersThatAreWhollyRight) {
  // The embedding alone says what comes next: after each byte itself is the likeliest.
  Checkpoint echo = random_model(false);
  for (auto& [name, values] : echo.values)
    if (name.ends_with("attention_out") || name.ends_with("down"))
      std::fill(values.begin(), values.end(), 0.f);
  auto& embedding = echo.values["embedding"];
  std::mt19937 random(4);
  for (float& x : embedding) x = random() % 2 ? 1 : -1;  // all equally long
  const std::string text = "\nx>>>\nx>>y\nx>y\n";
  const Bytes window(reinterpret_cast<const std::uint8_t*>(text.data()), text.size());
  const Score result = score(Model(echo), {}, {&window, 1});
  EXPECT_EQ(result.answers, 3);
  EXPECT_NEAR(result.accuracy, 1. / 3, 1e-12);
}

TEST(LmSampler, DrawsAsTheLogitsSay) {
  Eigen::Matrix<float, 1, Eigen::Dynamic> logits(256);
  logits.setConstant(-1000);
  logits[65] = 3, logits[66] = 3 + std::log(3.f);
  Sampler greedy(0, 1);
  EXPECT_EQ(greedy.draw(logits), 66);
  int count[256] = {};
  for (Sampler sampler(1, 1); count[65] + count[66] < 10000;) ++count[sampler.draw(logits)];
  EXPECT_NEAR(count[66] / 1e4, 0.75, 0.02);
  int colder = 0;
  Sampler sampler(0.5, 1);  // odds of 3 to 1 become 9 to 1
  for (int i = 0; i < 10000; ++i) colder += sampler.draw(logits) == 66;
  EXPECT_NEAR(colder / 1e4, 0.9, 0.02);
}

TEST(LmBudgets, AreReadAndWritten) {
  EXPECT_EQ(to_string(budgets_of("16", 3)), "16,16,16");
  EXPECT_EQ(to_string(budgets_of("16,all,4", 3)), "16,all,4");
  EXPECT_EQ(to_string(budgets_of("all", 2)), "all,all");
  for (const char* text :
       {"", "1", "-4", "4,", ",4", "4,4,4", "4x", "99999999999999999999", "4,,4"})
    EXPECT_THROW(budgets_of(text, 2), ConfigError) << text;
  for (const heed::EvictionRule& rule : programs::eviction_rules())
    EXPECT_TRUE(rule_of(rule.name()) == rule);
  EXPECT_THROW(rule_of("f"), ConfigError);
}

}  // namespace
}  // namespace lm
