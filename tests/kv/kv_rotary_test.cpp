// SPDX-License-Identifier: MIT
// Keys that the cache turns by their positions among the tokens held, beside plain double loops.
// The rules, selection, forks and the like are replayed in kv_replay_test.cpp.

#include "heed/kv/kv_rotary.hpp"

#include "heed/kv/kv_file.hpp"
#include "heed/score/alibi.hpp"
#include "support/caches.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <sstream>
#include <string>
#include <vector>

namespace heed::test::inside {
namespace {

constexpr Index turned = 6;  // of 8 numbers

/// Number d of x at a position, in half_split pairs.
template <class T>
double number(const T* x, Index d, Index position) {
  constexpr Index half = turned / 2;
  if (d >= turned) return double(x[d]);
  const double angle = double(position) * std::pow(10000, -2 * double(d % half) / double(turned)),
               a = double(x[d % half]), b = double(x[d % half + half]);
  return d < half ? a * std::cos(angle) - b * std::sin(angle)
                  : a * std::sin(angle) + b * std::cos(angle);
}

/// Row `row` of head h, which sees the tokens at these rising positions and is behind `before` of
/// them. With slopes, alibi's distances are those inside the cache.
template <class T>
std::vector<double> attended(const Inputs<T>& text, Index h, Index row,
                             const std::vector<Index>& seen, Index before, double slope = 0) {
  const Index dim = text.q.dimension(3), group = text.q.dimension(1) / text.k.dimension(1);
  std::vector<double> weights, out(static_cast<std::size_t>(text.v.dimension(3)));
  double total = 0;
  for (std::size_t n = 0; n < seen.size(); ++n) {
    double s = 0;
    for (Index d = 0; d < dim; ++d)
      s += number(&text.q(0, h, row, 0), d, before) *
           number(&text.k(0, h / group, seen[n], 0), d, Index(n));
    weights.push_back(std::exp(s / std::sqrt(double(dim)) + slope * double(Index(n) - before)));
    total += weights.back();
  }
  for (std::size_t n = 0; n < seen.size(); ++n)
    for (std::size_t d = 0; d < out.size(); ++d)
      out[d] += weights[n] / total * double(text.v(0, h / group, seen[n], Index(d)));
  return out;
}

std::vector<Index> first(Index count) {
  std::vector<Index> all;
  for (Index n = 0; n < count; ++n) all.push_back(n);
  return all;
}
template <class T>
Inputs<T> part(const Inputs<T>& text, Index from, Index to) {
  return {slice(text.q, from, to), slice(text.k, from, to), slice(text.v, from, to)};
}

template <class T>
class InsidePositions : public testing::Test {
 protected:
  static constexpr Index tokens = 70;
  const Inputs<T> text = rows_for<T>(1, tokens, 11);
  const KvRotary rotary{turned};

