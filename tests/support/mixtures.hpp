// SPDX-License-Identifier: MIT
/// @file
/// Mixtures of stages to test gradients with: each stage alone, and many at once by chance.
#pragma once

#include "support/gradients.hpp"

#include <algorithm>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace heed::test {

/// Fills stages with numbers for calls of one shape.
template <class T>
class Mixer {
 public:
  Mixer(const Shape& shape, std::uint64_t seed) : s_(shape), seed_(seed) {}

  void taus(Mixture<T>& m, bool shared) {
    m.tau_q = tau(shared ? 1 : s_.heads, s_.queries);
    m.tau_k = tau(shared ? 1 : s_.key_heads, s_.keys);
    m.tau_v = tau(shared ? 1 : s_.key_heads, s_.keys);
  }
  /// Of dimensions that broadcast where the bits say so.
  void bias(Mixture<T>& m, int bits) {
    m.bias = normal<T>(++seed_, (bits & 1) ? 1 : s_.batch, (bits & 2) ? 1 : s_.heads,
                       (bits & 4) ? 1 : s_.queries, (bits & 8) ? 1 : s_.keys);
  }
  void slopes(Mixture<T>& m) {
    m.slopes = uniform<T>(++seed_, s_.heads);
    m.slopes = m.slopes * m.slopes.constant(T(0.2));
  }
  void sinks(Mixture<T>& m) { m.sinks = normal<T>(++seed_, s_.heads); }
  void mask(Mixture<T>& m) {
    const Tensor<T> x = uniform<T>(++seed_, s_.batch, s_.heads, s_.queries, s_.keys);
    m.mask = x > x.constant(T(0.3));
  }
  /// Documents of some tokens each.
  void documents(Mixture<T>& m) {
    Random random(++seed_);
    m.documents = Tensor<std::int64_t, 2>(s_.batch, s_.keys);
    for (Index b = 0; b < s_.batch; ++b)
      for (Index j = 0, id = 3; j < s_.keys; ++j) m.documents(b, j) = id += random.uniform() < 0.05;
  }
  void lengths(Mixture<T>& m) {
    Random random(++seed_);
    m.length = Tensor<std::int64_t, 1>(s_.batch);
    for (Index b = 0; b < s_.batch; ++b) m.length(b) = random.integer(0, s_.keys + 1);
  }
  void starts(Mixture<T>& m) {
    Random random(++seed_);
    m.start = Tensor<std::int64_t, 1>(s_.batch);
    for (Index b = 0; b < s_.batch; ++b) m.start(b) = random.integer(0, s_.keys + 1);
  }
  void evict_row(Mixture<T>& m) {
    Random random(++seed_);
    m.evict_row = Tensor<std::int64_t, 2>(s_.batch, s_.keys);
    for (Index b = 0; b < s_.batch; ++b)
      for (Index j = 0; j < s_.keys; ++j) m.evict_row(b, j) = j + random.integer(1, 60);
  }
  /// Selection with all that may come in and out of it.
  void selection(Mixture<T>& m, int bits, bool projects) {
    m.selects = true;
    m.select = {.head = bits % s_.heads,
                .relu = (bits & 1) != 0,
                .protect_first = (bits & 2) != 0,
                .forbid_self = (bits & 4) != 0,
                .accumulate = (bits & 8) != 0,
                .shift = (bits & 16) != 0};
    m.grad_carry_out = normal<T>(++seed_, s_.batch, s_.keys);
    m.memory_tau = 1.7;
    // Not both: M takes it for granted that new keys enter with F = 0.
    if ((bits & 2) == 0)
      m.grad_memory = normal<T>(++seed_, s_.batch, s_.queries);
    else
      m.carry_in = uniform<T>(++seed_, s_.batch, s_.keys);
    if (!projects) return;
    m.sel_q = normal<T>(++seed_, s_.batch, s_.queries, 5);
    m.sel_k = normal<T>(++seed_, s_.batch, s_.keys, 5);
  }

