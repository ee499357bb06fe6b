// SPDX-License-Identifier: MIT
#include "examples/temporary_folder.hpp"
#include "lm/checkpoint.hpp"
#include "lm/text.hpp"

#include <gtest/gtest.h>

#include <limits>
#include <numeric>

namespace lm {
namespace {

/// A small model with everything there is.
Config small() {
  Config c;
  c.layers = 2, c.heads = 2, c.dim = 8, c.head_dim = 4, c.hidden = 6, c.context = 16;
  c.qk_norm = true, c.rotary_base = 500.5, c.selective = true;
  c.temperatures = Temperatures{true, true, true};
  c.spans = Spans{{1}, 3, {}};
  return c;
}

/// The message with which a configuration is refused.
std::string refusal(const std::string& json) {
  try {
    config_from_json(json);
  } catch (const ConfigError& error) {
    return error.what();
  }
  return "read without complaint";
}

std::string replaced(std::string text, const std::string& what, const std::string& by) {
  const std::size_t at = text.find(what);
  EXPECT_NE(at, std::string::npos) << what;
  return text.replace(at, what.size(), by);
}

TEST(LmConfig, ComesBackFromJson) {
  const Config c = config_from_json(to_json(small()));
  EXPECT_EQ(to_json(c), to_json(small()));
  EXPECT_EQ(c.rotary_base, 500.5);
  EXPECT_EQ(c.spans->window, 3);
  EXPECT_TRUE(c.temperatures->shared);
  EXPECT_EQ(c.attention_name(), "selective+ssa+spans");
  EXPECT_EQ(config_from_json(to_json(Config())).attention_name(), "standard");
}

TEST(LmConfig, SaysWhichLayersAreFull) {
  EXPECT_FALSE(small().is_full(0));
  EXPECT_TRUE(small().is_full(1));
  EXPECT_TRUE(Config().is_full(0));
}

TEST(LmConfig, RefusesWhatIsMissingUnknownOrOfAnotherKind) {
  const std::string good = to_json(small());
  EXPECT_EQ(refusal("{"), "the configuration is no JSON");
  EXPECT_EQ(refusal("[]"), "the configuration is no JSON object");
  EXPECT_EQ(refusal(replaced(good, "\"dim\":8,", "")), "the configuration lacks dim");
  EXPECT_EQ(refusal(replaced(good, "\"dim\":8", "\"dim\":8,\"more\":1")),
            "the configuration has keys that are not known");
  for (const char* other : {"\"dim\":-8", "\"dim\":8.0", "\"dim\":\"8\"", "\"dim\":1e3",
                            "\"dim\":18446744073709551615", "\"dim\":null"})
    EXPECT_EQ(refusal(replaced(good, "\"dim\":8", other)),
              "the configuration: dim is of the wrong kind");
  EXPECT_EQ(refusal(replaced(good, "\"value\":true", "\"value\":1")),
            "the configuration's temperatures: value is of the wrong kind");
}

TEST(LmConfig, RefusesNamesGivenTwice) {
  const std::string good = to_json(small());
  EXPECT_EQ(refusal(replaced(good, "\"dim\":8", "\"dim\":8,\"dim\":8")),
            "the configuration has 'dim' twice");
  EXPECT_EQ(refusal(replaced(good, "\"value\":true", "\"value\":true,\"value\":false")),
            "the configuration has 'value' twice");
}

TEST(LmConfig, RefusesWhatIsBehindItsJson) {
  EXPECT_EQ(refusal(to_json(small()) + std::string("\0{}", 3)), "the configuration is no JSON");
  EXPECT_EQ(refusal(to_json(small()) + std::string(1, '\0')), "the configuration is no JSON");
  EXPECT_EQ(refusal(to_json(small()) + "{}"), "the configuration is no JSON");
}

TEST(LmConfig, NamesEachFullLayerOnce) {
  EXPECT_EQ(refusal(replaced(to_json(small()), "[1]", "[1,0]")), "read without complaint");
  EXPECT_EQ(refusal(replaced(to_json(small()), "[1]", "[1,0,1]")),
            "layer 1 is named twice as a full one");
}

TEST(LmConfig, RefusesSizesThatDoNotFit) {
  const std::string good = to_json(small());
  EXPECT_EQ(refusal(replaced(good, "\"layers\":2", "\"layers\":0")),
            "layers is 0, must lie in 1 … 256");
  EXPECT_EQ(refusal(replaced(good, "\"layers\":2", "\"layers\":4000000000")),
            "layers is 4000000000, must lie in 1 … 256");
  EXPECT_EQ(refusal(replaced(good, "\"head_dim\":4", "\"head_dim\":5")),
            "head_dim is 5, must be even: rotary positions turn pairs");
  EXPECT_EQ(refusal(replaced(good, "[1]", "[2]")), "a full layer is 2, must lie in 0 … 1");
  EXPECT_EQ(refusal(replaced(good, "\"window\":3", "\"window\":3,\"block\":3")),
            "mixed spans want either a window or a block");
  EXPECT_EQ(refusal(replaced(good, "\"token\":true", "\"token\":false")),
            "shared weights are those of the token's temperature, which is off");
}

class LmCheckpoint : public TemporaryFolder {
 protected:
  static Checkpoint counting() {
    Checkpoint c{small(), {}, {{"how", "by hand"}}};
    float next = 0;
    for (const Parameter& p : parameters(c.config)) {
      auto& values = c.values[p.name];
      values.resize(std::size_t(p.size()));
      for (float& x : values) x = next += 0.25f;
    }
    return c;
  }
  /// The reason for which the file is refused.
  std::string refusal(const Safetensors& changed) const {
    write_safetensors(folder_ / "changed", changed);
    try {
      read_checkpoint(folder_ / "changed");
    } catch (const FileError& error) {
      return std::string(error.what()).substr((folder_ / "changed: ").string().size());
    }
    return "read without complaint";
  }
};

TEST_F(LmCheckpoint, ComesBack) {
  const Checkpoint wanted = counting();
  write_checkpoint(folder_ / "a", wanted);
  const Checkpoint back = read_checkpoint(folder_ / "a");
  EXPECT_EQ(to_json(back.config), to_json(wanted.config));
  EXPECT_EQ(back.values, wanted.values);
  EXPECT_EQ(back.notes, wanted.notes);
}

TEST_F(LmCheckpoint, TakesHalfTheRoomInSixteenBits) {
  write_checkpoint(folder_ / "a", counting());
  write_checkpoint(folder_ / "b", counting(), Storage::bf16);
  const auto bytes = [&](const char* name) {
    std::uint64_t sum = 0;
    for (const auto& [key, stored] : read_safetensors(folder_ / name).tensors)
      sum += stored.bytes.size();
    return sum;
  };
  EXPECT_EQ(bytes("a"), 2 * bytes("b"));
  EXPECT_NEAR(read_checkpoint(folder_ / "b").values.at("final_norm")[7],
              counting().values.at("final_norm")[7], 4);
}

TEST_F(LmCheckpoint, RefusesTensorsThatAreNotTheConfigurations) {
  write_checkpoint(folder_ / "a", counting());
  const Safetensors good = read_safetensors(folder_ / "a");
  const auto with = [&](const auto& change) {
    Safetensors changed = good;
    change(changed);
    return refusal(changed);
  };
  EXPECT_EQ(with([](Safetensors&) {}), "read without complaint");
  EXPECT_EQ(with([](Safetensors& f) { f.tensors.erase("layers.1.qkv"); }),
            "it lacks tensor layers.1.qkv");
  EXPECT_EQ(with([](Safetensors& f) { f.tensors["more"] = store({}, {0}); }),
            "1 of its tensors are not among its configuration's parameters");
  EXPECT_EQ(with([](Safetensors& f) {
              std::swap(f.tensors["layers.0.qkv"].shape[0], f.tensors["layers.0.qkv"].shape[1]);
            }),
            "tensor layers.0.qkv is [8, 24], its configuration wants [24, 8]");
  EXPECT_EQ(with([](Safetensors& f) {
              const float values[8] = {1, std::numeric_limits<float>::quiet_NaN()};
              f.tensors["final_norm"] = store(values, {8});
            }),
            "tensor final_norm holds a number that is not finite");
  EXPECT_EQ(with([](Safetensors& f) { f.metadata.clear(); }),
            "its metadata lacks heed.lm.config: it is no model of heed's");
  EXPECT_EQ(with([](Safetensors& f) { f.metadata["heed.lm.config"] = "{}"; }),
            "the configuration lacks layers");
}

TEST(LmText, CutsByPositionWithoutOverlap) {
  constexpr std::size_t size = 45 * Text::block + 100;
  std::vector<std::uint8_t> bytes(size);
  const Text text{bytes};
  std::vector<int> seen(size);
  std::size_t sizes[3] = {};
  for (const Part part : {Part::train, Part::validation, Part::test})
    for (const Bytes stretch : text.stretches(part)) {
      sizes[int(part)] += stretch.size();
      for (const std::uint8_t& byte : stretch) ++seen[std::size_t(&byte - text.bytes().data())];
    }
  EXPECT_EQ(std::count(seen.begin(), seen.end(), 1), std::ptrdiff_t(size));
  EXPECT_EQ(sizes[1], 2 * Text::block);  // blocks 9 and 29
  EXPECT_EQ(sizes[2], 2 * Text::block);  // blocks 19 and 39
  EXPECT_EQ(text.stretches(Part::validation)[1].data(), text.bytes().data() + 29 * Text::block);
  EXPECT_EQ(text.stretches(Part::test)[0].data(), text.bytes().data() + 19 * Text::block);
}

TEST(LmText, WindowsLieWithinStretches) {
  const Text text{std::vector<std::uint8_t>(40 * Text::block)};
  const auto windows = text.windows(Part::test, 1000);
  EXPECT_EQ(windows.size(), 2 * (Text::block / 1000));
  EXPECT_EQ(windows[1].data(), windows[0].data() + 1000);
}

}  // namespace
}  // namespace lm
