// SPDX-License-Identifier: MIT
// Serves one stream of requests by a small language model, over and over with the same bytes for
// keys and values: all tokens kept, and on budgets. Says how many requests were in flight, how long
// they waited and what was lost, and writes a page that shows it.
#include "lm/budgets.hpp"
#include "programs/command_line.hpp"
#include "programs/eviction_rules.hpp"
#include "programs/output_files.hpp"
#include "serve/page.hpp"
#include "serve/progress.hpp"

#include <algorithm>
#include <cstdio>
#include <iostream>

namespace {

namespace fs = std::filesystem;

struct Asked {
  fs::path model = fs::path(HEED_EXAMPLES) / "lm" / "models" / "selective.safetensors",
           text = fs::path(HEED_EXAMPLES) / "lm" / "data" / "unseen.txt", page = "serving.html";
  std::vector<std::string> budgets = {"all", "64", "32"};
  std::string evict = "most_masked";
  std::int64_t sinks = 1, pool = 8 << 20, prefix = 128, windows = 64;
  double overbook = 1.5;
  serve::Traffic traffic;
  serve::ServerOptions server;
};

void expect_order(const char* least_name, const char* most_name, const serve::Between& range) {
  if (range.least > range.most)
    throw programs::UsageError(std::string(least_name) + " is " + std::to_string(range.least) +
                               ", above " + most_name + ", " + std::to_string(range.most));
}

/// The text in windows of a context, as many as asked for and as there are.
std::vector<lm::Bytes> windows_of(lm::Bytes text, std::int64_t context, std::int64_t wanted) {
  std::vector<lm::Bytes> windows;
  const auto length = std::size_t(context) + 1;
  for (std::size_t at = 0; at + length <= text.size() && std::int64_t(windows.size()) < wanted;
       at += length)
    windows.push_back(text.subspan(at, length));
  if (windows.empty())
    throw lm::FileError("the text has " + std::to_string(text.size()) +
                        " bytes, too few for a context of " + std::to_string(context));
  return windows;
}

/// A memory to try.
struct Plan {
  std::string name;
  lm::Forgetting forgetting;
  double overbook = 1;
};

/// Requests in full memory rarely come to their full length at once. So that the comparison is fair
/// to it, it is tried a second time with more promised than there is.
/// @throws lm::ConfigError if the model cannot forget so, before anything is run.
std::vector<Plan> plans_of(const Asked& asked, const lm::Config& config) {
  std::vector<Plan> plans;
  for (const std::string& word : asked.budgets) {
    std::string budgets = word;
    std::ranges::replace(budgets, ':', ',');
    const lm::Forgetting forgetting{lm::budgets_of(budgets, config.layers),
                                    lm::rule_of(asked.evict), asked.sinks};
    lm::options_of(config, forgetting);
    plans.push_back({word, forgetting});
    const bool grows = std::ranges::any_of(forgetting.budgets, [](auto b) { return !b; });
    if (grows && asked.overbook > 1) plans.push_back({word + "+", forgetting, asked.overbook});
  }
  return plans;
}

serve::Trial run(const lm::Model& model, const Plan& plan, lm::Bytes prefix, const Asked& asked,
                 serve::Setting& setting) {
  const std::vector<serve::Request>& requests = setting.requests;
  lm::SharedMemory memory(model.config(), plan.forgetting, std::size_t(asked.pool));
  const heed::KvPool<float>& pool = memory.pool();
  setting.pool_bytes = pool.bytes_reserved(), setting.page_bytes = pool.page_bytes();
  setting.pool_pages = *pool.most_pages(), setting.page_tokens = pool.page();
  setting.key_heads = memory[0].shape().key_heads;
  serve::ServerOptions options = asked.server;
  options.overbook = plan.overbook;
  serve::Server server(model, memory, prefix, requests, options);
  serve::Progress progress;
  while (server.step()) {
    if (!progress.due()) continue;
    const serve::Moment& now = server.moments().back();
    char line[200];
    std::snprintf(line, sizeof line,
                  "keeps %s: step %lld, %lld of %zu requests done, %lld in flight, %lld waiting, "
                  "%.0f %% of the pool held",
                  plan.name.c_str(), (long long)now.step, (long long)server.done(), requests.size(),
                  (long long)now.in_flight, (long long)now.waiting,
                  100 * double(now.pages_held) / double(setting.pool_pages));
    progress.show(line);
  }
  return {plan.name,
          plan.forgetting.budgets,
          plan.overbook,
          {},
          serve::summary_of(server, requests),
          server.moments(),
          server.outcomes()};
}

void print_head(const serve::Setting& setting, const Asked& asked) {
  std::printf(
      "%zu requests, %g a step, fork a prefix of %zu tokens; a pool of %zu bytes, %lld pages of "
      "%lld tokens\n\n",
      setting.requests.size(), asked.traffic.rate, setting.prefix.size(), setting.pool_bytes,
      (long long)setting.pool_pages, (long long)setting.page_tokens);
  std::printf("%-8s %9s %17s %9s %9s %7s %17s %19s %8s %5s\n", "tokens", "loss,", "in flight",
              "requests", "tokens", "", "waited, steps", "waited, seconds", "pool", "put");
  std::printf("%-8s %9s %9s %7s %9s %9s %7s %9s %7s %10s %8s %8s %5s\n", "kept", "bits/byte",
              "mean", "most", "a second", "a second", "steps", "median", "99 %", "median", "99 %",
              "most", "back");
}

void print_row(const serve::Trial& t, const serve::Setting& setting) {
  const serve::Summary& s = t.summary;
  std::printf("%-8s %9.4f %9.1f %7lld %9.2f %9.0f %7lld %9.0f %7.0f %10.2f %8.2f %6.0f %% %5lld\n",
              t.budgets.c_str(), t.score.loss, s.in_flight, (long long)s.most_in_flight,
              s.requests_per_second, s.tokens_per_second, (long long)s.steps, s.steps_waited.median,
              s.steps_waited.most, s.seconds_waited.median, s.seconds_waited.most,
              100 * double(s.most_pages) / double(setting.pool_pages), (long long)s.put_back);
}

void serve_all(const Asked& asked) {
  expect_order("--shortest-prompt", "--longest-prompt", asked.traffic.prompt);
  expect_order("--fewest-tokens", "--most-tokens", asked.traffic.tokens);
  programs::OutputFiles::check(asked.page);
  const lm::Model model(lm::read_checkpoint(asked.model));
  const lm::Text text = lm::Text::read(asked.text);
  const lm::Bytes all = text.bytes();
  if (std::int64_t(all.size()) < asked.prefix)
    throw lm::ConfigError("--prefix is " + std::to_string(asked.prefix) + ", the text has " +
                          std::to_string(all.size()) + " bytes");
  const lm::Bytes prefix = all.first(std::size_t(asked.prefix));
  const auto windows = windows_of(all, model.config().context, asked.windows);

  serve::Setting setting;
  setting.prefix.assign(prefix.begin(), prefix.end());
  setting.evict = asked.evict, setting.rate = asked.traffic.rate;
  setting.requests = serve::requests_of(all.subspan(prefix.size()), asked.traffic);

  const std::vector<Plan> plans = plans_of(asked, model.config());
  std::vector<serve::Trial> trials;
  for (std::size_t i = 0; i < plans.size(); ++i) {
    trials.push_back(run(model, plans[i], prefix, asked, setting));
    trials[i].score = plans[i].overbook > 1 ? trials[i - 1].score
                                            : lm::score(model, plans[i].forgetting, windows);
    if (i == 0) print_head(setting, asked);
    print_row(trials[i], setting);
    programs::flush(std::cout);
    std::fflush(stdout);
  }
  if (std::ranges::any_of(plans, [](const Plan& plan) { return plan.overbook > 1; }))
    std::printf(
        "\n+: %g times the pages were promised that there are; where a step ran out of them, "
        "a request was put back\n",
        asked.overbook);
  serve::write_page(asked.page, fs::path(HEED_EXAMPLES) / "serve" / "page.html", setting, trials);
  std::printf("\npage   file://%s\n", fs::canonical(asked.page).c_str());
}

}  // namespace

