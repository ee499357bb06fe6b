// SPDX-License-Identifier: MIT
// What the variants do to attention over a real text: a table, a picture and a page.
#include "attend/npy.hpp"
#include "attend/program.hpp"
#include "demo/page.hpp"
#include "demo/picture.hpp"
#include "demo/runs.hpp"
#include "programs/command_line.hpp"

#include <cstdio>
#include <filesystem>
#include <sstream>

namespace demo {
namespace {

namespace fs = std::filesystem;

void print_table(const Text& text, const Runs& runs) {
  std::printf("Genesis %s to %s, %td tokens, %td heads of %td, float, one thread\n\n",
              text.words()[1].verse.c_str(), text.words().back().verse.c_str(), text.size(),
              text.q().dim(1), text.q().dim(3));
  std::printf("%-34s %9s %8s %8s %9s %9s %9s\n", "variant", "pairs", "kept", "bytes", "entropy",
              "recall", "time");
  for (const Run& run : runs.runs)
    std::printf("%-34s %9td %8.4g %8s %4.2f bits %7.0f %% %6.0f us\n", run.name.c_str(), run.pairs,
                run.kept, run.bytes ? std::to_string(run.bytes).c_str() : "", run.mean_entropy(),
                run.recall * 100, run.seconds * 1e6);
  const Mixture& m = runs.mixture;
  std::printf("%-34s %9td %44s %6.0f us\n", "4 layers: top full, else blocks", m.pairs, "",
              m.seconds * 1e6);
  std::printf(
      "\n"
      "pairs    (query, key, head) computed; tiles at the edge of a mask are computed whole\n"
      "kept     tokens in memory at the last word; for selective those not yet masked, M of the "
      "paper\n"
      "bytes    of a buffer that holds them, in pages of %td tokens\n"
      "entropy  of a row of weights, mean over rows and heads: how many words attention is spread "
      "over\n"
      "recall   head 3 looks for the last place where its word was said: the weight it puts there\n"
      "4 layers cost %.3f of four full ones in pairs computed, %.3f by the formula for visible "
      "pairs\n",
      page_tokens, m.of_full, m.formula);
}

/// The pruned run once more, as anyone would from files.
void print_command(const fs::path& programs, const fs::path& data, const fs::path& out) {
  const auto file = [](const fs::path& folder, const char* name) {
    return fs::proximate(folder / name).string();
  };
  const std::vector<std::vector<std::string>> lines{
      {file(programs, "attend"), "--q", file(data, "q.npy"), "--k", file(data, "k.npy"), "--v",
       file(data, "v.npy")},
      {"--causal", "--selective", "--budget", std::to_string(shown_budget), "--repeat", "50",
       "--stats"},
      {"--out", file(out, "demo-out.npy"), "--evict-row", file(out, "demo-evict-row.npy")}};
  std::printf("\nThe same from files, pruned to %td:\n\n", shown_budget);
  std::vector<const char*> argv;
  for (const auto& line : lines) {
    std::printf("%s", &line == &lines.front() ? " " : " \\\n     ");
    for (const std::string& word : line) {
      std::printf(" %s", word.c_str());
      argv.push_back(word.c_str());
    }
  }
  std::printf("\n\n");
  std::ostringstream report, complaint;
  if (attend::program(int(argv.size()), argv.data(), report, complaint) != 0)
    throw std::runtime_error(complaint.str());
  std::printf("%s", report.str().c_str());
}

void show(const fs::path& programs, const fs::path& data, const fs::path& out, int repeat) {
  const Text text(data);
  const Runs runs = run_all(text, repeat);
  print_table(text, runs);
  print_command(programs, data, out);
  const fs::path picture = out / "demo.png", page = out / "demo.html";
  write_picture(picture, text, runs);
  write_page(page, fs::path(HEED_EXAMPLES) / "demo" / "page.html", text, runs);
  std::printf("\npicture  %s\npage     file://%s\n", fs::proximate(picture).string().c_str(),
              fs::canonical(page).string().c_str());
}

}  // namespace
}  // namespace demo

int main(int argc, char** argv) {
  namespace fs = std::filesystem;
  const fs::path here = fs::path(argv[0]).parent_path();
  fs::path data = fs::path(HEED_EXAMPLES) / "data", out = here;
  std::int64_t repeat = 50;
  programs::CommandLine line(
      "demo", "Runs attention variants over a text: a table here, a picture and a page as files.");
  line.text("--data", data, "FOLDER", "tokens.txt, q.npy, k.npy, v.npy, tau_q.npy, tau_v.npy");
  line.text("--out", out, "FOLDER", "for demo.png, demo.html and demo-*.npy");
  line.number("--repeat", repeat, "N", programs::count(1, 1'000'000),
              "passes that are timed, the shortest counts");
  return line.run(argc, argv, [&] { demo::show(here, data, out, int(repeat)); });
}
