// SPDX-License-Identifier: MIT
// The cache of an inference engine: sequences that come and go over one pool of pages, forks, a
// draft that is undone, a file, and an eviction rule of one's own.
#include "heed/heed.hpp"
#include "programs/output.hpp"

#include <unsupported/Eigen/CXX11/Tensor>

#include <iostream>
#include <sstream>

namespace {

using Cache = heed::KvCache<float, Eigen::bfloat16>;
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

void step(Cache& layer, std::initializer_list<Cache::Sequence*> sequences, Tokens& tokens) {
  layer.step(sequences, tokens.q, tokens.k, tokens.v, heed::standard, tokens.out);
}

}  // namespace

int main() {
  Cache::Pool pool(32, 32, {.page = 32, .bytes = 1 << 20});  // layers of a model share it
  Cache layer({.heads = 4, .key_heads = 2, .dim = 32, .value_dim = 32},
              {.budget = 64, .evict = MaskedOrOld()}, pool);

  Cache::Sequence prompt = layer.open();
  Tokens text(1, 200);
  step(layer, {&prompt}, text);
  std::cout << "200 tokens: " << prompt.count() << " are held, in " << pool.pages_held()
            << " pages of " << pool.page() << " tokens\n";

  Cache::Sequence answer = prompt;  // a fork: it shares the pages
  std::cout << "a fork: still " << pool.pages_held() << " pages\n";

  const auto mark = answer.mark();
  Tokens draft(1, 5), both(2, 1);
  step(layer, {&answer}, draft);
  answer.roll_back(mark);  // the draft was rejected: its tokens are gone, what it evicted is back
  std::cout << "rolled back to position " << answer.next() << '\n';
  step(layer, {&prompt, &answer}, both);  // a token of each

  std::stringstream file;
  heed::save(file, answer);
  Cache::Sequence again = heed::load(file, layer);
  Tokens next(1, 1), same = next;
  step(layer, {&answer}, next);
  step(layer, {&again}, same);
  float off = 0;
  for (int i = 0; i < next.out.size(); ++i)
    off = std::max(off, std::abs(next.out.data()[i] - same.out.data()[i]));
  std::cout << "saved and loaded, " << file.str().size() << " bytes: the next output is "
            << (off < 1e-6F ? "the same" : "another") << '\n';

  prompt.close(), answer.close(), again.close();
  // The mark is the last to refer to pages. This prints:
  //   200 tokens: 64 are held, in 4 pages of 32 tokens
  //   a fork: still 4 pages
  //   rolled back to position 200
  //   saved and loaded, 17440 bytes: the next output is the same
  //   all closed: 4 pages
  std::cout << "all closed: " << pool.pages_held() << " pages\n";
  return programs::ended("cache_of_an_engine", off < 1e-6F && pool.pages_held() == 4 ? 0 : 1);
}
