// SPDX-License-Identifier: MIT
#include "lm/story/story.hpp"

#include "heed/engine/weights.hpp"
#include "heed/score/causal.hpp"
#include "heed/score/selective.hpp"
#include "heed/score/standard.hpp"
#include "lm/budgets.hpp"
#include "lm/sampler.hpp"

#include <chrono>

namespace lm {
namespace {

using heed::Index, heed::View;

std::vector<double> bits_of_successors(const Matrix& logits, Bytes passage) {
  std::vector<double> bits;
  for (std::size_t i = 0; i + 1 < passage.size(); ++i)
    bits.push_back(bits_of(logits.row(Eigen::Index(i)), passage[i + 1]));
  return bits;
}

}  // namespace

Reading read_passage(const Model& model, Bytes passage, const Forgetting& forgetting) {
  const Config& c = model.config();
  if (c.attention_name() != "selective")
    throw ConfigError("the model's attention is " + c.attention_name() +
                      "; what it forgets is shown of selective attention alone");
  const auto tokens = Index(passage.size());
  Reading reading;
  reading.text.assign(passage.begin(), passage.end());

  // F and the weights come from passes of their own over the same queries and keys.
  Memory whole(c, {});
  const Observer watch = [&](std::int64_t, const Heads& in) {
    std::vector<float> f(std::size_t(tokens * tokens)), lse(std::size_t(c.heads * tokens)),
        out(std::size_t(c.heads * tokens * c.head_dim));
    const View<float, 3> lse_view(lse.data(), {1, c.heads, tokens});
    heed::forward(in.q, in.k, in.v,
                  heed::standard | heed::causal |
                      heed::selective.mask_f(View<float, 3>(f.data(), {1, tokens, tokens})),
                  View<float, 4>(out.data(), {1, c.heads, tokens, c.head_dim}), lse_view);
    std::vector<std::vector<float>> heads;
    for (Index h = 0; h < c.heads; ++h) {
      heads.emplace_back(std::size_t(tokens * tokens));
      heed::weights(in.q, in.k, heed::standard | heed::causal | heed::selective, lse_view,
                    {.batch = 0, .head = h, .row = 0, .rows = tokens},
                    View<float, 2>(heads.back().data(), {tokens, tokens}));
    }
    reading.f.push_back(std::move(f));
    reading.weights.push_back(std::move(heads));
    return heed::KvBuffer<float>::Step();
  };
  reading.bits = bits_of_successors(model.forward(passage, whole, watch), passage);

  Memory pruned(c, forgetting);
  reading.evict_row.assign(std::size_t(c.layers),
                           std::vector<std::int64_t>(passage.size(), tokens));
  const Observer note = [&](std::int64_t l, const Heads&) {
    heed::KvBuffer<float>::Step step;
    step.evict_row = {reading.evict_row[std::size_t(l)].data(), {1, tokens}};
    return step;
  };
  reading.bits_pruned = bits_of_successors(model.forward(passage, pruned, note), passage);
  return reading;
}

Continuation go_on(const Model& model, Bytes prompt, std::int64_t tokens,
                   const Forgetting& forgetting) {
  Memory memory(model.config(), forgetting);
  Sampler sampler(0.7, 1);
  Matrix logits = model.forward(prompt, memory);
  Continuation result;
  const auto start = std::chrono::steady_clock::now();
  for (std::int64_t n = 0; n < tokens; ++n) {
    const std::uint8_t next = sampler.draw(logits.row(logits.rows() - 1));
    result.text += char(next);
    logits = model.forward({&next, 1}, memory);
  }
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  result.tokens_per_second = double(tokens) / seconds.count();
  result.kept = memory.kept();
  result.bytes = memory.bytes();
  return result;
}

Curve curve_of(const std::string& name, const Model& model, const heed::EvictionRule& rule,
               std::span<const Bytes> windows, double unpruned) {
  Curve curve{name, rule.name(), unpruned, {}};
  for (const std::int64_t budget : {4, 8, 16, 32, 64, 128, 256}) {
    const Forgetting forgetting{budgets_of(std::to_string(budget), model.config().layers), rule};
    const Score found = score(model, forgetting, windows);
    curve.points.push_back({budget, found.late_loss, found.memory_bytes});
  }
  return curve;
}

}  // namespace lm
