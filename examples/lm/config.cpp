// SPDX-License-Identifier: MIT
#include "lm/config.hpp"

#include "lm/json.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

namespace lm {
namespace {

/// An object, each of whose keys is asked for once and of one kind.
class Reader {
 public:
  Reader(const Json& json, std::string what) : json_(json), what_(std::move(what)) {
    if (!json.is_object()) throw ConfigError(what_ + " is no JSON object");
  }

  std::int64_t integer(const char* key) {
    const Json& value = at(key);
    constexpr auto most = std::uint64_t(std::numeric_limits<std::int64_t>::max());
    if (!value.is_number_unsigned() || value.get<std::uint64_t>() > most) throw wrong(key);
    return value.get<std::int64_t>();
  }
  double number(const char* key) {
    const Json& value = at(key);
    if (!value.is_number()) throw wrong(key);
    return value.get<double>();
  }
  bool flag(const char* key) {
    const Json& value = at(key);
    if (!value.is_boolean()) throw wrong(key);
    return value.get<bool>();
  }
  std::vector<std::int64_t> integers(const char* key) {
    const Json& value = at(key);
    if (!value.is_array()) throw wrong(key);
    std::vector<std::int64_t> list;
    for (const Json& element : value) {
      if (!element.is_number_unsigned() || element.get<std::uint64_t>() > 1'000'000)
        throw wrong(key);
      list.push_back(element.get<std::int64_t>());
    }
    return list;
  }
  bool has(const char* key) const { return json_.contains(key); }
  const Json& at(const char* key) {
    if (!has(key)) throw ConfigError(what_ + " lacks " + key);
    ++taken_;
    return json_[key];
  }
  void finish() const {
    if (taken_ != json_.size()) throw ConfigError(what_ + " has keys that are not known");
  }

 private:
  ConfigError wrong(const char* key) const {
    return ConfigError(what_ + ": " + key + " is of the wrong kind");
  }

