// SPDX-License-Identifier: MIT
#include "demo/runs.hpp"

#include "heed/heed.hpp"
#include "programs/eviction_rules.hpp"

#include <chrono>
#include <cmath>
#include <limits>

namespace demo {
namespace {

using heed::block_span, heed::causal, heed::selective, heed::standard, heed::when;

/// What is switched on beside the causal mask.
struct Choice {
  bool temperatures = false, window = false, blocks = false, selective = false;
  View<const std::int64_t, 2> evict_row{};
};

/// The choice as a variant. One type for all of them: with when(), a demonstration of thirteen
/// variants compiles the engine once. Where the variant is fixed, say standard | causal |
/// selective.
auto variant_of(const Text& text, const Choice& choice) {
  return when(choice.temperatures, heed::query_temperature(text.tau_q())) |
         when(choice.temperatures, heed::value_temperature(text.tau_v())) | standard | causal |
         when(choice.window, heed::window(span - 1, 0)) | when(choice.blocks, block_span(span)) |
         when(bool(choice.evict_row), heed::alive(choice.evict_row)) |
         when(choice.selective, selective);
}

/// The shortest of several passes, in seconds.
template <class Pass>
double shortest(int repeat, const Pass& pass) {
  using Clock = std::chrono::steady_clock;
  double least = std::numeric_limits<double>::infinity();
  for (int n = 0; n < repeat; ++n) {
    const Clock::time_point start = Clock::now();
    pass();
    least = std::min(least, std::chrono::duration<double>(Clock::now() - start).count());
  }
  return least;
}

/// Outputs of one call, overwritten by the next.
struct Outputs {
  std::vector<float> out, lse;
  View<float, 4> out_view;
  View<float, 3> lse_view;

  explicit Outputs(const Text& text)
      : out(std::size_t(text.q().dim(1) * text.size() * text.v().dim(3))),
        lse(std::size_t(text.q().dim(1) * text.size())),
        out_view(out.data(), {1, text.q().dim(1), text.size(), text.v().dim(3)}),
        lse_view(lse.data(), {1, text.q().dim(1), text.size()}) {}
};

/// Mean over the rows of −Σ w log2 w.
std::vector<double> entropy_of(const std::vector<float>& weights, Index heads, Index tokens) {
  std::vector<double> bits;
  for (Index h = 0; h < heads; ++h) {
    double sum = 0;
    for (Index at = h * tokens * tokens; at < (h + 1) * tokens * tokens; ++at)
      if (const double w = weights[std::size_t(at)]; w > 0) sum -= w * std::log2(w);
    bits.push_back(sum / double(tokens));
  }
  return bits;
}

/// Head 3 looks for the last place where its word was said: the weight it puts there, mean over the
/// words that were said before.
double recall_of(const std::vector<float>& weights, const Text& text) {
  constexpr Index head = 3;
  double sum = 0, count = 0;
  for (Index i = 0; i < text.size(); ++i)
    if (const Index last = text.last_mention(i); last > 0) {
      sum += weights[std::size_t((head * text.size() + i) * text.size() + last)];
      ++count;
    }
  return sum / count;
}

/// The weights of every head and row, from the same call once more, and what they tell.
void look(Run& run, const Text& text, const Choice& choice, const View<float, 3>& lse) {
  const Index heads = text.q().dim(1), tokens = text.size();
  run.weights.resize(std::size_t(heads * tokens * tokens));
  for (Index h = 0; h < heads; ++h)
    heed::weights(text.q(), text.k(), variant_of(text, choice), lse,
                  {.batch = 0, .head = h, .row = 0, .rows = tokens},
                  View<float, 2>(run.weights.data() + h * tokens * tokens, {tokens, tokens}));
  run.entropy = entropy_of(run.weights, heads, tokens);
  run.recall = recall_of(run.weights, text);
}

/// One fused pass.
Run run_whole(const Text& text, int repeat, std::string name, std::string id, double kept,
              const Choice& choice) {
  Run run;
  run.name = std::move(name), run.id = std::move(id), run.kept = kept;
  Outputs outputs(text);
  heed::Workspace workspace;
  const auto variant = variant_of(text, choice);
  run.seconds = shortest(repeat, [&] {
    run.pairs = heed::forward(text.q(), text.k(), text.v(), variant, outputs.out_view,
                              outputs.lse_view, {.executor = {}, .workspace = &workspace})
                    .pairs;
  });
  look(run, text, choice, outputs.lse_view);
  return run;
}

/// A buffer, and a pass of the text through it.
class Pruned {
 public:
  Pruned(const Text& text, const heed::KvOptions& options)
      : text_(text),
        outputs_(text),
        pool_(text.k().dim(3), text.v().dim(3), {.page = page_tokens}),
        buffer_({.batch = 1,
                 .heads = text.q().dim(1),
                 .key_heads = text.k().dim(1),
                 .dim = text.k().dim(3),
                 .value_dim = text.v().dim(3)},
                options, pool_),
        evict_row_(std::size_t(text.size()), text.size()) {}

  /// @return pairs computed.
  Index pass() {
    buffer_.clear(0);
    const Index tokens = text_.size();
    if (!buffer_.options().evict.uses_window()) return step(0, tokens);
    // The rule acts when a step ends: half of the text is a prompt, the rest comes word by word.
    Index pairs = step(0, tokens / 2);
    for (Index i = tokens / 2; i < tokens; ++i) pairs += step(i, 1);
    return pairs;
  }
  std::size_t bytes() const { return pool_.bytes_held() + buffer_.sequence(0).bytes(); }
  const View<float, 3>& lse() const { return outputs_.lse_view; }
  const std::vector<std::int64_t>& evict_row() const { return evict_row_; }

