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
#include "programs/eviction_rules.hpp"
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
  std::optional<double> recent;
  heed::KvHeads heads = heed::KvHeads::together;
  double slack = 0;

  lm::Forgetting forgetting(const std::vector<std::optional<std::int64_t>>& layers,
                            const heed::EvictionRule& rule) const {
    return {layers, rule, sinks, recent, heads};
  }
};

const std::vector<std::pair<const char*, heed::KvHeads>> head_words{
    {"together", heed::KvHeads::together},
    {"apart", heed::KvHeads::apart},
    {"shared", heed::KvHeads::shared}};

const char* name_of(heed::KvHeads heads) {
  return std::ranges::find(head_words, heads, &std::pair<const char*, heed::KvHeads>::second)
      ->first;
}

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
                    "kept,tokens_per_second,answers,accuracy,late_answers,late_accuracy,heads,"
                    "recent,page,bytes,most_bytes\n");
  }

  void add(const std::string& name, const lm::Model& model, std::int64_t context, lm::Part part,
           const lm::Forgetting& forgetting, const char* found_by, std::size_t windows,
           const lm::Score& score) const {
    const std::string budgets =
        forgetting.budgets.empty() ? "all" : lm::to_string(forgetting.budgets);
    const std::string evict = forgetting.forgets() ? forgetting.evict.name() : "nothing";
    std::cout << name << ", " << lm::name_of(part) << ", " << evict << ", keeps " << budgets << ": "
              << score.loss << " bits a byte, second half " << score.late_loss << ", kept "
              << score.kept << ", " << score.memory_bytes << " bytes, "
              << std::int64_t(score.tokens_per_second) << " tokens/s";
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
    row << ',' << score.late_answers << ',';
    if (score.late_answers > 0) row << score.late_accuracy;
    row << ',' << name_of(forgetting.heads) << ',';
    if (forgetting.recent) row << *forgetting.recent;
    row << ',' << lm::page_tokens << ',' << score.memory_bytes << ',' << score.most_memory_bytes
        << '\n';
    file_->add(row.str());
  }

 private:
  std::optional<programs::RowFile> file_;
};

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
  std::vector<heed::EvictionRule> rules;
  for (const std::string& word : request.evict) {
    const heed::EvictionRule rule = lm::rule_of(word);
    if (rule.evidence() != heed::Evidence::votes || model.config().selective) rules.push_back(rule);
  }
  const Table table(request.csv);

  if (!request.reference.empty()) {
    const double target =
        lm::score(lm::Model(lm::read_checkpoint(request.reference)), {}, searched).loss +
        request.slack;
    for (const heed::EvictionRule& rule : rules) {
      const auto forgetting_of = [&](const std::vector<heed::Index>& budgets) {
        return request.forgetting({budgets.begin(), budgets.end()}, rule);
      };
      const heed::Budgets found =
          heed::grow_budgets(model.config().layers, request.start, request.step, request.most,
                             target, [&](const std::vector<heed::Index>& budgets) {
                               return lm::score(model, forgetting_of(budgets), searched).loss;
                             });
      const std::string how = (found.loss <= target ? "from " : "not reached from ") +
                              std::to_string(request.start) + " by " +
                              std::to_string(request.step) + " on " +
                              std::to_string(searched.size()) + " windows";
      const lm::Forgetting forgetting = forgetting_of(found.layers);
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
    const auto used = forgets ? rules : std::vector<heed::EvictionRule>{heed::oldest};
    for (const heed::EvictionRule& rule : used)
      for (const auto& [part, some] :
           {std::pair(lm::Part::validation, &validation), std::pair(lm::Part::test, &test)}) {
        const lm::Forgetting forgetting = request.forgetting(budgets, rule);
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
  line.list("--evict", r.evict, "RULE,…", programs::eviction_rules_help);
  line.number("--recent", r.recent, "X", programs::Range<double>{0, 1},
              "Share of a budget for the newest tokens, one at least; the rule's, if left out");
  line.choice(
      "--heads", r.heads, "together|apart|shared", head_words,
      "Heads of a layer hold the same tokens, each its own, or share the budget; the latter "
      "two in models that do not select");
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