int main(int argc, char** argv) {
  using programs::Range, programs::count, programs::from_zero;
  Asked a;
  programs::CommandLine line(
      "serve", "One stream of requests, served in the same memory with and without forgetting.");
  line.group("Memory");
  line.number("--pool", a.pool, "N", count(1, std::int64_t(1) << 40),
              "Bytes for keys and values, of all layers and requests");
  line.list("--budgets", a.budgets, "K,…",
            "Tokens each layer keeps: K or all, several in turn; K:K:… is one a layer");
  line.text("--evict", a.evict, "RULE", programs::eviction_rules_help)->capture_default_str();
  line.number("--sinks", a.sinks, "N", count(0), "First tokens that oldest keeps");
  line.group("Requests");
  line.number("--requests", a.traffic.requests, "N", count(1, 1'000'000), "How many");
  line.number("--rate", a.traffic.rate, "X", Range<double>{1e-6, 1e6},
              "How many arrive in a step of the model, on average");
  line.number("--prefix", a.prefix, "N", count(0, 1 << 20), "Tokens they have in common");
  line.number("--shortest-prompt", a.traffic.prompt.least, "N", count(1, 1 << 20),
              "Tokens of a prompt after the prefix, at least");
  line.number("--longest-prompt", a.traffic.prompt.most, "N", count(1, 1 << 20), "At most");
  line.number("--fewest-tokens", a.traffic.tokens.least, "N", count(1, 1 << 20),
              "Tokens to generate, at least");
  line.number("--most-tokens", a.traffic.tokens.most, "N", count(1, 1 << 20), "At most");
  line.number("--cancelled", a.traffic.cancelled, "X", Range<double>{0, 1},
              "Share that is cancelled midway");
  line.number("--seed", a.traffic.seed, "N", Range<std::uint64_t>{},
              "Of the requests, and of what the model says");
  line.group("Server");
  line.number("--piece", a.server.piece, "N", count(1, 1 << 20),
              "Tokens of a prompt that a step reads at most");
  line.number("--overbook", a.overbook, "X", Range<double>{1, 100},
              "Pages promised over pages there are, in a second run of all; 1: none");
  line.number("--temperature", a.server.temperature, "X", from_zero,
              "0 takes the likeliest byte each time");
  line.group("Input and output");
  line.file("--model", a.model, "A checkpoint, as train writes it");
  line.file("--text", a.text, "A text it was not trained on: prompts, and what losses are of");
  line.number("--windows", a.windows, "N", count(1, 1 << 20),
              "Contexts of the text to measure losses on, at most");
  line.file("--page", a.page, "Where the page goes");
  return line.run(argc, argv, [&] {
    a.server.seed = a.traffic.seed;
    serve_all(a);
  });
}
