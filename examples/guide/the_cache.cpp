// SPDX-License-Identifier: MIT
// What the_cache.md says, as a program: it opens, steps, forks, rolls back, saves and limits
// sequences, and fails where anything comes out otherwise than the page has it.
#include "guide/tokens.hpp"
#include "heed/heed.hpp"
#include "programs/output.hpp"

#include <array>
#include <iostream>
#include <sstream>

namespace {

using heed::Index;

bool right = true;
void expect(bool holds, const char* what) {
  if (holds) return;
  std::cerr << "it is not so that " << what << '\n';
  right = false;
}

using Cache = heed::KvCache<float, Eigen::bfloat16>;
using Sequence = Cache::Sequence;

void open_and_step() {
  Cache::Pool pool(64, 64, {.page = 32, .bytes = 4 << 20});
  Cache layer({.heads = 8, .key_heads = 2, .dim = 64, .value_dim = 64}, {.budget = 128}, pool);

  Sequence a = layer.open(), b = layer.open();
  guide::Tokens prompt(1, 300);
  layer.step({&a}, prompt.q, prompt.k, prompt.v, heed::standard, prompt.out);
  expect(a.next() == 300 && a.count() == 128, "128 of 300 tokens are held");

  guide::Tokens token(2, 1);
  layer.step({&a, &b}, token.q, token.k, token.v, heed::standard, token.out);
  expect(a.next() == 301 && b.next() == 1, "each sequence has one token more");

  const std::array<std::int64_t, 3> starts{0, 1, 41};  // a brings 1 token, b 40
  guide::PackedTokens rows(41);
  layer.step_packed(std::array{&a, &b}, {starts.data(), {3}}, rows.q, rows.k, rows.v,
                    heed::standard, rows.out);
  expect(a.next() == 302 && b.next() == 41, "each has as many more as it brought");

  for (const auto& held : b.held())
    expect(held.position < 41 && held.f >= 0, "tokens are listed with position and F");
}

void run_out_of_pages() {
  Cache::Pool pool(64, 64, {.page = 32, .pages = 10});
  Cache layer({.heads = 8, .key_heads = 2, .dim = 64, .value_dim = 64}, {.select = {}}, pool);
  Sequence one = layer.open(), other = layer.open();
  guide::Tokens text(1, 96);
  layer.step({&one}, text.q, text.k, text.v, heed::standard, text.out);

  try {
    layer.step({&other}, text.q, text.k, text.v, heed::standard, text.out);
    expect(false, "a pool of 10 pages is too small for two texts of 6");
  } catch (const heed::OutOfPages& out) {
    expect(out.needed == 6 && out.free == 4, "the exception has both numbers");
    one.close();
    layer.step({&other}, text.q, text.k, text.v, heed::standard, text.out);
  }
  expect(pool.pages_held() == 6, "the step could be repeated");
}

void fork_a_sequence() {
  Cache::Pool pool(64, 64, {.page = 32});
  Cache layer({.heads = 8, .key_heads = 2, .dim = 64, .value_dim = 64}, {.budget = 128}, pool);
  Sequence prompt = layer.open();
  guide::Tokens text(1, 300), token(1, 1), answer(1, 200);
  layer.step({&prompt}, text.q, text.k, text.v, heed::standard, text.out);

  Sequence beam = prompt;  // 8 pages, and both have them
  expect(pool.pages_held() == 8 && beam.own_pages() == 0, "a fork costs no page");
  layer.step({&beam}, token.q, token.k, token.v, heed::standard, token.out);
  expect(beam.own_pages() == 2, "the token was written to a copy of one page a key head");
  layer.step({&beam}, answer.q, answer.k, answer.v, heed::standard, answer.out);
  expect(beam.own_pages() == 8, "on a budget the fork soon shares nothing");
}

void roll_back() {
  Cache layer({.heads = 8, .key_heads = 2, .dim = 64, .value_dim = 64}, {.budget = 128});
  Sequence s = layer.open();
  guide::Tokens text(1, 300), draft(1, 5);
  layer.step({&s}, text.q, text.k, text.v, heed::standard, text.out);

  const auto mark = s.mark();
  layer.step({&s}, draft.q, draft.k, draft.v, heed::standard, draft.out);
  s.roll_back(mark);  // the draft was wrong
  expect(s.next() == 300 && s.count() == 128, "five tokens are gone, five evicted ones are back");
}

void save_and_load() {
  Cache layer({.heads = 8, .key_heads = 2, .dim = 64, .value_dim = 64}, {.budget = 128});
  Sequence s = layer.open();
  guide::Tokens text(1, 300), next(1, 1), same = next;
  layer.step({&s}, text.q, text.k, text.v, heed::standard, text.out);

  std::stringstream file;  // or an std::ofstream in binary mode
  heed::save(file, s);
  Sequence again = heed::load(file, layer);
  layer.step({&s}, next.q, next.k, next.v, heed::standard, next.out);
  layer.step({&again}, same.q, same.k, same.v, heed::standard, same.out);
  const Eigen::Tensor<float, 0, Eigen::RowMajor> off = (next.out - same.out).abs().maximum();
  expect(off() < 1e-5F, "the loaded sequence goes on as the saved one");

  std::stringstream damaged(file.str().substr(0, 500));
  try {
    heed::load(damaged, layer);
    expect(false, "a truncated file is refused");
  } catch (const heed::FileError& error) {
    expect(*error.what() != 0, "the reason is given");
  }
}

void budgets_and_pages() {
  Cache::Pool small(64, 64, {.page = 32}), large(64, 64);
  const heed::KvShape shape{.heads = 8, .key_heads = 2, .dim = 64, .value_dim = 64};
  Cache fine(shape, {.budget = 64}, small), coarse(shape, {.budget = 64}, large);
  expect(fine.pages_for(1000) == 2 * 2, "64 tokens are 2 pages of 32, for each of 2 key heads");
  expect(coarse.pages_for(1000) == 2 * 1, "or a page of 128, half of it unused");
  expect(fine.pages_for(1000, 300) == 2 * 4, "a prompt needs room for 64 + 63 tokens meanwhile");

  Cache by_16(shape, {.budget = 64, .chunk = 16}, small);
  expect(by_16.pages_for(1000, 300) == 2 * 3, "or for 64 + 15, 16 rows at a time");

  Cache unlimited(shape, {}, small);
  Sequence s = unlimited.open();
  guide::Tokens text(1, 300);
  unlimited.step({&s}, text.q, text.k, text.v, heed::standard, text.out);
  unlimited.set_budget(s, 64);  // the rule evicts 236 tokens now
  expect(s.count() == 64 && s.pages() == 2 * 2, "the prompt is cut after it was read as a whole");

  Cache apart(shape, {.budget = 64,
                      .evict = heed::heavy_hitters,
                      .heads = heed::KvHeads::apart,
                      .select = std::nullopt});
  Sequence t = apart.open();
  apart.step({&t}, text.q, text.k, text.v, heed::standard, text.out);
  expect(t.count(0) == 64 && t.count(1) == 64, "each key head holds 64 tokens of its own");
}

}  // namespace

int main() {
  open_and_step();
  run_out_of_pages();
  fork_a_sequence();
  roll_back();
  save_and_load();
  budgets_and_pages();
  std::cout << (right ? "all is as the page says\n" : "the page is wrong\n");
  return programs::ended("the_cache", right ? 0 : 1);
}
