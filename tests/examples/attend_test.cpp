// SPDX-License-Identifier: MIT
#include "attend/npy.hpp"
#include "attend/program.hpp"
#include "examples/temporary_folder.hpp"
#include "reference/backward.hpp"
#include "reference/pruning.hpp"
#include "reference/selective.hpp"
#include "support/random.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <sstream>
#include <string>
#include <vector>

namespace {

using reference::Array;
using Words = std::vector<std::string>;

/// Two sequences of 37 tokens, four heads that share two key heads, dims 8 and 5.
constexpr std::ptrdiff_t batch = 2, heads = 4, key_heads = 2, tokens = 37, dim = 8, value_dim = 5;

Array random(std::uint64_t seed, std::vector<std::ptrdiff_t> dims) {
  Array x(std::move(dims));
  heed::test::Random numbers(seed);
  for (double& value : x.values) value = float(numbers.normal());  // exact in either type
  return x;
}

class AttendTest : public TemporaryFolder {
 protected:
  AttendTest() { save("q", q_), save("k", k_), save("v", v_); }

  std::string path(const std::string& name) const { return (folder_ / (name + ".npy")).string(); }

  template <class T = float>
  std::string save(const std::string& name, const Array& x) const {
    npy::Array array = npy::zeros(npy::type_of<T>(), {x.dims.begin(), x.dims.end()});
    std::ranges::transform(x.values, array.values<T>().begin(), [](double y) { return T(y); });
    std::ofstream stream(path(name), std::ios::binary);
    npy::write(stream, array);
    return path(name);
  }

  Array load(const std::string& name) const {
    const npy::Array array = npy::read(path(name));
    Array x(std::vector<std::ptrdiff_t>(array.shape.begin(), array.shape.end()));
    const auto copy = [&](auto values) { std::ranges::copy(values, x.values.begin()); };
    if (array.type == npy::Type::float32) copy(array.values<float>());
    if (array.type == npy::Type::float64) copy(array.values<double>());
    if (array.type == npy::Type::int64) copy(array.values<std::int64_t>());
    return x;
  }

  struct Ran {
    int code;
    std::string out, err;
  };
  Ran run(const Words& options) const {
    Words words{"attend", "--q",     path("q"), "--k",      path("k"),
                "--v",    path("v"), "--out",   path("out")};
    words.insert(words.end(), options.begin(), options.end());
    return call(words);
  }
  static Ran call(const Words& words) {
    std::vector<const char*> argv;
    for (const std::string& word : words) argv.push_back(word.c_str());
    std::ostringstream out, err;
    const int code = attend::program(int(argv.size()), argv.data(), out, err);
    return {code, out.str(), err.str()};
  }

  /// What is in the folder beside the inputs that were there before.
  Words outputs() const {
    Words names;
    for (const auto& entry : std::filesystem::directory_iterator(folder_)) {
      const std::string name = entry.path().filename().string();
      if (name.starts_with("out") || name.starts_with("lse") || name.find("part") != name.npos)
        names.push_back(name);
    }
    return names;
  }

  static void expect_near(const Array& x, const Array& wanted, double tolerance) {
    ASSERT_EQ(x.dims, wanted.dims);
    double scale = 1, worst = 0;
    for (std::size_t i = 0; i < x.values.size(); ++i) {
      if (x.values[i] == wanted.values[i]) continue;  // −∞ too
      scale = std::max(scale, std::abs(wanted.values[i]));
      const double error = std::abs(x.values[i] - wanted.values[i]);
      worst = std::isnan(error) ? reference::infinity : std::max(worst, error);
    }
    EXPECT_LT(worst / scale, tolerance);
  }