  KvCache<T> cache(KvOptions o) const {
    o.rotary = rotary;
    return {cache_shape, o, KvPool<T>(8, 8, {.page = small_page<T>})};
  }
  void expect_row(const Tensor<T>& out, Index at, Index h, const std::vector<double>& want) const {
    for (Index d = 0; d < Index(want.size()); ++d)
      ASSERT_NEAR(out(0, h, at, d), want[std::size_t(d)], 8 * tolerance<T>) << at << ' ' << h;
  }
};
TYPED_TEST_SUITE(InsidePositions, Scalars, ScalarName);

/// Each row of a block that no token leaves sees all before it where they are, in few rows and in
/// many.
TYPED_TEST(InsidePositions, AreThoseOfTheTextUntilATokenLeaves) {
  using T = TypeParam;
  for (const Index rows : {1, 2, 5, 33, 70}) {
    KvCache<T> cache = this->cache({.budget = 70, .select = {}});
    KvSequence<T> s = cache.open();
    for (Index from = 0; from + rows <= this->tokens; from += rows) {
      const Tensor<T> out = take(cache, s, part(this->text, from, from + rows));
      for (Index h = 0; h < 4; ++h)
        for (Index r = 0; r < rows; ++r)
          this->expect_row(out, r, h,
                           attended(this->text, h, from + r, first(from + r + 1), from + r));
    }
  }
}

/// Key heads that hold different tokens have positions of their own.
TYPED_TEST(InsidePositions, CountTheTokensThatAHeadHolds) {
  using T = TypeParam;
  for (const KvHeads heads : {KvHeads::together, KvHeads::apart, KvHeads::shared})
    for (const EvictionRule& rule :
         {EvictionRule(oldest), EvictionRule(heavy_hitters), EvictionRule(key_difference)}) {
      KvCache<T> cache = this->cache(
          {.budget = 9, .evict = rule, .heads = heads, .protect = {0, 1}, .select = {}});
      KvSequence<T> s = cache.open();
      for (Index i = 0; i < this->tokens; ++i) {
        const Tensor<T> out = take(cache, s, part(this->text, i, i + 1));
        for (Index h = 0; h < 4; ++h) {
          const std::vector<Index> seen = held_positions(s, h / 2);
          this->expect_row(out, 0, h, attended(this->text, h, i, seen, Index(seen.size()) - 1));
        }
      }
      EXPECT_LE(s.count(), 18);
    }
}

/// A block in which tokens leave gives what token by token gives.
TYPED_TEST(InsidePositions, MoveFromRowToRow) {
  using T = TypeParam;
  for (const EvictWhen when : {EvictWhen::before_row, EvictWhen::after_row}) {
    KvCache<T> cache = this->cache({.budget = 20, .when = when});
    KvSequence<T> whole = cache.open(), single = cache.open(), idle = cache.open();
    take(cache, whole, part(this->text, 0, 15)), take(cache, single, part(this->text, 0, 15));
    // Beside a sequence of another length that no token leaves.
    Tensor<T> got(2, 4, 30, 8);
    Inputs<T> two = rows_for<T>(2, 30, 12);
    const Inputs<T> more = part(this->text, 15, 45);
    two.q.chip(0, 0) = more.q.chip(0, 0), two.k.chip(0, 0) = more.k.chip(0, 0);
    two.v.chip(0, 0) = more.v.chip(0, 0);
    const std::vector<std::int64_t> counts{30, 7};
    const Executor executor;
    KvSequence<T>* const both[] = {&whole, &idle};
    standard_step(cache, both, two, got, {.tokens = {counts.data(), {2}}, .executor = executor});
    for (Index i = 15; i < 45; ++i) {
      const Tensor<T> want = take(cache, single, part(this->text, i, i + 1));
      for (Index h = 0; h < 4; ++h)
        for (Index d = 0; d < 8; ++d)
          ASSERT_NEAR(got(0, h, i - 15, d), want(0, h, 0, d), 8 * tolerance<T>) << i;
    }
    EXPECT_EQ(held_positions(whole), held_positions(single));
    KvSequence<T> alone = cache.open();
    const Tensor<T> want = take(cache, alone, batch_of(two, 1, 7));
    for (Index h = 0; h < 4; ++h)
      for (Index i = 0; i < 30; ++i)
        for (Index d = 0; d < 8; ++d)
          ASSERT_EQ(got(1, h, i, d), i < 7 ? want(0, h, i, d) : T(0)) << i;
  }
}

/// A rule that acts when the step ends weighs the last rows where they were.
TYPED_TEST(InsidePositions, OfTheLastRowsDecideWhatSnapKeeps) {
  using T = TypeParam;
  KvCache<T> cache = this->cache({.budget = 12, .evict = snap(4, 1), .select = {}});
  KvSequence<T> s = cache.open();
  const Index count = 40;
  take(cache, s, part(this->text, 0, count));
  std::vector<std::pair<double, Index>> weight;
  for (Index j = 1; j < count - 4; ++j) weight.push_back({0, j});
  for (Index h = 0; h < 4; ++h)
    for (Index row = count - 4; row < count; ++row) {
      std::vector<double> z;
      double total = 0;
      for (Index j = 0; j <= row; ++j) {
        double dot = 0;
        for (Index d = 0; d < 8; ++d)
          dot += number(&this->text.q(0, h, row, 0), d, row) *
                 number(&this->text.k(0, h / 2, j, 0), d, j);
        z.push_back(std::exp(dot / std::sqrt(8.)));
        total += z.back();
      }
      for (auto& [sum, j] : weight) sum += z[std::size_t(j)] / total;
    }
  std::sort(weight.rbegin(), weight.rend());
  std::vector<Index> want{0, count - 4, count - 3, count - 2, count - 1};
  for (std::size_t n = 0; n < 7; ++n) want.push_back(weight[n].second);
  std::sort(want.begin(), want.end());
  EXPECT_EQ(held_positions(s), want);
  const Tensor<T> out = take(cache, s, part(this->text, count, count + 1));
  want.push_back(count);  // the new row came before the rule
  for (Index h = 0; h < 4; ++h)
    this->expect_row(out, 0, h, attended(this->text, h, count, want, 12));
}

/// Stages see the positions inside, and so do queries that add no tokens.
TYPED_TEST(InsidePositions, AreWhatStagesSee) {
  using T = TypeParam;
  KvCache<T> cache = this->cache({.budget = 9, .evict = oldest, .protect = {0, 1}, .select = {}});
  KvSequence<T> s = cache.open();
  Tensor<T> out(1, 4, 1, 8);
  for (Index i = 0; i < 40; ++i) {
    const Inputs<T> row = part(this->text, i, i + 1);
    cache.step({&s}, row.q, row.k, row.v, standard | alibi(), out);
    for (Index h = 0; h < 4; ++h) {
      const std::vector<Index> seen = held_positions(s);
      this->expect_row(
          out, 0, h,
          attended(this->text, h, i, seen, Index(seen.size()) - 1, std::exp2(-2. * double(h + 1))));
    }
  }
  s.drop(36, 38);  // rows 36 and 37 see what is before them
  Tensor<T> again(1, 4, 6, 8);
  std::vector<KvSequence<T>*> one{&s};
  cache.attend(one, slice(this->text.q, 34, 40), standard | alibi(), again);
  for (Index h = 0; h < 4; ++h)
    for (Index row = 34; row < 40; ++row) {
      std::vector<Index> seen;
      Index before = 0;
      for (const Index j : held_positions(s)) {
        if (j <= row) seen.push_back(j);
        before += j < row;
      }
      this->expect_row(again, row - 34, h,
                       attended(this->text, h, row, seen, before, std::exp2(-2. * double(h + 1))));
    }
}

/// Drafts are as deep inside the cache as in their tree, and go on as what was accepted.
TYPED_TEST(InsidePositions, OfDraftsAreTheirDepths) {
  using T = TypeParam;
  const std::vector<std::int64_t> tree = {-1, 0, 1, 0, 3, -1};
  KvCache<T> cache = this->cache({.select = {}});
  KvSequence<T> before = cache.open();
  take(cache, before, part(this->text, 0, 25));
  before.drop(3, 9);
  KvSequence<T> drafts = before;
  const Tensor<T> got =
      take(cache, drafts, part(this->text, 25, 31), {.parents = {tree.data(), {1, 6}}});
  KvSequence<T> all = drafts;
  for (Index n = 0; n < 6; ++n) {
    std::vector<Index> path, seen = held_positions(before);
    for (Index at = n; at >= 0; at = Index(tree[std::size_t(at)])) path.insert(path.begin(), at);
    for (const Index at : path) seen.push_back(25 + at);
    for (Index h = 0; h < 4; ++h)
      this->expect_row(got, n, h, attended(this->text, h, 25 + n, seen, Index(seen.size()) - 1));
    KvSequence<T> goes_on = drafts;
    goes_on.accept(25, path);
    const Tensor<T> next = take(cache, goes_on, part(this->text, 40, 41));
    seen.push_back(40);
    for (Index h = 0; h < 4; ++h)
      this->expect_row(next, 0, h, attended(this->text, h, 40, seen, Index(seen.size()) - 1));
  }
  // Nothing was accepted: all of them follow one another.
  std::vector<Index> seen = held_positions(all);
  const Tensor<T> next = take(cache, all, part(this->text, 31, 32));
  seen.push_back(31);
  for (Index h = 0; h < 4; ++h)
    this->expect_row(next, 0, h, attended(this->text, h, 31, seen, Index(seen.size()) - 1));
}

TYPED_TEST(InsidePositions, AreInTheFile) {
  using T = TypeParam;
  KvCache<T> cache = this->cache({.budget = 20}), plain(cache_shape, {.budget = 20}, cache.pool()),
             same = this->cache({.budget = 20});
  KvOptions o{.budget = 20};
  o.rotary.emplace(turned, RotaryFrequencies{.base = 500});
  KvCache<T> other(cache_shape, o, cache.pool());
  KvSequence<T> s = cache.open(), p = plain.open();
  take(cache, s, part(this->text, 0, 50)), take(plain, p, part(this->text, 0, 50));
  std::stringstream file;
  save(file, s);
  KvSequence<T> again = load(file, same);
  EXPECT_EQ(held(again), held(s));
  EXPECT_TRUE(close(take(same, again, part(this->text, 50, 70)),
                    take(cache, s, part(this->text, 50, 70)), 8 * tolerance<T>));
  const auto refused = [&](const std::string& bytes, const KvCache<T>& by) {
    std::istringstream from(bytes);
    return message_of<ValueError>([&] { load(from, by); });
  };
  EXPECT_NE(refused(file.str(), plain).find("the buffer turns 6 numbers (pairs 1"),
            std::string::npos);
  EXPECT_NE(refused(file.str(), plain).find("should go to turns 0 ("), std::string::npos);
  EXPECT_NE(refused(file.str(), other).find("should go to turns 6 ("), std::string::npos);
  std::ostringstream unturned;
  save(unturned, p);
  EXPECT_NE(refused(unturned.str(), cache).find("the buffer turns 0 numbers"), std::string::npos);
  // So it is between caches.
  EXPECT_NO_THROW(same.open(s));
  EXPECT_THROW(plain.open(s), ValueError);
  EXPECT_THROW(other.open(s), ValueError);
  EXPECT_THROW(cache.open(p), ValueError);
}

TYPED_TEST(InsidePositions, TakeTheirAnglesFromOneTable) {
  using T = TypeParam;
  const KvRotary copy = this->rotary, equal(turned), other(turned, {}, RotaryPairs::interleaved);
  EXPECT_TRUE(copy == this->rotary && equal == this->rotary && !(other == equal));
  const auto few = copy.template angles<T>(10), same = this->rotary.template angles<T>(7),
             more = copy.template angles<T>(11);
  EXPECT_TRUE(few == same);
  EXPECT_EQ(few->positions(), 10);
  EXPECT_EQ(more->positions(), 20);
  EXPECT_EQ(copy.frequencies().dim(0), turned / 2);
  EXPECT_EQ(message_of<ValueError>([] { KvRotary(5); }),
            "KvRotary: 5 numbers are to turn; they must be even in number, and at least 2");
  EXPECT_THROW(KvRotary(4, {.base = -1}), ValueError);
  KvOptions o;
  o.rotary.emplace(10);
  EXPECT_EQ(message_of<ValueError>([&] { KvCache<T>(cache_shape, o); }),
            "KvBuffer: rotary turns 10 numbers of a key, which has 8");
}

}  // namespace
}  // namespace heed::test::inside