  const Json& json_;
  std::string what_;
  std::size_t taken_ = 0;
};

void expect_within(const char* what, std::int64_t value, std::int64_t least, std::int64_t most) {
  if (value < least || value > most)
    throw ConfigError(std::string(what) + " is " + std::to_string(value) + ", must lie in " +
                      std::to_string(least) + " … " + std::to_string(most));
}

}  // namespace

bool Config::is_full(std::int64_t layer) const {
  return !spans || std::ranges::find(spans->full_layers, layer) != spans->full_layers.end();
}

std::string Config::attention_name() const {
  std::string name;
  const auto add = [&](bool on, const std::string& what) {
    if (on) name += (name.empty() ? "" : "+") + what;
  };
  add(selective, "selective");
  add(temperatures.has_value(), "ssa");
  add(spans.has_value(), "spans");
  return name.empty() ? "standard" : name;
}

void check(const Config& c) {
  expect_within("layers", c.layers, 1, 256);
  expect_within("heads", c.heads, 1, 256);
  expect_within("dim", c.dim, 1, 16384);
  expect_within("head_dim", c.head_dim, 2, 1024);
  expect_within("hidden", c.hidden, 1, 65536);
  expect_within("context", c.context, 2, 1 << 20);
  if (c.head_dim % 2 != 0)
    throw ConfigError("head_dim is " + std::to_string(c.head_dim) +
                      ", must be even: rotary positions turn pairs");
  if (!std::isfinite(c.rotary_base) || c.rotary_base <= 1)
    throw ConfigError("rotary_base must be a finite number above 1");
  if (c.temperatures && c.temperatures->shared && !c.temperatures->token)
    throw ConfigError("shared weights are those of the token's temperature, which is off");
  if (c.spans) {
    if (c.spans->window.has_value() == c.spans->block.has_value())
      throw ConfigError("mixed spans want either a window or a block");
    expect_within("span", c.spans->window ? *c.spans->window : *c.spans->block, 1, 1 << 20);
    std::vector<bool> full(std::size_t(c.layers));  // so that there are no more than layers
    for (const std::int64_t layer : c.spans->full_layers) {
      expect_within("a full layer", layer, 0, c.layers - 1);
      if (full[std::size_t(layer)])
        throw ConfigError("layer " + std::to_string(layer) + " is named twice as a full one");
      full[std::size_t(layer)] = true;
    }
  }
}

std::string to_json(const Config& c) {
  Json json = {{"layers", c.layers},
               {"heads", c.heads},
               {"dim", c.dim},
               {"head_dim", c.head_dim},
               {"hidden", c.hidden},
               {"context", c.context},
               {"qk_norm", c.qk_norm},
               {"rotary_base", c.rotary_base},
               {"selective", c.selective}};
  if (c.temperatures)
    json["temperatures"] = {{"token", c.temperatures->token},
                            {"value", c.temperatures->value},
                            {"shared", c.temperatures->shared}};
  if (c.spans) {
    json["spans"] = {{"full_layers", c.spans->full_layers}};
    if (c.spans->window) json["spans"]["window"] = *c.spans->window;
    if (c.spans->block) json["spans"]["block"] = *c.spans->block;
  }
  return json.dump();
}

Config config_from_json(const std::string& text) {
  Json json;
  try {
    json = parse_json(text, 3);
  } catch (const JsonError& error) {
    throw ConfigError(std::string("the configuration ") + error.what());
  }
  Reader reader(json, "the configuration");
  Config c;
  c.layers = reader.integer("layers");
  c.heads = reader.integer("heads");
  c.dim = reader.integer("dim");
  c.head_dim = reader.integer("head_dim");
  c.hidden = reader.integer("hidden");
  c.context = reader.integer("context");
  c.qk_norm = reader.flag("qk_norm");
  c.rotary_base = reader.number("rotary_base");
  c.selective = reader.flag("selective");
  if (reader.has("temperatures")) {
    Reader inner(reader.at("temperatures"), "the configuration's temperatures");
    c.temperatures = {inner.flag("token"), inner.flag("value"), inner.flag("shared")};
    inner.finish();
  }
  if (reader.has("spans")) {
    Reader inner(reader.at("spans"), "the configuration's spans");
    c.spans = Spans{inner.integers("full_layers"), {}, {}};
    if (inner.has("window")) c.spans->window = inner.integer("window");
    if (inner.has("block")) c.spans->block = inner.integer("block");
    inner.finish();
  }
  reader.finish();
  check(c);
  return c;
}

std::int64_t Parameter::size() const {
  std::int64_t n = 1;
  for (const std::int64_t dim : shape) n *= dim;
  return n;
}

std::vector<Parameter> parameters(const Config& c) {
  using Kind = Parameter::Kind;
  std::vector<Parameter> list{{"embedding", {Config::vocabulary, c.dim}, Kind::matrix}};
  const std::int64_t inner = c.heads * c.head_dim;
  for (std::int64_t l = 0; l < c.layers; ++l) {
    const auto add = [&](const char* name, Shape shape, Kind kind) {
      list.push_back({"layers." + std::to_string(l) + "." + name, std::move(shape), kind});
    };
    add("attention_norm", {c.dim}, Kind::norm);
    add("qkv", {3 * inner, c.dim}, Kind::matrix);
    if (c.qk_norm) {
      add("query_norm", {c.head_dim}, Kind::norm);
      add("key_norm", {c.head_dim}, Kind::norm);
    }
    if (c.temperatures) {
      const Shape feature{c.heads, c.temperatures->shared ? c.head_dim : c.dim};
      add("query_temperature.gain", {1}, Kind::gain);
      if (c.temperatures->token) add("query_temperature.feature", feature, Kind::feature);
      if (c.temperatures->value) {
        add("value_temperature.gain", {1}, Kind::gain);
        if (c.temperatures->token) add("value_temperature.feature", feature, Kind::feature);
      }
    }
    add("attention_out", {c.dim, inner}, Kind::matrix);
    add("feed_norm", {c.dim}, Kind::norm);
    add("gate_up", {2 * c.hidden, c.dim}, Kind::matrix);
    add("down", {c.dim, c.hidden}, Kind::matrix);
  }
  list.push_back({"final_norm", {c.dim}, Kind::norm});
  return list;
}

}  // namespace lm
