// SPDX-License-Identifier: MIT
// Small fixed pieces of work whose instructions check.sh counts. Does the one that is named, in
// measured(), and prints the pairs and register tiles that were computed:
//
//     workloads NAME
#include "heed/engine/backward.hpp"
#include "heed/kv/kv_buffer.hpp"
#include "heed/score/causal.hpp"
#include "heed/score/selective.hpp"
#include "heed/score/standard.hpp"
#include "support/random.hpp"

#include <cstdio>
#include <functional>
#include <map>
#include <memory>
#include <string>

namespace {

using heed::causal, heed::Index, heed::selective, heed::standard, heed::WorkStats;
using heed::test::normal, heed::test::Tensor;

constexpr Index heads = 2, tokens = 288, dim = 64;

using Work = std::function<WorkStats()>;

/// What goes into a pass over a text, and what comes out.
struct Text {
  Tensor<float> q = normal<float>(1, 1, heads, tokens, dim),
                k = normal<float>(2, 1, heads, tokens, dim),
                v = normal<float>(3, 1, heads, tokens, dim),
                grad_out = normal<float>(4, 1, heads, tokens, dim), out = q, grad_q = q, grad_k = q,
                grad_v = q;
  Tensor<float, 3> lse{1, heads, tokens};
  heed::Workspace workspace;
};

/// @param negligible  0: no pair is left out.
template <class Variant>
Work forward(const Variant& variant, double negligible = 0) {
  return [=, x = std::make_shared<Text>()] {
    return heed::forward(x->q, x->k, x->v, variant, x->out, x->lse,
                         {.workspace = &x->workspace, .negligible = negligible});
  };
}

template <class Variant>
Work backward(const Variant& variant) {
  const auto x = std::make_shared<Text>();
  heed::forward(x->q, x->k, x->v, variant, x->out, x->lse);
  return [=] {
    return heed::backward(x->q, x->k, x->v, variant, x->out, x->lse, x->grad_out, x->grad_q,
                          x->grad_k, x->grad_v, {.workspace = &x->workspace, .negligible = 0});
  };
}

/// Token after token through a full buffer.
Work decode() {
  constexpr Index budget = 128, rounds = 16;
  const heed::KvShape shape{1, heads, heads, dim, dim};
  heed::KvOptions options;
  options.budget = budget, options.chunk = 1;
  const auto buffer = std::make_shared<heed::KvBuffer<float>>(shape, options);
  const auto q = normal<float>(5, 1, heads, rounds, dim),
             k = normal<float>(6, 1, heads, rounds, dim),
             v = normal<float>(7, 1, heads, rounds, dim);
  Tensor<float> out(1, heads, rounds, dim);
  const Work some = [=]() mutable { return buffer->step(q, k, v, standard, out); };
  for (Index held = 0; held < budget; held += rounds) some();
  return some;
}

const std::map<std::string, Work (*)()> works{
    {"causal", [] { return forward(standard | causal); }},
    {"selective", [] { return forward(standard | causal | selective); }},
    {"forgetting", [] { return forward(standard | causal | selective, 6e-8); }},
    {"backward", [] { return backward(standard | causal | selective); }},
    {"decode", [] { return decode(); }},
};

}  // namespace

/// The function whose instructions are counted, with all that it calls.
extern "C" [[gnu::noinline]] void measured(const Work& work, WorkStats& visited) {
  visited = work();
}

int main(int argc, char** argv) {
  const auto named = works.find(argc == 2 ? argv[1] : "");
  if (named == works.end()) {
    std::fputs("workloads: name one of", stderr);
    for (const auto& [name, make] : works) std::fprintf(stderr, " %s", name.c_str());
    std::fputs("\n", stderr);
    return 2;
  }
  WorkStats visited;
  measured(named->second(), visited);
  std::printf("%s %td %td\n", named->first.c_str(), visited.pairs * dim, visited.tiles);
}
