// SPDX-License-Identifier: MIT
// Bits a byte as a function of what the model may keep:
//
//     evaluate --model selective.safetensors --text kjv.txt --evict
//     most_masked,heavy_hitters,oldest
//         --budgets 8,16,32,64,all --csv selective.csv
//
// or, with --target, the smallest budgets by which the loss on the validation part stays within it,
// found greedily layer by layer, and what they cost on the test part. Exit code 2 for anything
// wrong with the command line or the files, one line about it on stderr.
#include "heed/kv/budget_search.hpp"
#include "lm/budgets.hpp"
#include "lm/score.hpp"
#include "programs/command_line.hpp"
#include "programs/row_file.hpp"

#include <algorithm>
#include <iostream>
#include <optional>
#include <sstream>

namespace {

struct Request {
  std::string model, name, text, csv, reference;
  std::vector<std::string> evict = {"most_masked", "heavy_hitters", "oldest"},
                           budgets = {"8", "16", "32", "64", "128", "256", "all"};
  std::int64_t windows = 64, search_windows = 16, context = 0, sinks = 1, start = 4, step = 4,
               most = 96;
  double slack = 0;
};

/// At most `wanted` of a part's windows, spread evenly.
std::vector<lm::Bytes> windows_of(const lm::Text& text, lm::Part part, std::size_t length,
                                  std::size_t wanted) {
  const auto all = text.windows(part, length);
  if (all.empty())
    throw lm::FileError("the text's " + lm::name_of(part) + " part holds no window of " +
                        std::to_string(length) + " bytes");
  std::vector<lm::Bytes> some;
  wanted = std::min(wanted, all.size());
  for (std::size_t i = 0; i < wanted; ++i) some.push_back(all[i * all.size() / wanted]);
  return some;
}

/// Rows on disk as they come; a line for each on stdout.
class Table {
 public:
  explicit Table(const std::string& path) {
    if (!path.empty())
      file_.emplace(path,
                    "model,attention,context,part,evict,budgets,found_by,windows,loss,late_loss,"
                    "kept,tokens_per_second,answers,accuracy\n");
  }

  void add(const std::string& name, const lm::Model& model, std::int64_t context, lm::Part part,
           const lm::Forgetting& forgetting, const char* found_by, std::size_t windows,
           const lm::Score& score) const {
    const std::string budgets =
        forgetting.budgets.empty() ? "all" : lm::to_string(forgetting.budgets);
    const bool forgets = budgets.find_first_of("0123456789") != std::string::npos;
    const std::string evict = forgets ? lm::name_of(forgetting.evict) : "nothing";
    std::cout << name << ", " << lm::name_of(part) << ", " << evict << ", keeps " << budgets << ": "
              << score.loss << " bits a byte, second half " << score.late_loss << ", kept "
              << score.kept << ", " << std::int64_t(score.tokens_per_second) << " tokens/s";
    if (score.answers > 0)
      std::cout << ", " << 100 * score.accuracy << " % of " << score.answers << " answers right";
    std::cout << '\n';
    programs::flush(std::cout);
    if (!file_) return;
    std::ostringstream row;
    row << name << ',' << model.config().attention_name() << ',' << context << ','
        << lm::name_of(part) << ',' << evict << ",\"" << budgets << "\"," << found_by << ','
        << windows << ',' << score.loss << ',' << score.late_loss << ',' << score.kept << ','
        << score.tokens_per_second << ',' << score.answers << ',';
    if (score.answers > 0) row << score.accuracy;
    row << '\n';
    file_->add(row.str());
  }