  /// A run that must succeed and give this.
  void expect_attention(const Words& options, const reference::Rules& rules) const {
    Words words = options;
    words.insert(words.end(), {"--lse", path("lse")});
    const Ran ran = run(words);
    ASSERT_EQ(ran.code, 0) << ran.err;
    EXPECT_EQ(ran.out + ran.err, "");
    const reference::Attention wanted = reference::attention(q_, k_, v_, rules);
    expect_near(load("out"), wanted.out, 5e-6);
    expect_near(load("lse"), wanted.lse, 5e-6);
  }

  void expect_refusal(const Words& options, const std::string& reason) const {
    const Ran ran = run(options);
    EXPECT_EQ(ran.code, 2);
    EXPECT_EQ(ran.err, "attend: " + reason + "\n");
    EXPECT_EQ(ran.out, "");
    EXPECT_EQ(outputs(), Words());
  }

  Array q_ = random(1, {batch, heads, tokens, dim});
  Array k_ = random(2, {batch, key_heads, tokens, dim});
  Array v_ = random(3, {batch, key_heads, tokens, value_dim});
};

reference::Rules seen(reference::Visible visible) {
  reference::Rules rules;
  rules.visible = std::move(visible);
  return rules;
}

TEST_F(AttendTest, AttendsToEverythingUnlessTold) {
  expect_attention({}, {});
}

TEST_F(AttendTest, MasksAsTheOptionsSay) {
  using namespace reference;
  expect_attention({"--causal"}, seen(causal()));
  expect_attention({"--window", "5"}, seen(window(5, 5)));
  expect_attention({"--window", "5,2"}, seen(window(5, 2)));
  expect_attention({"--causal", "--window", "5"}, seen(causal() && window(5, 0)));
  expect_attention({"--causal", "--window", "5,2"}, seen(causal() && window(5, 2)));
  expect_attention({"--causal", "--block", "6"}, seen(causal() && block_span(6)));
  expect_attention({"--causal", "--block", "6", "--previous-blocks", "2"},
                   seen(causal() && block_span(6, 2)));
  expect_attention({"--prefix", "9"}, seen(prefix_lm({9, 9})));
  expect_attention({"--causal", "--prefix", "9"}, seen(prefix_lm({9, 9})));
}

TEST_F(AttendTest, HidesPadding) {
  using namespace reference;
  const Array lengths = [] {
    Array x({batch});
    x(0) = 20, x(1) = 37;
    return x;
  }();
  const std::string file = save<std::int64_t>("lengths", lengths);
  expect_attention({"--lengths", file}, seen(key_lengths({20, 37})));
  expect_attention({"--causal", "--lengths", file},
                   seen(causal() && key_lengths({20, 37}) && row_lengths({20, 37})));
}

TEST_F(AttendTest, ReadsMasksOfThreeTypesAndBroadcastsThem) {
  Array mask({1, heads, tokens, tokens});
  heed::test::Random numbers(7);
  for (double& x : mask.values) x = numbers.uniform() < 0.5;
  for (std::ptrdiff_t h = 0; h < heads; ++h)
    for (std::ptrdiff_t j = 0; j < tokens; ++j) mask(0, h, 3, j) = 0;  // a row that sees nothing
  expect_attention({"--mask", save<bool>("m1", mask)}, seen(reference::boolean_mask(mask)));
  expect_attention({"--mask", save<std::uint8_t>("m2", mask)}, seen(reference::boolean_mask(mask)));
  expect_attention({"--mask", save<std::int64_t>("m3", mask)}, seen(reference::boolean_mask(mask)));
  Array keys({1, 1, 1, tokens});
  for (std::ptrdiff_t j = 0; j < tokens; ++j) keys(0, 0, 0, j) = j % 3 != 0;
  Array flat({tokens});
  flat.values = keys.values;
  expect_attention({"--mask", save<bool>("m4", flat)}, seen(reference::boolean_mask(keys)));
}

TEST_F(AttendTest, ChangesScoresAsTheOptionsSay) {
  reference::Rules rules = seen(reference::causal());
  rules.scale = 0.3;
  expect_attention({"--causal", "--scale", "0.3"}, rules);
  rules.softcap = 1.5;
  expect_attention({"--causal", "--scale", "0.3", "--softcap", "1.5"}, rules);
  rules.bias = random(8, {1, heads, tokens, tokens});
  rules.slopes = Array({heads});
  for (std::ptrdiff_t h = 0; h < heads; ++h) rules.slopes(h) = std::exp2(-2. * double(h + 1));
  rules.sinks = random(9, {heads});
  rules.tau_q = random(10, {batch, heads, tokens});
  rules.tau_k = random(11, {batch, key_heads, tokens});
  rules.tau_v = random(12, {batch, 1, tokens});
  expect_attention(
      {"--causal", "--scale", "0.3", "--softcap", "1.5", "--bias", save("bias", rules.bias),
       "--alibi", "--sinks", save("sinks", rules.sinks), "--tau-q", save("tau_q", rules.tau_q),
       "--tau-k", save("tau_k", rules.tau_k), "--tau-v", save("tau_v", rules.tau_v)},
      rules);
}

TEST_F(AttendTest, CountsPositionsFromTheQueryOffset) {
  const std::ptrdiff_t offset = 20, rows = tokens - offset;
  Array q({batch, heads, rows, dim});
  for (std::ptrdiff_t b = 0; b < batch; ++b)
    for (std::ptrdiff_t h = 0; h < heads; ++h)
      for (std::ptrdiff_t i = 0; i < rows; ++i)
        for (std::ptrdiff_t d = 0; d < dim; ++d) q(b, h, i, d) = q_(b, h, offset + i, d);
  q_ = q;
  save("q", q);
  expect_refusal({"--causal"},
                 "--causal: q has 17 rows, k has 37; say where they sit: --query-offset N");
  expect_refusal({"--prefix", "3"},
                 "--prefix: q has 17 rows, k has 37; say where they sit: --query-offset N");
  using namespace reference;
  for (const auto& [options, visible] : std::vector<std::pair<Words, Visible>>{
           {{"--causal"}, causal()},
           {{"--causal", "--window", "7"}, causal() && window(7, 0)},
           {{"--window", "3"}, window(3, 3)},
           {{"--causal", "--block", "6"}, causal() && block_span(6)},
           {{"--prefix", "30"}, prefix_lm({30, 30})},
       }) {
    Rules rules = seen(visible);
    rules.offset = offset;
    rules.slopes = Array({heads});
    for (std::ptrdiff_t h = 0; h < heads; ++h) rules.slopes(h) = std::exp2(-2. * double(h + 1));
    Words words = options;
    words.insert(words.end(), {"--alibi", "--query-offset", "20"});
    expect_attention(words, rules);
  }
}

TEST_F(AttendTest, Selects) {
  const auto wanted = reference::selective_attention(q_, k_, v_);
  const Ran ran =
      run({"--causal", "--selective", "--mask-f", path("f"), "--carry-out", path("carry")});
  ASSERT_EQ(ran.code, 0) << ran.err;
  expect_near(load("out"), wanted.out, 5e-6);
  expect_near(load("f"), wanted.f, 5e-6);
  expect_near(load("carry"), wanted.carry_out, 5e-6);

  reference::Selection selection;
  selection.head = 2;
  ASSERT_EQ(run({"--causal", "--selective", "--select-head", "2"}).code, 0);
  expect_near(load("out"),
              reference::selective_attention(q_, k_, v_, seen(reference::causal()), selection).out,
              5e-6);
}

TEST_F(AttendTest, CarriesFFromOneCallToTheNext) {
  const auto wanted = reference::selective_attention(q_, k_, v_);
  const auto rows = [](const Array& x, std::ptrdiff_t from, std::ptrdiff_t to) {
    Array part({x.dim(0), x.dim(1), to - from, x.dim(3)});
    for (std::ptrdiff_t b = 0; b < x.dim(0); ++b)
      for (std::ptrdiff_t h = 0; h < x.dim(1); ++h)
        for (std::ptrdiff_t i = from; i < to; ++i)
          for (std::ptrdiff_t d = 0; d < x.dim(3); ++d) part(b, h, i - from, d) = x(b, h, i, d);
    return part;
  };
  const std::ptrdiff_t cut = 20;
  save("q", rows(q_, 0, cut)), save("k", rows(k_, 0, cut)), save("v", rows(v_, 0, cut));
  ASSERT_EQ(run({"--causal", "--selective", "--carry-out", path("carry")}).code, 0);
  expect_near(load("out"), rows(wanted.out, 0, cut), 5e-6);

  const Array before = load("carry");
  Array carry({batch, tokens});  // new keys enter with 0
  for (std::ptrdiff_t b = 0; b < batch; ++b)
    for (std::ptrdiff_t j = 0; j < cut; ++j) carry(b, j) = before(b, j);
  save("q", rows(q_, cut, tokens)), save("k", k_), save("v", v_);
  ASSERT_EQ(run({"--causal", "--selective", "--query-offset", "20", "--carry-in",
                 save("carry_in", carry), "--carry-out", path("carry")})
                .code,
            0);
  expect_near(load("out"), rows(wanted.out, cut, tokens), 5e-6);
  expect_near(load("carry"), wanted.carry_out, 5e-6);
}

TEST_F(AttendTest, GoesBackToAllThatWentIn) {
  const Array grad_out = random(13, {batch, heads, tokens, value_dim});
  reference::Rules rules = seen(reference::causal());
  rules.softcap = 2;
  rules.tau_q = random(10, {batch, heads, tokens});
  rules.tau_k = random(11, {batch, key_heads, tokens});
  rules.tau_v = random(12, {batch, 1, tokens});
  Array flat = random(14, {tokens});  // a bias of one dimension, for each key
  rules.bias = flat;
  rules.bias.dims = {1, 1, 1, tokens};
  reference::Selection selection;
  selection.head = 1;
  selection.carry_in = random(15, {batch, tokens});
  reference::Cotangents given;
  given.out = grad_out;
  reference::Gradients wanted = selective_backward(q_, k_, v_, rules, selection, given);
  wanted.bias.dims = flat.dims;

  const std::vector<std::pair<const char*, const Array*>> gradients{
      {"q", &wanted.q},         {"k", &wanted.k},           {"v", &wanted.v},
      {"tau-q", &wanted.tau_q}, {"tau-k", &wanted.tau_k},   {"tau-v", &wanted.tau_v},
      {"bias", &wanted.bias},   {"carry", &wanted.carry_in}};
  Words words{"--causal",      "--selective",
              "--select-head", "1",
              "--softcap",     "2",
              "--tau-q",       save("tau_q", rules.tau_q),
              "--tau-k",       save("tau_k", rules.tau_k),
              "--tau-v",       save("tau_v", rules.tau_v),
              "--bias",        save("bias", flat),
              "--carry-in",    save("carry_in", selection.carry_in),
              "--grad-out",    save("grad_out", grad_out)};
  for (const auto& [name, want] : gradients)
    words.insert(words.end(), {std::string("--grad-") + name, path(std::string("grad_") + name)});
  for (const char* threads : {"1", "3"}) {
    std::vector<std::string> with_threads = words;
    with_threads.insert(with_threads.end(), {"--threads", threads});
    const Ran ran = run(with_threads);
    ASSERT_EQ(ran.code, 0) << ran.err;
    for (const auto& [name, want] : gradients) {
      SCOPED_TRACE(name);
      expect_near(load(std::string("grad_") + name), *want, 5e-6);
    }
  }
}

TEST_F(AttendTest, WritesTheGradientsAskedForAndNoOthers) {
  const Array grad_out = random(13, {batch, heads, tokens, value_dim});
  reference::Cotangents given;
  given.out = grad_out;
  const Ran ran =
      run({"--dtype", "f64", "--grad-out", save("g", grad_out), "--grad-k", path("dk")});
  ASSERT_EQ(ran.code, 0) << ran.err;
  EXPECT_EQ(npy::read(path("dk")).type, npy::Type::float64);
  expect_near(load("dk"), attention_backward(q_, k_, v_, {}, given).k, 1e-12);
  EXPECT_FALSE(std::filesystem::exists(path("lse")));
  const auto files = std::distance(std::filesystem::directory_iterator(folder_), {});
  EXPECT_EQ(files, 6);  // q, k, v, g, out, dk
}

TEST_F(AttendTest, PrunesTokenByTokenAndInChunks) {
  for (const auto& [word, evict] : std::vector<std::pair<std::string, reference::Evict>>{
           {"f", reference::Evict::most_masked},
           {"window", reference::Evict::oldest},
           {"mass", reference::Evict::least_attended}})
    for (const std::ptrdiff_t budget : {2, 7, 36, 37, 50}) {
      reference::Pruning pruning;
      pruning.budget = budget;
      pruning.evict = evict;
      const reference::Pruned wanted = reference::pruned_attention(q_, k_, v_, pruning);
      const Words options{
          "--causal", "--selective", "--budget",  std::to_string(budget), "--evict",
          word,       "--lse",       path("lse"), "--evict-row",          path("evict_row")};
      const auto check = [&](const Words& words) {
        SCOPED_TRACE(testing::PrintToString(words));
        const Ran ran = run(words);
        ASSERT_EQ(ran.code, 0) << ran.err;
        expect_near(load("out"), wanted.out, 5e-6);
        expect_near(load("lse"), wanted.lse, 5e-6);
        EXPECT_EQ(load("evict_row").values, wanted.evict_row.values);
      };
      check(options);
      if (evict == reference::Evict::least_attended) continue;
      for (const char* chunk : {"1", "5", "37", "100"}) {
        Words words = options;
        words.insert(words.end(), {"--chunk", chunk});
        check(words);
      }
    }
}

TEST_F(AttendTest, PrunesWithTemperaturesAndTellsAllOfF) {
  reference::Rules rules = seen(reference::causal());
  rules.softcap = 2;
  rules.tau_q = random(10, {batch, heads, tokens});
  rules.tau_k = random(11, {batch, key_heads, tokens});
  rules.tau_v = random(12, {batch, 1, tokens});
  const auto wanted = reference::selective_attention(q_, k_, v_, rules);
  const Words options{"--causal",    "--selective",
                      "--softcap",   "2",
                      "--tau-q",     save("tau_q", rules.tau_q),
                      "--tau-k",     save("tau_k", rules.tau_k),
                      "--tau-v",     save("tau_v", rules.tau_v),
                      "--mask-f",    path("f"),
                      "--carry-out", path("carry"),
                      "--budget"};
  for (const char* budget : {"37", "6"}) {  // 37: nobody leaves
    Words words = options;
    words.push_back(budget);
    const Ran ran = run(words);
    ASSERT_EQ(ran.code, 0) << ran.err;
    if (words.back() == "37") expect_near(load("out"), wanted.out, 5e-6);
    expect_near(load("f"), wanted.f, 5e-6);
    expect_near(load("carry"), wanted.carry_out, 5e-6);
  }
}

TEST_F(AttendTest, ComputesInTheTypeAskedFor) {
  const auto wanted = reference::attention(q_, k_, v_).out;
  ASSERT_EQ(run({"--dtype", "f64"}).code, 0);
  EXPECT_EQ(npy::read(path("out")).type, npy::Type::float64);
  expect_near(load("out"), wanted, 1e-12);
  save<double>("k", k_);
  std::filesystem::remove(path("out"));
  expect_refusal({}, path("k") + ": it holds float64, q float32; --dtype says which to compute in");
  ASSERT_EQ(run({"--dtype", "f32"}).code, 0);
  EXPECT_EQ(npy::read(path("out")).type, npy::Type::float32);
  expect_near(load("out"), wanted, 5e-6);
  save<double>("q", q_), save<double>("v", v_);
  ASSERT_EQ(run({}).code, 0);
  EXPECT_EQ(npy::read(path("out")).type, npy::Type::float64);
}

TEST_F(AttendTest, GivesTheSameWithThreads) {
  for (const Words& options : {Words{"--causal"}, Words{"--causal", "--selective"},
                               Words{"--causal", "--selective", "--budget", "9"}}) {
    ASSERT_EQ(run(options).code, 0);
    const Array alone = load("out");
    Words words = options;
    words.insert(words.end(), {"--threads", "3"});
    ASSERT_EQ(run(words).code, 0);
    EXPECT_EQ(load("out").values, alone.values);
  }
}

TEST_F(AttendTest, PrintsStatisticsWhenAsked) {
  const Ran ran = run({"--causal", "--selective", "--budget", "9", "--repeat", "3", "--stats"});
  ASSERT_EQ(ran.code, 0);
  for (const char* word : {"time ", "median of 3", "pairs ", "GFLOP/s", "% of", "buffer  9 of 37"})
    EXPECT_NE(ran.out.find(word), std::string::npos) << word << " in\n" << ran.out;
}

TEST_F(AttendTest, ExplainsItself) {
  const Ran ran = call({"attend", "--help"});
  EXPECT_EQ(ran.code, 0);
  EXPECT_EQ(ran.err, "");
  for (const char* option : {"--q",
                             "--k",
                             "--v",
                             "--out",
                             "--lse",
                             "--causal",
                             "--query-offset",
                             "--window",
                             "--block",
                             "--previous-blocks",
                             "--selective",
                             "--select-head",
                             "--tau-q",
                             "--tau-k",
                             "--tau-v",
                             "--softcap",
                             "--scale",
                             "--bias",
                             "--mask",
                             "--lengths",
                             "--prefix",
                             "--sinks",
                             "--alibi",
                             "--carry-in",
                             "--carry-out",
                             "--budget",
                             "--chunk",
                             "--evict",
                             "--evict-row",
                             "--mask-f",
                             "--grad-out",
                             "--grad-q",
                             "--grad-k",
                             "--grad-v",
                             "--grad-tau-q",
                             "--grad-tau-k",
                             "--grad-tau-v",
                             "--grad-bias",
                             "--grad-carry",
                             "--dtype",
                             "--threads",
                             "--repeat",
                             "--stats"})
    EXPECT_NE(ran.out.find(std::string("  ") + option + " "), std::string::npos) << option;
}

TEST_F(AttendTest, RefusesWrongCommandLines) {
  for (const auto& [options, reason] : std::vector<std::pair<Words, std::string>>{
           {{"--scale", "fast"}, "--scale is 'fast', must be a finite number"},
           {{"--scale", "inf"}, "--scale is 'inf', must be a finite number"},
           {{"--softcap", "0"}, "--softcap is '0', must be a finite number above 0"},
           {{"--window", "3,"},
            "--window is '3,', should be L or L,R: tokens to the left and to the right, from 0"},
           {{"--window", "-1"},
            "--window is '-1', should be L or L,R: tokens to the left and to the right, from 0"},
           {{"--block", "0"}, "--block is '0', must be a whole number from 1 to 1000000000000000"},
           {{"--block", "99999999999999999999"},
            "--block is '99999999999999999999', must be a whole number from 1 to 1000000000000000"},
           {{"--prefix", "2.5"},
            "--prefix is '2.5', must be a whole number from 0 to 1000000000000000"},
           {{"--query-offset", "-3"},
            "--query-offset is '-3', must be a whole number from 0 to 1000000000000000"},
           {{"--threads", "0"}, "--threads is '0', must be a whole number from 1 to 1024"},
           {{"--repeat", "0"}, "--repeat is '0', must be a whole number from 1 to 1000000"},
           {{"--dtype", "f16"}, "--dtype is 'f16', must be one of f32|f64"},
           {{"--lse", ""}, "--lse names no file"},
           {{"--previous-blocks", "1"}, "--previous-blocks needs --block"},
           {{"--select-head", "1"}, "--select-head needs --selective"},
           {{"--mask-f", path("f")}, "--mask-f needs --selective"},
           {{"--carry-in", path("q")}, "--carry-in needs --selective"},
           {{"--carry-out", path("c")}, "--carry-out needs --selective"},
           {{"--grad-q", path("dq")}, "--grad-q needs --grad-out"},
           {{"--grad-out", path("q")}, "--grad-out needs a gradient to write, such as --grad-q"},
           {{"--grad-out", path("q"), "--grad-tau-k", path("d")}, "--grad-tau-k needs --tau-k"},
           {{"--grad-out", path("q"), "--grad-bias", path("d")}, "--grad-bias needs --bias"},
           {{"--causal", "--selective", "--grad-out", path("q"), "--grad-carry", path("d")},
            "--grad-carry needs --carry-in"},
           {{"--causal", "--selective", "--budget", "8", "--grad-out", path("q"), "--grad-q",
             path("d")},
            "--budget does not go with --grad-out"},
           {{"--causal", "--budget", "8"}, "--budget needs --causal and --selective"},
           {{"--selective", "--budget", "8"}, "--budget needs --causal and --selective"},
           {{"--causal", "--selective", "--chunk", "8"}, "--chunk needs --budget"},
           {{"--causal", "--selective", "--evict", "f"}, "--evict needs --budget"},
           {{"--causal", "--selective", "--evict-row", path("e")}, "--evict-row needs --budget"},
           {{"--causal", "--selective", "--budget", "1"},
            "--budget is '1', must be a whole number from 2 to 1000000000000000"},
           {{"--causal", "--selective", "--budget", "8", "--evict", "luck"},
            "--evict is 'luck', must be one of f|mass|window"},
           {{"--causal", "--selective", "--budget", "8", "--chunk", "4", "--evict", "mass"},
            "--chunk does not go with --evict mass, which is decided token by token"},
           {{"--causal", "--selective", "--budget", "8", "--window", "4"},
            "--budget does not go with --window"},
           {{"--causal", "--selective", "--budget", "8", "--mask", path("q")},
            "--budget does not go with --mask"},
       })
    expect_refusal(options, reason);
  // CLI11's own words, which differ from version to version.
  for (const auto& [options, mentions] :
       std::vector<std::pair<Words, std::string>>{{{"--speed"}, "--speed"},
                                                  {{"more"}, "more"},
                                                  {{"--scale"}, "--scale"},
                                                  {{"--block", "2", "--block", "3"}, "--block"}}) {
    const Ran ran = run(options);
    EXPECT_EQ(ran.code, 2);
    EXPECT_EQ(std::ranges::count(ran.err, '\n'), 1) << ran.err;
    EXPECT_NE(ran.err.find(mentions), std::string::npos) << ran.err;
    EXPECT_EQ(outputs(), Words());
  }
  const Ran ran = call({"attend", "--q", path("q")});
  EXPECT_EQ(ran.code, 2);
  EXPECT_EQ(std::ranges::count(ran.err, '\n'), 1) << ran.err;
}

TEST_F(AttendTest, RefusesFilesThatDoNotFit) {
  const std::string floats = save("floats", random(4, {tokens})),
                    flags = save<bool>("flags", Array({tokens}, 1)),
                    three = save("three", random(5, {batch, heads, tokens})),
                    five = save("five", random(6, {1, batch, heads, tokens, tokens})),
                    lengths = save<std::int64_t>("lengths", Array({batch}, 38));
  for (const auto& [options, reason] : std::vector<std::pair<Words, std::string>>{
           {{"--bias", path("absent")}, path("absent") + ": no such file"},
           {{"--mask", folder_.string()}, folder_.string() + ": it is not a regular file"},
           {{"--mask", floats}, floats + ": it holds float32, mask must be int64, bool or uint8"},
           {{"--bias", flags}, flags + ": it holds bool, bias must be float32 or float64"},
           {{"--bias", five}, five + ": bias is [1, 2, 4, 37, 37], must have at most 4 dimensions"},
           {{"--bias", three}, "bias is [1, 2, 4, 37], must be or broadcast to [2, 4, 37, 37]"},
           {{"--sinks", three}, three + ": sinks is [2, 4, 37], must have 1 dimension"},
           {{"--sinks", floats}, "sinks is [37], should be [4]: one logit per head"},
           {{"--tau-k", three},
            "key_temperature is [2, 4, 37], should be [2, 2, 37]: one per token, per head or "
            "shared "
            "by the heads"},
           {{"--lengths", lengths}, "lengths[0] is 38, must lie in 0 … 37, the number of keys"},
           {{"--causal", "--selective", "--carry-in", save("c", random(6, {batch, 5}))},
            "carry_in is [2, 5], should be [2, 37]: one number per key"},
           {{"--causal", "--selective", "--select-head", "4"},
            "selective: head 4 selects, there are 4"},
           {{"--causal", "--selective", "--budget", "9", "--tau-v", three},
            "tau-v is [2, 4, 37], should be [2, 2, 37]: one per token, per key head or shared by "
            "them"},
           {{"--grad-out", path("q"), "--grad-q", path("dq")},
            "grad_out is [2, 4, 37, 8], should be [2, 4, 37, 5]: the dimensions of out"},
           {{"--grad-out", three, "--grad-q", path("dq")},
            three + ": grad-out is [2, 4, 37], must have 4 dimensions"},
           {{"--lse", path("absent/lse")}, path("absent/lse") + ": its folder does not exist"},
           {{"--lse", "/dev/null"}, "/dev/null: it exists and is not a regular file"},
           {{"--lse", path("out")}, path("out") + ": two outputs go to this file"},
           {{"--lse", path("k")}, path("k") + ": it is an input as well as an output"},
       })
    expect_refusal(options, reason);

  std::filesystem::resize_file(path("v"), std::filesystem::file_size(path("v")) - 1);
  expect_refusal({}, path("v") +
                         ": it is truncated: its header says [2, 2, 37, 5] of float32, 2960 "
                         "bytes, and 2959 follow");
  save("v", random(4, {batch, heads, tokens}));
  expect_refusal({}, path("v") + ": v is [2, 4, 37], must have 4 dimensions");
  save("v", random(4, {batch, key_heads, tokens - 1, value_dim}));
  const Ran ran = run({});
  EXPECT_EQ(ran.code, 2);
  EXPECT_EQ(std::ranges::count(ran.err, '\n'), 1);
  EXPECT_NE(ran.err.find("[2, 2, 36, 5]"), std::string::npos) << ran.err;
  EXPECT_EQ(outputs(), Words());
}

TEST_F(AttendTest, ServesEmptyTensors) {
  save("q", Array({batch, heads, 0, dim})), save("k", Array({batch, key_heads, 0, dim}));
  save("v", Array({batch, key_heads, 0, value_dim}));
  for (const Words& options : {Words{}, Words{"--causal", "--selective", "--stats"},
                               Words{"--causal", "--selective", "--budget", "4"}}) {
    const Ran ran = run(options);
    ASSERT_EQ(ran.code, 0) << ran.err;
    EXPECT_EQ(npy::read(path("out")).shape,
              (std::vector<std::int64_t>{batch, heads, 0, value_dim}));
  }
}

}  // namespace
