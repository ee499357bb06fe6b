// SPDX-License-Identifier: MIT
// How many keys of a selective model are masked: of those a row could see, the share with F above
// 1, 8 and 20 nats, by layer and position, mean over windows of the test part. With --npy also, for
// benchmarks, the queries, keys and values of the first window, and by themselves the queries and
// keys of the head that selects, [layers, tokens, D]:
//
//     activations --model selective.safetensors --text kjv.txt --csv forgotten.csv --npy folder
//
// Exit code 2 for anything wrong with the command line or the files, one line about it on stderr.
#include "attend/npy.hpp"
#include "heed/engine/forward.hpp"
#include "heed/score/causal.hpp"
#include "heed/score/selective.hpp"
#include "heed/score/standard.hpp"
#include "lm/model.hpp"
#include "programs/command_line.hpp"
#include "programs/output_files.hpp"

#include <algorithm>
#include <array>
#include <iostream>

namespace {

using heed::Index, heed::View;

struct Request {
  std::string model, text, csv;
  std::filesystem::path npy;
  std::int64_t windows = 8, context = 0, every = 32;
};

constexpr std::array<float, 3> masks{1, 8, 20};

npy::Array array_of(const View<float, 4>& x) {
  npy::Array array = npy::zeros(npy::Type::float32, {x.dim(0), x.dim(1), x.dim(2), x.dim(3)});
  float* to = array.values<float>().data();
  for (Index h = 0; h < x.dim(1); ++h)
    for (Index n = 0; n < x.dim(2); ++n) to = std::copy_n(x.row(0, h, n), x.dim(3), to);
  return array;
}

/// One window's, as they come; those of the selecting head when all have.
class Activations {
 public:
  Activations(std::filesystem::path folder, programs::OutputFiles& files, const lm::Config& c,
              Index tokens)
      : folder_(std::move(folder)),
        files_(files),
        queries_(npy::zeros(npy::Type::float32, {c.layers, tokens, c.head_dim})),
        keys_(queries_) {}

  void add(std::int64_t layer, const lm::Heads& in) {
    const std::string name = "layer" + std::to_string(layer) + "_";
    const npy::Array q = array_of(in.q), k = array_of(in.k);
    add(name + "q.npy", q);
    add(name + "k.npy", k);
    add(name + "v.npy", array_of(in.v));
    const Index head = in.q.dim(2) * in.q.dim(3);
    std::copy_n(q.values<float>().data(), head, queries_.values<float>().data() + layer * head);
    std::copy_n(k.values<float>().data(), head, keys_.values<float>().data() + layer * head);
  }
  void finish() {
    add("selecting_q.npy", queries_);
    add("selecting_k.npy", keys_);
  }

 private:
  void add(const std::string& name, const npy::Array& array) {
    files_.add(folder_ / name, [&](std::ostream& stream) { npy::write(stream, array); });
  }

  std::filesystem::path folder_;
  programs::OutputFiles& files_;
  npy::Array queries_, keys_;
};

/// Sums over windows: [layer][mask][row] keys masked so.
class Forgotten {
 public:
  Forgotten(std::int64_t layers, Index tokens)
      : tokens_(tokens), counts_(std::size_t(layers) * masks.size() * std::size_t(tokens)) {}

  double& at(std::int64_t layer, std::size_t mask, Index row) {
    return counts_[(std::size_t(layer) * masks.size() + mask) * std::size_t(tokens_) +
                   std::size_t(row)];
  }
  void add(std::int64_t layer, const lm::Heads& in) {
    f_.resize(std::size_t(tokens_ * tokens_));
    out_.resize(std::size_t(in.v.size()));
    heed::forward(in.q, in.k, in.v,
                  heed::standard | heed::causal |
                      heed::selective.mask_f(View<float, 3>(f_.data(), {1, tokens_, tokens_})),
                  View<float, 4>(out_.data(), in.v.dims()));
    for (Index i = 0; i < tokens_; ++i)
      for (Index j = 0; j < i; ++j)
        for (std::size_t m = 0; m < masks.size(); ++m)
          at(layer, m, i) += f_[std::size_t(i * tokens_ + j)] > masks[m];
  }

 private:
  Index tokens_;
  std::vector<double> counts_;
  std::vector<float> f_, out_;
};

void look(const Request& request) {
  if (!request.csv.empty()) programs::OutputFiles::check(request.csv);
  const lm::Model model(lm::read_checkpoint(request.model));
  const lm::Config& c = model.config();
  if (c.attention_name() != "selective")
    throw lm::ConfigError("the model's attention is " + c.attention_name() +
                          "; only selective attention's is looked at");
  const lm::Text text = lm::Text::read(request.text);
  const std::int64_t tokens = request.context ? request.context : c.context;
  auto windows = text.windows(lm::Part::test, std::size_t(tokens));
  windows.resize(std::min(windows.size(), std::size_t(request.windows)));
  if (windows.empty()) throw lm::FileError("the text's test part holds no whole window");

  Forgotten forgotten(c.layers, tokens);
  programs::OutputFiles files;
  Activations activations(request.npy, files, c, tokens);
  lm::Memory memory(c, {});
  for (const lm::Bytes& window : windows) {
    memory.clear();
    model.forward(window, memory, [&](std::int64_t layer, const lm::Heads& in) {
      forgotten.add(layer, in);
      if (!request.npy.empty() && &window == &windows.front()) activations.add(layer, in);
      return heed::KvBuffer<float>::Step();
    });
  }

  const auto write_table = [&](std::ostream& out) {
    out << "layer,position,above_1,above_8,above_20\n";
    for (std::int64_t layer = 0; layer < c.layers; ++layer)
      for (Index row = request.every - 1; row < tokens; row += request.every) {
        out << layer << ',' << row;
        for (std::size_t m = 0; m < masks.size(); ++m)
          out << ',' << forgotten.at(layer, m, row) / double(row) / double(windows.size());
        out << '\n';
      }
  };
  if (!request.npy.empty()) activations.finish();
  if (request.csv.empty()) {
    write_table(std::cout);
    programs::flush(std::cout);  // files appear only if all went well
  } else {
    files.add(request.csv, write_table);
  }
  files.commit();
}

}  // namespace

int main(int argc, char** argv) {
  Request r;
  using programs::count;
  programs::CommandLine line(
      "activations", "What share of a selective model's keys is masked, by layer and position.");
  line.text("--model", r.model, "FILE", "A checkpoint, as train writes it")->required();
  line.text("--text", r.text, "FILE", "The text it was trained on")->required();
  line.text("--csv", r.csv, "FILE", "Where the table goes, if not to stdout");
  line.text("--npy", r.npy, "FOLDER", "For layerL_q.npy, _k.npy, _v.npy, selecting_q.npy, _k.npy")
      ->check(CLI::ExistingDirectory.description(""));
  line.number("--windows", r.windows, "N", count(1), "Windows of the test part, at most");
  line.number("--context", r.context, "N", count(0), "Tokens of a window; 0: as it was trained");
  line.number("--every", r.every, "N", count(2), "Rows from one line of the table to the next");
  return line.run(argc, argv, [&] { look(r); });
}