  /// About half of everything.
  Mixture<T> any() {
    Random random(++seed_);
    const auto may = [&](double share = 0.5) { return random.uniform() < share; };
    Mixture<T> m;
    m.offset = s_.keys - s_.queries;
    if (may()) taus(m, may());
    if (may(0.3)) m.position = Gain{Gain::Kind(random.integer(0, 3)), 0.3};
    if (may(0.3)) m.scale = 0.3;
    if (may()) m.cap = 2;
    if (may()) bias(m, int(random.integer(0, 16)));
    if (may()) slopes(m);
    if (may()) sinks(m);
    m.curved = may(0.3);
    m.causal = may(0.7);
    if (!m.causal && may()) m.prefix = s_.keys / 3;
    if (may(0.3)) m.left = s_.keys / 3, m.right = may() ? unbounded : 4;
    if (may(0.3)) m.block = std::max<Index>(s_.keys / 4, 1), m.previous = may();
    if (may(0.2)) documents(m);
    if (may(0.2)) lengths(m);
    if (may(0.3)) mask(m);
    if (may(0.2)) evict_row(m);
    if (m.causal && may(0.7)) selection(m, int(random.integer(0, 32)), may(0.3));
    if (may(0.3)) starts(m);
    if (may(0.3)) m.grad_lse = normal<T>(++seed_, s_.batch, s_.heads, s_.queries);
    return m;
  }

 private:
  Tensor<T, 3> tau(Index heads, Index tokens) {
    const Tensor<T, 3> x = normal<T>(++seed_, s_.batch, heads, tokens);
    return x * x.constant(T(0.4)) + x.constant(T(1));
  }

  Shape s_;
  std::uint64_t seed_;
};

/// Each stage alone, with its name; to be filled for calls of this shape, Nq = Nk.
template <class T>
std::vector<std::pair<std::string, Mixture<T>>> each_stage(const Shape& shape) {
  std::vector<std::pair<std::string, Mixture<T>>> all;
  Mixer<T> mixer(shape, 1000);
  const auto add = [&](const std::string& name, auto&& change, bool causal = true) {
    Mixture<T> m;
    m.causal = causal;
    change(m);
    all.emplace_back(name, std::move(m));
  };
  add(
      "nothing", [](auto&) {}, false);
  add("causal", [](auto&) {});
  add("query offset", [](auto& m) { m.offset = 3; });
  for (const bool shared : {false, true})
    add(shared ? "shared temperatures" : "temperatures", [&](auto& m) { mixer.taus(m, shared); });
  for (const Gain::Kind kind : {Gain::sigmoid, Gain::gompertz, Gain::linear})
    add("position temperature " + std::to_string(kind), [&](auto& m) {
      m.position = Gain{kind, 0.3};
    });
  add("scale", [](auto& m) { m.scale = 0.7; });
  add("softcap", [](auto& m) { m.cap = 1.5; });
  for (int bits = 0; bits < 16; ++bits)
    add(
        "bias " + std::to_string(bits), [&](auto& m) { mixer.bias(m, bits); }, bits % 2 == 0);
  add("alibi", [&](auto& m) { mixer.slopes(m); });
  add("score rule", [](auto& m) { m.curved = true; });
  add("sinks", [&](auto& m) { mixer.sinks(m); });
  add("causal window", [](auto& m) { m.left = 9; });
  add(
      "window", [](auto& m) { m.left = 9, m.right = 5; }, false);
  add("block span", [](auto& m) { m.block = 14; });
  add(
      "block span of two", [](auto& m) { m.block = 14, m.previous = 1; }, false);
  add(
      "prefix", [](auto& m) { m.prefix = 17; }, false);
  add("documents", [&](auto& m) { mixer.documents(m); });
  add("lengths", [&](auto& m) { mixer.lengths(m); });
  add(
      "key lengths", [&](auto& m) { mixer.lengths(m); }, false);
  add("a loss on the log-sum-exp", [&](auto& m) {
    m.grad_lse = normal<T>(77, shape.batch, shape.heads, shape.queries);
    mixer.sinks(m);
  });
  add("a selection and a loss on the log-sum-exp", [&](auto& m) {
    m.grad_lse = normal<T>(78, shape.batch, shape.heads, shape.queries);
    m.selects = true;
  });
  add("starts", [&](auto& m) { mixer.starts(m); });
  add(
      "key starts", [&](auto& m) { mixer.starts(m); }, false);
  add(
      "mask", [&](auto& m) { mixer.mask(m); }, false);
  add("evicted keys", [&](auto& m) { mixer.evict_row(m); });
  add("selective", [](auto& m) { m.selects = true; });
  for (int bits = 0; bits < 32; ++bits)
    add("selecting " + std::to_string(bits),
        [&](auto& m) { mixer.selection(m, bits, bits % 3 == 0); });
  return all;
}

}  // namespace heed::test
