// SPDX-License-Identifier: MIT
// The cache of an inference engine: sequences that come and go over one pool of pages in all layers
// of a model, steps that all layers take or none, forks, a draft that is undone, a file, and an
// eviction rule of one's own.
#include "heed/heed.hpp"
#include "programs/output.hpp"

#include <unsupported/Eigen/CXX11/Tensor>

#include <iostream>
#include <sstream>
#include <vector>

namespace {

using Model = heed::KvModel<float, Eigen::bfloat16>;
using Tensor = Eigen::Tensor<float, 4, Eigen::RowMajor>;

/// Evicts by F, but what is old needs less of it: a tenth for every hundred positions.
struct MaskedOrOld {
  static constexpr const char* name = "masked_or_old";
  static constexpr heed::Evidence evidence = heed::Evidence::votes;

  heed::Index recent(std::optional<heed::Index>, heed::Index) const { return 4; }
  template <class T>
  T claim(const heed::HeldToken<T>& token) const {
    return token.f - T(0.001) * T(token.position);
  }
};

/// So many tokens of each sequence, as a model's layer would bring them.
struct Tokens {
  Tensor q, k, v, out;
  Tokens(int sequences, int count)
      : q(sequences, 4, count, 32),
        k(sequences, 2, count, 32),
        v(sequences, 2, count, 32),
        out(sequences, 4, count, 32) {
    q.setRandom(), k.setRandom(), v.setRandom();
  }
};

void step(Model& model, std::vector<Model::Sequence*> sequences, Tokens& tokens) {
  const std::vector<std::int64_t> rows(sequences.size(), tokens.q.dimension(2));
  auto step = model.begin(sequences, rows);  // too few pages: here, and no layer has changed
  for (heed::Index layer = 0; layer < model.size(); ++layer)
    step.take(layer, tokens.q, tokens.k, tokens.v, heed::standard, tokens.out);
}

}  // namespace

int main() {
  Model::Pool pool(32, 32, {.page = 32, .bytes = 1 << 20});
  Model model({.heads = 4, .key_heads = 2, .dim = 32, .value_dim = 32}, {64, 32},
              {.evict = MaskedOrOld()}, pool);  // two layers, each with a budget

  Model::Sequence prompt = model.open();
  Tokens text(1, 200);
  step(model, {&prompt}, text);
  std::cout << "200 tokens: " << prompt[0].count() << " and " << prompt[1].count()
            << " are held, in " << pool.pages_held() << " pages of " << pool.page() << " tokens\n";

  Model::Sequence answer = prompt;  // a fork: it shares the pages
  std::cout << "a fork: still " << pool.pages_held() << " pages\n";

  const auto mark = answer.mark();
  Tokens draft(1, 5), both(2, 1);
  step(model, {&answer}, draft);
  answer.roll_back(mark);  // the draft was rejected: its tokens are gone, what it evicted is back
  std::cout << "rolled back to position " << answer.next() << '\n';
  step(model, {&prompt, &answer}, both);  // a token of each

  std::stringstream file;
  heed::save(file, answer);
  Model::Sequence again = heed::load(file, model);
  Tokens next(1, 1), same = next;
  step(model, {&answer}, next);
  step(model, {&again}, same);
  float off = 0;
  for (int i = 0; i < next.out.size(); ++i)
    off = std::max(off, std::abs(next.out.data()[i] - same.out.data()[i]));
  std::cout << "saved and loaded, " << file.str().size() << " bytes: the next output is "
            << (off < 1e-6F ? "the same" : "another") << '\n';

  prompt.close(), answer.close(), again.close();
  // The mark is the last to refer to pages. This prints:
  //   200 tokens: 64 and 32 are held, in 6 pages of 32 tokens
  //   a fork: still 6 pages
  //   rolled back to position 200
  //   saved and loaded, 26300 bytes: the next output is the same
  //   all closed: 6 pages
  std::cout << "all closed: " << pool.pages_held() << " pages\n";
  return programs::ended("cache_of_an_engine", off < 1e-6F && pool.pages_held() == 6 ? 0 : 1);
}