 private:
  template <class T>
  static View<T, 4> rows(const View<T, 4>& x, Index first, Index count) {
    return {x.data() + first * x.stride(2), {1, x.dim(1), count, x.dim(3)}, x.strides()};
  }
  Index step(Index first, Index count) {
    heed::KvBuffer<float>::Step step;
    const View<float, 3>& lse = outputs_.lse_view;
    step.lse = {lse.data() + first, {1, lse.dim(1), count}, lse.strides()};
    step.evict_row = {evict_row_.data(), {1, text_.size()}};
    return buffer_
        .step(rows(text_.q(), first, count), rows(text_.k(), first, count),
              rows(text_.v(), first, count), standard, rows(outputs_.out_view, first, count), step)
        .pairs;
  }

  const Text& text_;
  Outputs outputs_;
  heed::KvPool<float> pool_;
  heed::KvBuffer<float> buffer_;
  std::vector<std::int64_t> evict_row_;
};

/// Through a buffer on a budget.
Run run_pruned(const Text& text, int repeat, std::string name, std::string id,
               const heed::EvictionRule& rule, Index budget) {
  Run run;
  run.name = std::move(name), run.id = std::move(id),
  run.kept = double(std::min(budget, text.size()));
  Pruned pruned(text, {.budget = budget, .evict = rule});
  run.seconds = shortest(repeat, [&] { run.pairs = pruned.pass(); });
  run.bytes = pruned.bytes(), run.evict_row = pruned.evict_row();
  // What a buffer does to attention is a mask.
  look(run, text, {.selective = true, .evict_row = {run.evict_row.data(), {1, text.size()}}},
       pruned.lse());
  return run;
}

/// One layer of four sees everything, the others blocks. The tensors are the same in each: this is
/// about cost.
Mixture run_mixture(const Text& text, int repeat) {
  constexpr Index layers = 4;
  const auto plan = heed::LayerPlan::top(layers, 1);
  const auto block = block_span(span);
  Outputs outputs(text);
  const auto pairs_with = [&](const heed::LayerPlan& p) {
    Index pairs = 0;
    for (Index layer = 0; layer < layers; ++layer)
      pairs += heed::forward(text.q(), text.k(), text.v(),
                             standard | causal | p.stage(layer, block), outputs.out_view)
                   .pairs;
    return pairs;
  };
  Mixture mixture;
  mixture.name = "4 layers, the top one full, else blocks of " + std::to_string(span);
  mixture.seconds = shortest(repeat, [&] { mixture.pairs = pairs_with(plan); });
  mixture.of_full =
      double(mixture.pairs) / double(pairs_with(heed::LayerPlan::top(layers, layers)));
  mixture.formula = plan.cost_ratio(block, text.size());
  return mixture;
}

}  // namespace

double Run::mean_entropy() const {
  double sum = 0;
  for (const double bits : entropy) sum += bits;
  return sum / double(entropy.size());
}

Runs run_all(const Text& text, int repeat) {
  const Index tokens = text.size();
  const double all = double(tokens);
  Runs result;
  result.f.resize(std::size_t(tokens * tokens));
  result.memory.resize(std::size_t(tokens));

  // F and M on the way, in a pass of their own that is not timed.
  Outputs outputs(text);
  heed::forward(text.q(), text.k(), text.v(),
                standard | causal |
                    selective.mask_f(View<float, 3>(result.f.data(), {1, tokens, tokens}))
                        .memory(View<float, 2>(result.memory.data(), {1, tokens})),
                outputs.out_view);
  const double unmasked = result.memory.back();

  const std::string of_span = std::to_string(span);
  auto& runs = result.runs;
  const auto add = [&](std::string name, std::string id, double kept, const Choice& choice) {
    runs.push_back(run_whole(text, repeat, std::move(name), std::move(id), kept, choice));
  };
  add("standard", "standard", all, {});
  add("window of " + of_span, "window", double(span), {.window = true});
  add("blocks of " + of_span, "", double(span), {.blocks = true});
  add("temperatures (SSA)", "temperatures", all, {.temperatures = true});
  add("selective", "selective", unmasked, {.selective = true});
  add("selective, temperatures", "", unmasked, {.temperatures = true, .selective = true});
  add("selective, window of " + of_span, "", double(span), {.window = true, .selective = true});

  Pruned whole(text, {});
  whole.pass();
  for (Run& run : runs)
    if (run.kept == all) run.bytes = whole.bytes();

  for (const heed::EvictionRule& rule : programs::eviction_rules())
    for (const Index budget : {96, 64, 48, 32, 16}) {
      const bool in_table =
          budget == shown_budget || (rule == heed::EvictionRule(heed::most_masked) && budget != 16);
      const bool on_page = budget == shown_budget;
      Run run = run_pruned(text, in_table ? repeat : 1,
                           "pruned to " + std::to_string(budget) + ", " + rule.name(),
                           on_page ? std::string("pruned-") + rule.name() : "", rule, budget);
      result.evictions.push_back({rule.name(), budget, run.evict_row});
      if (in_table) runs.push_back(std::move(run));
    }
  result.mixture = run_mixture(text, repeat);
  return result;
}

}  // namespace demo
