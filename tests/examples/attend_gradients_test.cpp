// SPDX-License-Identifier: MIT
#include "examples/attend_calls.hpp"
#include "reference/backward.hpp"

#include <filesystem>
#include <iterator>
#include <string>
#include <utility>
#include <vector>

namespace attend {
namespace {

using AttendGradientsTest = AttendCalls;

TEST_F(AttendGradientsTest, GoesBackToAllThatWentIn) {
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

TEST_F(AttendGradientsTest, WritesTheGradientsAskedForAndNoOthers) {
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

}  // namespace
}  // namespace attend