 private:
  std::optional<programs::RowFile> file_;
};

lm::Forgetting forgetting_of(const std::vector<heed::Index>& budgets, heed::Evict evict,
                             std::int64_t sinks) {
  return {{budgets.begin(), budgets.end()}, evict, sinks};
}

void evaluate(const Request& request) {
  const lm::Model model(lm::read_checkpoint(request.model));
  const lm::Text text = lm::Text::read(request.text);
  const std::int64_t context = request.context ? request.context : model.config().context;
  const std::string name = request.name.empty() ? request.model : request.name;
  const auto windows = [&](lm::Part part, std::int64_t wanted) {
    return windows_of(text, part, std::size_t(context) + 1, std::size_t(wanted));
  };
  const auto validation = windows(lm::Part::validation, request.windows),
             test = windows(lm::Part::test, request.windows),
             searched = windows(lm::Part::validation, request.search_windows);
  std::vector<heed::Evict> rules;
  for (const std::string& word : request.evict) {
    const heed::Evict evict = lm::evict_of(word);
    if (evict != heed::Evict::most_masked || model.config().selective) rules.push_back(evict);
  }
  const Table table(request.csv);

  if (!request.reference.empty()) {
    const double target =
        lm::score(lm::Model(lm::read_checkpoint(request.reference)), {}, searched).loss +
        request.slack;
    for (const heed::Evict evict : rules) {
      const heed::Budgets found = heed::grow_budgets(
          model.config().layers, request.start, request.step, request.most, target,
          [&](const std::vector<heed::Index>& budgets) {
            return lm::score(model, forgetting_of(budgets, evict, request.sinks), searched).loss;
          });
      const std::string how = (found.loss <= target ? "from " : "not reached from ") +
                              std::to_string(request.start) + " by " +
                              std::to_string(request.step) + " on " +
                              std::to_string(searched.size()) + " windows";
      const lm::Forgetting forgetting = forgetting_of(found.layers, evict, request.sinks);
      for (const auto& [part, some] :
           {std::pair(lm::Part::validation, &validation), std::pair(lm::Part::test, &test)})
        table.add(name, model, context, part, forgetting, how.c_str(), some->size(),
                  lm::score(model, forgetting, *some));
    }
    return;
  }

  for (const std::string& word : request.budgets) {
    const auto budgets = lm::budgets_of(word, model.config().layers);
    const bool forgets = std::ranges::any_of(budgets, [](auto b) { return b.has_value(); });
    const auto used = forgets ? rules : std::vector{heed::Evict::oldest};
    for (const heed::Evict evict : used)
      for (const auto& [part, some] :
           {std::pair(lm::Part::validation, &validation), std::pair(lm::Part::test, &test)}) {
        const lm::Forgetting forgetting{budgets, evict, request.sinks};
        table.add(name, model, context, part, forgetting, "hand", some->size(),
                  lm::score(model, forgetting, *some));
      }
  }
}

}  // namespace

int main(int argc, char** argv) {
  using programs::count, programs::from_zero;
  Request r;
  programs::CommandLine line("evaluate", "Bits a byte as a function of what a model may keep.");
  line.text("--model", r.model, "FILE", "A checkpoint, as train writes it")->required();
  line.text("--text", r.text, "FILE", "The text it was trained on")->required();
  line.text("--name", r.name, "NAME", "What the tables call it");
  line.text("--csv", r.csv, "FILE", "Where the table goes");
  line.list("--evict", r.evict, "RULE,…", "Evicted: most_masked, heavy_hitters (H2O) or oldest");
  line.list("--budgets", r.budgets, "K,…",
            "Tokens each layer keeps: K or all, several in turn; K:K:… is one a layer");
  line.text("--reference", r.reference, "FILE",
            "The checkpoint whose loss, unpruned, the smallest budgets are to reach");
  line.number("--slack", r.slack, "X", from_zero, "Bits a byte by which they may miss it");
  line.number("--start", r.start, "N", count(2),
              "Budget of each layer that the search begins with");
  line.number("--step", r.step, "N", count(1), "Tokens by which it grows one layer");
  line.number("--most", r.most, "N", count(2), "Budget of a layer at which it stops");
  line.number("--windows", r.windows, "N", count(1), "Windows of each part, at most");
  line.number("--search-windows", r.search_windows, "N", count(1), "Windows the search looks at");
  line.number("--context", r.context, "N", count(0), "Tokens of a window; 0: as it was trained");
  line.number("--sinks", r.sinks, "N", count(0), "First tokens that oldest keeps");
  return line.run(argc, argv, [&] {
    for (std::string& word : r.budgets) std::ranges::replace(word, ':', ',');
    evaluate(r);
  });
}
