// SPDX-License-Identifier: MIT
// Continues a prompt, through buffers that forget:
//
//     generate --model selective.safetensors --prompt "And God said" --tokens 400 --budget 64
//
// The text goes to stdout as it comes, figures to stderr. Exit code 2 for anything wrong with the
// command line or the files, one line about it on stderr.
#include "lm/budgets.hpp"
#include "lm/sampler.hpp"
#include "programs/command_line.hpp"
#include "programs/eviction_rules.hpp"

#include <algorithm>
#include <chrono>
#include <iostream>

namespace {

struct Request {
  std::string model, prompt, prompt_file, budget = "all", evict = "most_masked";
  std::int64_t tokens = 400, sinks = 1;
  double temperature = 0.8;
  std::uint64_t seed = 1;
  bool echo = true;
};

using Clock = std::chrono::steady_clock;
double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

void generate(const Request& request) {
  const lm::Model model(lm::read_checkpoint(request.model));
  const lm::Forgetting forgetting{lm::budgets_of(request.budget, model.config().layers),
                                  lm::rule_of(request.evict), request.sinks};
  lm::Memory memory(model.config(), forgetting);

  const std::vector<std::uint8_t> prompt =
      request.prompt_file.empty()
          ? std::vector<std::uint8_t>(request.prompt.begin(), request.prompt.end())
          : [&] {
              const lm::Text text = lm::Text::read(request.prompt_file);
              return std::vector<std::uint8_t>(text.bytes().begin(), text.bytes().end());
            }();
  if (prompt.empty()) throw lm::ConfigError("the prompt is empty: there is nothing to go on from");

  auto start = Clock::now();
  lm::Matrix logits = model.forward(prompt, memory);
  const double prefill = seconds_since(start);
  if (request.echo) std::cout << std::string(prompt.begin(), prompt.end());
  programs::flush(std::cout);

  lm::Sampler sampler(request.temperature, request.seed);
  start = Clock::now();
  for (std::int64_t n = 0; n < request.tokens; ++n) {
    const std::uint8_t next = sampler.draw(logits.row(logits.rows() - 1));
    std::cout << char(next);
    programs::flush(std::cout);  // as it comes; the run ends where it is lost
    logits = model.forward({&next, 1}, memory);
  }
  const double seconds = seconds_since(start);
  std::cout << "\n";
  programs::flush(std::cout);

  std::cerr << "prompt      " << prompt.size() << " tokens, "
            << std::int64_t(double(prompt.size()) / prefill) << " a second\n"
            << "generated   " << request.tokens << " tokens, "
            << std::int64_t(double(request.tokens) / seconds) << " a second\n"
            << "kept        ";
  const auto kept = memory.kept();
  for (std::size_t l = 0; l < kept.size(); ++l) std::cerr << (l ? ", " : "") << kept[l];
  std::cerr << " of " << memory.position() << " tokens, layer by layer\n"
            << "memory      " << memory.bytes() << " bytes, in pages of " << lm::page_tokens
            << " tokens; " << memory.most_bytes() << " at most; scratch "
            << memory.workspace().bytes() << std::endl;
}

}  // namespace

int main(int argc, char** argv) {
  using programs::Range, programs::count, programs::from_zero;
  Request r;
  programs::CommandLine line("generate", "Continues a prompt through buffers that forget.");
  line.text("--model", r.model, "FILE", "A checkpoint, as train writes it")->required();
  const auto prompt = line.text("--prompt", r.prompt, "TEXT", "What to go on from");
  line.text("--prompt-file", r.prompt_file, "FILE", "The same from a file")->excludes(prompt);
  line.number("--tokens", r.tokens, "N", count(1), "Bytes to generate");
  line.text("--budget", r.budget, "K", "Tokens each layer keeps: K, or K,K,… one a layer, or all")
      ->capture_default_str();
  line.text("--evict", r.evict, "RULE", programs::eviction_rules_help)->capture_default_str();
  line.number("--sinks", r.sinks, "N", count(0), "First tokens that oldest keeps");
  line.number("--temperature", r.temperature, "X", from_zero,
              "0 takes the likeliest byte each time");
  line.number("--seed", r.seed, "N", Range<std::uint64_t>{}, "Of what is drawn");
  line.app().add_flag("!--no-echo", r.echo, "Leaves out the prompt");
  return line.run(argc, argv, [&] { generate(r); });
}
