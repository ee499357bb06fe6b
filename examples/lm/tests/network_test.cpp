// SPDX-License-Identifier: MIT
// The model that is trained and the one that generates are the same function, and a run that was
// stopped goes on as if it had not been.
#include "lm/train/network.hpp"

#include "lm/model.hpp"
#include "lm/train/batches.hpp"
#include "lm/train/training.hpp"

#include <gtest/gtest.h>

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <ostream>
#include <random>
#include <sstream>
#include <string>
#include <vector>

namespace lm {
namespace {

Config small() {
  Config c;
  c.layers = 3, c.heads = 2, c.dim = 24, c.head_dim = 8, c.hidden = 20, c.context = 150;
  return c;
}

std::vector<std::uint8_t> random_bytes(std::size_t count) {
  std::mt19937 random(7);
  std::vector<std::uint8_t> bytes(count);
  for (std::uint8_t& byte : bytes) byte = std::uint8_t(random());
  return bytes;
}

/// A network whose every parameter matters: drawn so that scores, gates and temperatures are far
/// from those of a fresh one.
Network lively(const Config& config) {
  Network network(config, 3);
  const at::NoGradGuard guard;
  at::manual_seed(5);
  for (auto& [name, tensor] : network.parameters()) {
    const double size = tensor.dim() == 2 ? 2 / std::sqrt(double(tensor.size(1))) : 0.3;
    tensor.add_(at::randn_like(tensor) * size);
  }
  return network;
}

std::filesystem::path temporary(const std::string& name) {
  const auto path = std::filesystem::path(testing::TempDir()) /
                    ("heed_lm_" + name + "_" + std::to_string(std::random_device()()));
  std::filesystem::create_directories(path);
  return path;
}

void write_text(const std::filesystem::path& path, const std::vector<std::uint8_t>& bytes) {
  std::ofstream(path, std::ios::binary)
      .write(reinterpret_cast<const char*>(bytes.data()), std::streamsize(bytes.size()));
}

struct Case {
  const char* name;
  Config config;
};
std::ostream& operator<<(std::ostream& out, const Case& c) {
  return out << c.name;
}

std::vector<Case> cases() {
  std::vector<Case> list{{"standard", small()}};
  const auto add = [&](const char* name, auto&& change) {
    list.push_back({name, small()});
    change(list.back().config);
  };
  add("selective", [](Config& c) { c.selective = true; });
  add("qk_norm", [](Config& c) { c.qk_norm = true, c.selective = true; });
  add("ssa", [](Config& c) { c.temperatures = Temperatures{false, false, false}; });
  add("ssa_token", [](Config& c) { c.temperatures = Temperatures{true, false, false}; });
  add("ssa_value", [](Config& c) { c.temperatures = Temperatures{true, true, false}; });
  add("ssa_shared", [](Config& c) { c.temperatures = Temperatures{true, true, true}; });
  add("selective_ssa", [](Config& c) {
    c.selective = true, c.temperatures = Temperatures{true, true, true};
  });
  add("window", [](Config& c) { c.spans = Spans{{1}, 20, {}}; });
  add("block", [](Config& c) { c.spans = Spans{{1}, {}, 32}; });
  add("selective_block", [](Config& c) { c.selective = true, c.spans = Spans{{1}, {}, 32}; });
  add("selective_window", [](Config& c) { c.selective = true, c.spans = Spans{{2}, 20, {}}; });
  return list;
}

class LmNetwork : public testing::TestWithParam<Case> {};
INSTANTIATE_TEST_SUITE_P(Attention, LmNetwork, testing::ValuesIn(cases()),
                         [](const auto& case_) { return case_.param.name; });

TEST_P(LmNetwork, PredictsWhatTheModelOnHeedAndEigenPredicts) {
  const Network network = lively(GetParam().config);
  const auto path = temporary(GetParam().name);
  write_checkpoint(path / "model", network.checkpoint());
  const Model model(read_checkpoint(path / "model"));
  std::filesystem::remove_all(path);

  const auto bytes = random_bytes(150);
  const Bytes window = bytes;
  const at::NoGradGuard guard;
  const at::Tensor wanted = network.forward(as_tensor({&window, 1})).logits[0].contiguous();
  const Eigen::Map<const Matrix> expected(wanted.data_ptr<float>(), 150, 256);
  const float largest = expected.cwiseAbs().maxCoeff();
  EXPECT_GT(largest, 1);

  // At once; as a prompt, some more, and token by token.
  Memory memory(model.config(), {});
  EXPECT_LT((model.forward(window, memory) - expected).cwiseAbs().maxCoeff(), 1e-4 * largest);
  memory.clear();
  EXPECT_LT((model.forward(window.first(70), memory) - expected.topRows(70)).cwiseAbs().maxCoeff(),
            1e-4 * largest);
  for (std::size_t i = 70; i < 150; ++i)
    EXPECT_LT((model.forward(window.subspan(i, 1), memory) - expected.row(Eigen::Index(i)))
                  .cwiseAbs()
                  .maxCoeff(),
              1e-4 * largest)
        << i;
}

TEST_P(LmNetwork, LearnsByEveryParameter) {
  Network network = lively(GetParam().config);
  const auto bytes = random_bytes(51);
  const Bytes window = bytes;
  const at::Tensor tokens = as_tensor({&window, 1});
  at::cross_entropy_loss(network.forward(tokens.slice(1, 0, -1)).logits[0], tokens[0].slice(0, 1))
      .backward();
  for (const auto& [name, tensor] : network.parameters()) {
    ASSERT_TRUE(tensor.grad().defined()) << name;
    EXPECT_GT(tensor.grad().abs().max().item<double>(), 0) << name;
  }
}

std::string content(const std::filesystem::path& path) {
  std::ifstream stream(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(stream), {}};
}

TEST(LmTraining, StoppedAndResumedEndsWithTheSameWeights) {
  const auto folder = temporary("resume");
  write_text(folder / "text", random_bytes(20 * Text::block));
  TrainRequest request;
  request.settings.config = small();
  request.settings.config.selective = true;
  request.settings.memory_loss = 0.1;
  request.settings.batch = 2, request.settings.tokens = 12 * 300, request.settings.warm_up = 3;
  request.text = folder / "text";
  request.out = folder / "whole";
  request.quiet = true;
  std::ostringstream out;
  train(request, false, out);

  request.out = folder / "parts";
  request.resume = true;
  for (int i = 0; i < 12; ++i) train(request, true, out);  // one step at a time
  EXPECT_EQ(content(folder / "whole/model.safetensors"),
            content(folder / "parts/model.safetensors"));
  EXPECT_FALSE(content(folder / "whole/model.safetensors").empty());

  // Other settings are another run.
  request.settings.rate = 1e-3;
  EXPECT_THROW(train(request, false, out), FileError);
  request.resume = false;
  EXPECT_THROW(train(request, false, out), FileError);
  std::filesystem::remove_all(folder);
}

TEST(LmTraining, GoesOnFromACheckpointAtALongerContext) {
  const auto folder = temporary("from");
  write_text(folder / "text", random_bytes(20 * Text::block));
  Network before(small(), 3);
  write_checkpoint(folder / "before", before.checkpoint());
  TrainRequest request;
  request.settings.config = small();
  request.settings.config.context = 200;
  // A rate of nothing: the weights that come out are those that went in.
  request.settings.batch = 1, request.settings.tokens = 200, request.settings.rate = 0;
  request.settings.seed = 9;
  request.text = folder / "text", request.from = folder / "before", request.out = folder / "after";
  std::ostringstream out;
  train(request, false, out);
  const Checkpoint after = read_checkpoint(folder / "after/model.safetensors");
  EXPECT_EQ(after.config.context, 200);
  EXPECT_EQ(after.values, before.checkpoint().values);
  EXPECT_EQ(after.notes.at("from"), request.from.string());

  request.settings.config.heads = 4, request.settings.config.head_dim = 4;
  request.out = folder / "other";
  EXPECT_THROW(train(request, false, out), ConfigError);  // the same shapes, another model
  std::filesystem::remove_all(folder);
}

TEST(LmTraining, OfRiddlesLearnsTheAnswersAlone) {
  const auto folder = temporary("answers");
  TrainRequest request;
  request.settings.config = small();
  request.settings.batch = 1, request.settings.tokens = 150, request.settings.warm_up = 0;
  request.settings.adam.weight_decay = 0, request.settings.answers_only = true;
  request.text = folder / "text";
  std::ostringstream out;
  const auto begun = Network(small(), request.settings.seed).checkpoint().values;
  const auto after = [&](const std::string& line) {
    std::vector<std::uint8_t> text;
    while (text.size() < 20 * Text::block) text.insert(text.end(), line.begin(), line.end());
    write_text(request.text, text);
    request.out = folder / std::to_string(line.size());
    train(request, false, out);
    return read_checkpoint(request.out / "model.safetensors").values;
  };
  EXPECT_EQ(after("no answer\n"), begun);
  EXPECT_NE(after("an answer>yes\n"), begun);
  std::filesystem::remove_all(folder);
}

TEST(LmTraining, RatesRiseByALineAndFallByHalfACosine) {
  TrainingSettings s;
  s.config = small(), s.batch = 1, s.tokens = 1100 * 150, s.warm_up = 100, s.rate = 1;
  EXPECT_EQ(s.steps(), 1100);
  EXPECT_DOUBLE_EQ(s.rate_at(50), 0.5);
  EXPECT_DOUBLE_EQ(s.rate_at(100), 1);
  EXPECT_DOUBLE_EQ(s.rate_at(600), 0.55);
  EXPECT_DOUBLE_EQ(s.rate_at(1100), 0.1);
}

}  // namespace
}  // namespace lm
