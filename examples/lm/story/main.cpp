// SPDX-License-Identifier: MIT
// A model that forgets, on a text it never saw: goes on with a prompt, all in memory and on a
// budget, says what both cost and lose, and writes a page that shows what was forgotten when.
#include "lm/budgets.hpp"
#include "lm/story/page.hpp"
#include "programs/command_line.hpp"
#include "programs/eviction_rules.hpp"

#include <algorithm>
#include <cstdio>
#include <iostream>

namespace {

namespace fs = std::filesystem;

struct Request {
  fs::path models = fs::path(HEED_EXAMPLES) / "lm" / "models",
           text = fs::path(HEED_EXAMPLES) / "lm" / "data" / "unseen.txt", page = "forgetting.html";
  std::string model = "selective";
  std::int64_t budget = 16, prompt = 256, tokens = 256, passage = 256, windows = 16;
  bool curves = true;
};

void print(const char* title, const lm::Continuation& c, double loss) {
  std::printf("%s\n\n%s\n\n", title, c.text.c_str());
  std::printf(
      "  %.4f bits a byte, %lld tokens a layer in %zu bytes of memory, %.0f tokens a second\n\n",
      loss, (long long)c.kept.front(), c.bytes, c.tokens_per_second);
}

void tell(const Request& r) {
  const auto load = [&](const std::string& name) {
    return lm::Model(lm::read_checkpoint(r.models / (name + ".safetensors")));
  };
  const lm::Model model = load(r.model);
  const lm::Text text = lm::Text::read(r.text);
  const lm::Bytes all = text.bytes();
  const std::int64_t context = model.config().context;
  std::vector<lm::Bytes> windows;
  for (std::size_t at = 0;
       at + std::size_t(context) < all.size() && std::int64_t(windows.size()) < r.windows;
       at += std::size_t(context) + 1)
    windows.push_back(all.subspan(at, std::size_t(context) + 1));
  if (windows.empty() || std::int64_t(all.size()) < std::max(r.prompt, r.passage))
    throw lm::FileError(r.text.string() + ": it has " + std::to_string(all.size()) +
                        " bytes, too few for a context of " + std::to_string(context));

  lm::Story story;
  story.context = context, story.budget = r.budget;
  const lm::Bytes prompt = all.first(std::size_t(r.prompt));
  story.prompt.assign(prompt.begin(), prompt.end());
  const lm::Forgetting all_kept{},
      tight{lm::budgets_of(std::to_string(r.budget), model.config().layers)};
  story.score_whole = lm::score(model, all_kept, windows);
  story.score_pruned = lm::score(model, tight, windows);
  story.whole = lm::go_on(model, prompt, r.tokens, all_kept);
  story.pruned = lm::go_on(model, prompt, r.tokens, tight);

  std::printf("The prompt, which the model was not trained on:\n\n%s\n\n", story.prompt.c_str());
  print("Gone on with, everything in memory:", story.whole, story.score_whole.loss);
  print("Gone on with, on the budget:", story.pruned, story.score_pruned.loss);
  std::printf(
      "%.1f times fewer bytes, in pages of %lld tokens, and %.1f times fewer tokens; %+.4f bits a "
      "byte, %.2f times as fast\n",
      double(story.whole.bytes) / double(story.pruned.bytes), (long long)lm::page_tokens,
      double(story.whole.kept.front()) / double(story.pruned.kept.front()),
      story.score_pruned.loss - story.score_whole.loss,
      story.pruned.tokens_per_second / story.whole.tokens_per_second);

  story.reading = lm::read_passage(model, all.first(std::size_t(r.passage)), tight);
  if (r.curves)
    for (const std::string name : {"selective", "selective_memory", "standard"}) {
      if (!fs::exists(r.models / (name + ".safetensors"))) continue;
      const lm::Model other = load(name);
      const lm::Score unpruned = lm::score(other, {}, windows);
      if (name == "standard")
        std::printf(
            "standard attention, as many parameters and tokens, everything in memory: "
            "%.4f bits a byte\n",
            unpruned.loss);
      for (const heed::EvictionRule& rule : programs::eviction_rules())
        if (rule.evidence() != heed::Evidence::votes || other.config().selective)
          story.curves.push_back(lm::curve_of(name, other, rule, windows, unpruned.late_loss));
    }
  lm::write_page(r.page, fs::path(HEED_EXAMPLES) / "lm" / "story" / "page.html", story);
  std::printf("page   file://%s\n", fs::canonical(r.page).c_str());
}

}  // namespace

int main(int argc, char** argv) {
  using programs::count;
  Request r;
  programs::CommandLine line("story", "A model that forgets, on a text it never saw.");
  line.text("--models", r.models, "FOLDER", "Where NAME.safetensors are");
  line.text("--model", r.model, "NAME", "Which of them forgets")->capture_default_str();
  line.text("--text", r.text, "FILE", "The text");
  line.text("--page", r.page, "FILE", "Where the page goes")->capture_default_str();
  line.number("--budget", r.budget, "N", count(2), "Tokens each layer keeps");
  line.number("--prompt", r.prompt, "N", count(1), "Bytes of the text to go on from");
  line.number("--tokens", r.tokens, "N", count(1), "Bytes to generate");
  line.number("--passage", r.passage, "N", count(2), "Bytes of the text that the page shows");
  line.number("--windows", r.windows, "N", count(1), "Contexts of the text to measure losses on");
  line.app().add_flag("!--no-curves", r.curves, "Leaves out the curves of loss by budget");
  return line.run(argc, argv, [&] { tell(r); });
}
